"""How a box is entered: keys, host keys, security groups, ways through."""
