"""What the evaluate stage stands on."""
