"""What an operation returned, as lines and tables for people: the only place that prints it."""
