"""Every check before training, in one round trip. Standard library only, but for `probe.py`, which
runs in the box's environment."""
