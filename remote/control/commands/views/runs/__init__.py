"""Runs and their jobs."""
