"""Boxes over the EC2 API."""
