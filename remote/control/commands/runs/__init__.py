"""Verbs of runs: check, deploy, run, and their jobs."""
