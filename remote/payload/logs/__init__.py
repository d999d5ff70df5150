"""A job's log on the box: written, followed, and asked."""
