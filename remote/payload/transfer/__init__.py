"""What comes to the box and leaves it."""
