"""Verbs that look: logs, top, why."""
