"""Verbs of boxes: their life, clocks, money, setup, and the embedded cloud."""
