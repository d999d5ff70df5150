"""What both sides agree on. Runs on the laptop and on the box: standard library only, Python 3.10
or newer."""
