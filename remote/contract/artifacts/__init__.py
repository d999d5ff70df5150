"""What jobs are given and make."""
