"""Data: rows made, converted, looked at and examined."""
