"""The instances of the embedded cloud."""
