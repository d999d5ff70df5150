"""Releases on their way to a box."""
