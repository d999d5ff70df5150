"""What is done with rows: a module a `type` of the recipe, with `make_step(entry, context)`. One
that looks at all rows says `WHOLE = True`."""
