"""Files and objects as rows: formats, lines, and the store they may lie in."""
