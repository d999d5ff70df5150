"""Models in Ollama: install one, ask it, take it back."""

from typing import TYPE_CHECKING, Any

from invoke import Collection

from remote.control.commands.program.verb import verb

if TYPE_CHECKING:
    from remote.control.config.inventory import Inventory
    from remote.control.serving.ollama import Ollama


@verb(
    positional=["run"],
    help={
        "run": "run id, or its beginning or end; the newest when left out",
        "gguf": "install this file, without a run",
        "parity": "with --gguf: the parity.json that `export` made beside it",
        "name": (
            "the model's name in Ollama; else the one in the run's playbook, `windlass`, or the"
            " file's"
        ),
        "dry-run": "say what would be installed where, and stop",
        "json": "print what was installed as JSON",
    },
)
def install(
    context: Any,
    run: str = "",
    gguf: str = "",
    parity: str = "",
    name: str = "",
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Install a run's GGUF in Ollama and try it.

    It is asked the prompts that it was tested with. Without an Ollama, the embedded one is
    used.
    """
    if bool(gguf) != bool(parity):
        _usage("--gguf and --parity belong together")
    if gguf:
        _install_files(gguf, parity, name, dry_run, json)
    else:
        _install_run(run, name, dry_run, json)


@verb(help={"json": "print as JSON"})
def list_models(context: Any, json: bool = False) -> None:
    """List the models in Ollama."""
    from remote.control.commands.views import model as view
    from remote.control.output.console import print_json, print_table

    client = _client()
    models = client.tags()
    if json:
        print_json({"url": client.url, "models": models})
        return
    print_table(f"models in {client.url}", view.MODELS, view.models(models))


@verb(
    positional=["name", "text"],
    help={
        "name": "the model's name",
        "text": "what to ask",
        "system": "a system message before it",
        "max-tokens": "where to cut the answer",
        "json": "print the whole reply as JSON, not streamed",
    },
)
def ask(
    context: Any, name: str, text: str, system: str = "", max_tokens: int = 512, json: bool = False
) -> None:
    """Ask a model; its tokens appear as they come."""
    from remote.control.output.console import print_json, say, write

    messages = [
        *([{"role": "system", "content": system}] if system else []),
        {"role": "user", "content": text},
    ]
    client, options = _client(), {"num_predict": max_tokens}
    if json:
        print_json(client.chat(name, messages, options=options))
        return
    done_reason = None
    for piece in client.stream_chat(name, messages, options=options):
        write(piece["message"]["content"])
        done_reason = piece.get("done_reason")
    write("\n")
    if done_reason == "length":
        say(f"cut off after {max_tokens} tokens; --max-tokens allows more", "dim")


@verb(help={"json": "print as JSON"})
def up(context: Any, json: bool = False) -> None:
    """Start the embedded Ollama."""
    from remote.control.output.console import print_json, say, tell
    from remote.control.serving import embedded as client

    origins = _inventory().ollama.origins
    url = client.endpoint(origins=origins)
    if json:
        print_json({"url": url})
        return
    tell(f"the embedded Ollama answers at {url}")
    if (client.daemon().running() or {}).get("origins", origins) != origins:
        say(
            "it was started with other `ollama.origins`: `./inv model.down`, then `./inv model.up`",
            "yellow",
        )


@verb
def down(context: Any) -> None:
    """Stop the embedded Ollama; its models stay on disk."""
    from remote.control.output.console import tell
    from remote.control.serving.embedded import daemon

    tell(
        "the embedded Ollama has ended"
        if daemon().stop()
        else "the embedded Ollama was not running"
    )


@verb(help={"json": "print as JSON"})
def status(context: Any, json: bool = False) -> None:
    """Show which Ollama is used, its version, and the models in memory."""
    from remote.control.commands.views import model as view
    from remote.control.output.console import print_json, print_table, tell
    from remote.control.serving.find import describe

    facts = describe(_inventory())
    if json:
        print_json(facts)
        return
    tell(view.server(facts))
    if facts["loaded"]:
        print_table("in memory", view.LOADED, view.loaded(facts))


@verb(
    positional=["name"],
    help={
        "name": "the model's name",
        "dry-run": "say what would change, and stop",
        "json": "print as JSON",
    },
)
def rollback(context: Any, name: str, dry_run: bool = False, json: bool = False) -> None:
    """Give a model's name back to its previous version."""
    from remote.control.output.console import print_json, tell
    from remote.control.serving import names
    from remote.control.serving.rollback import rollback as roll_back

    if dry_run:
        if json:
            print_json({"model": names.full(name), "would_be": names.sibling(name, "previous")})
        tell(f"would make {names.full(name)} stand for {names.sibling(name, 'previous')}")
        return
    facts = roll_back(_client(), name)
    if json:
        print_json(facts)
        return
    tell(f"{facts['model']} stands for its earlier version{'' if facts['changed'] else ' already'}")


@verb(
    positional=["name"], help={"name": "the model's name", "dry-run": "say what would go, and stop"}
)
def remove(context: Any, name: str, dry_run: bool = False) -> None:
    """Delete a model from Ollama; its GGUF in the run's folder stays."""
    from remote.control.output.console import tell
    from remote.control.serving import names

    client = _client()
    if dry_run:
        client.show(names.full(name))
        tell(f"would remove {names.full(name)} from {client.url}")
        return
    client.delete(names.full(name))
    tell(f"removed {names.full(name)} from {client.url}")


collection = Collection(ask, up, down, status, rollback, remove)
collection.add_task(list_models, name="list")


def _install_run(run: str, name: str, dry_run: bool, as_json: bool) -> None:
    from remote.control.commands.program.asking import choose_run
    from remote.control.commands.runs.run import drive_and_show
    from remote.control.output.console import print_json, tell
    from remote.control.runs.single import extend, model_name, plan_install
    from remote.control.targets import run_of

    ledger = run_of(run, "install", lambda state: state.has_done("export"), choose=choose_run)
    model = name or model_name(ledger)
    if dry_run:
        if as_json:
            print_json({"run": ledger.run_id, "would_be": model})
        tell(f"would install the GGUF of {ledger.run_id} as {model}")
        return
    extend(ledger, plan_install(ledger, model), "install")
    drive_and_show(ledger, _inventory(), as_json, purpose="install")


def _install_files(gguf: str, parity: str, name: str, dry_run: bool, as_json: bool) -> None:
    from remote.control import project
    from remote.control.commands.views import model as view
    from remote.control.output.console import print_json, say, tell
    from remote.control.serving.install import install as install_model

    file, proof = (project.find_file(project.typed(each)) for each in (gguf, parity))
    model = name or file.stem
    if dry_run:
        if as_json:
            print_json({"gguf": str(file), "would_be": model})
        tell(f"would install {file} as {model}")
        return
    facts = install_model(_client(), file, proof, model, file.parent, say)
    if as_json:
        print_json(facts)
        return
    for line in view.installed(facts, file):
        tell(line)


def _client() -> "Ollama":
    from remote.control.serving.find import find_ollama

    return find_ollama(_inventory())


def _inventory() -> "Inventory":
    from remote.control.config.inventory import load_inventory

    return load_inventory()


def _usage(words: str) -> None:
    from invoke import Exit as Leave

    from remote.contract.job.exits import Exit

    raise Leave(words, code=int(Exit.USAGE))
