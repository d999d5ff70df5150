"""What the box has to do, what happened on it, and why a job ended."""
