"""Artifacts on their way here."""
