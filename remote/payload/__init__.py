"""Runs on the box, out of a release. Never imports `remote.control`."""
