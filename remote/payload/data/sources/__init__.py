"""Where rows come from: a module a `type` of the recipe, with `open_source(entry, context)`."""
