"""Rows out of whatever knowledge lies in: sources, steps, split, outputs. Standard library only,
but where a module says otherwise."""
