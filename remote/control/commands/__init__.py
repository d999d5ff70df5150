"""The command tree. A verb reads as prose, calls what owns the logic, and prints. Imports stay
inside functions: `inv --list` is quick."""
