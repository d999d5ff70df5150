"""Questions with evidence, out of documents: drawn from the text, or by a teacher."""
