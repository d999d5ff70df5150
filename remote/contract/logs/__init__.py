"""The log of a job, and what is asked of it."""
