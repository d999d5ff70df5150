"""Python source as facts: what a module defines, imports, uses, and asks of language models. Read
by `ast`, never run. Standard library only."""
