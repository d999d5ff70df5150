"""The user's files as typed models: inventory, playbooks, recipes. Every fault of a file is found
at once, each with file:line."""
