"""Logs for whoever is on call: of runs and boxes, live or gone, by the order of time."""
