"""What boxes cost."""
