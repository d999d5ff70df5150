"""The command line: how words are understood, and what answers them."""
