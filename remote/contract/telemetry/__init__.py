"""What a box tells of itself."""
