"""Logs, load and keys on the terminal."""
