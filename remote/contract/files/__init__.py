"""Files and JSON that somebody else may have made."""
