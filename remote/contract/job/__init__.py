"""What a job is, on both sides."""
