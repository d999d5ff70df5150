"""Boxes, their clocks, setups and launches."""
