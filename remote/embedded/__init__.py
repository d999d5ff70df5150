"""Stand-ins on this machine for what costs money."""
