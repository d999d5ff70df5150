"""Runs on the laptop. Never imports torch, never travels to a box."""
