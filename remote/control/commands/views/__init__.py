"""How what a command found is shown: values become lines, tables and screens of a terminal."""
