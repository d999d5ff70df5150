"""YAML files as models, and their errors."""
