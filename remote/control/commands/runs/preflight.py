"""`inv preflight`: refuses to waste money."""

from typing import Any

from remote.control.commands.program.verb import verb


@verb(
    positional=["run"],
    help={
        "run": "check what this run's training needs (run id, or its beginning or end)",
        "box": "box of the inventory; else the default",
        "recipe": "how to train: a file, or a name such as `mistral-7b-golden`",
        "base": "the base model on the box, by name or `box:~/path`; else the recipe's",
        "data": "training rows: a JSONL file of the project, or `box:/path`",
        "json": "print the report as JSON",
    },
)
def preflight(
    context: Any,
    run: str = "",
    box: str = "",
    recipe: str = "",
    base: str = "",
    data: str = "",
    json: bool = False,
) -> None:
    """Check box, environment, model, data and recipe before training."""
    from remote.control import project
    from remote.control.commands.views.progress import say
    from remote.control.commands.views.runs import preflight as views
    from remote.control.config.inventory import load_inventory
    from remote.control.output.console import bytes_progress, print_json
    from remote.control.runs import preflight as checks

    inventory = load_inventory()
    if run or not recipe:
        from remote.control.commands.program.asking import choose_run
        from remote.control.runs.state import state_of
        from remote.control.targets import run_of

        state = state_of(run_of(run, "preflight", choose=choose_run))
        entry, (plain, inputs) = inventory.box(box or state.box), checks.inputs_of_run(state)
        say(f"run {state.run_id} on box {entry.name}")
    else:
        from remote.control.config.recipe import load_recipe

        entry, plain = inventory.box(box or None), load_recipe(project.typed(recipe)).plain()
        inputs = checks.inputs_of_words(plain, base, project.typed(data))
    report, where = checks.preflight_box(entry, inventory, plain, inputs, say, bytes_progress)
    views.show(report)
    checks.require(report, where, "fix what the table names, then run `./inv preflight` again")
    if json:
        print_json(report.to_json())
