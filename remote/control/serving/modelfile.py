"""The Modelfile: rendered once from templates/Modelfile.j2, kept beside the GGUF, and the source of
what the API is told."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.contract.files import atomic
from remote.control import text
from remote.control.serving.gguf import Gguf

JINJA_SINCE = (0, 30, 0)
"""From this Ollama on the GGUF's own chat template is used; before, a TEMPLATE must say the same in
Go's language."""

_MARKS = re.compile(r'(\{\{|""")')
_QUOTED = {"{{": '{{ "{{" }}', '"""': r'{{ "\"\"\"" }}'}

MAX_CONTEXT = 4096
"""Positions to reserve memory for, where the model was trained for more."""


@dataclass(frozen=True)
class Modelfile:
    """What Ollama is told about a model: parameters, and a template for servers that need one."""

    parameters: dict[str, Any]
    template: str

    def write(self, folder: Path, name: str, gguf: Path) -> Path:
        """Leave the rendered file as `<folder>/Modelfile`."""
        listed = [
            (key, item)
            for key, value in self.parameters.items()
            for item in (value if isinstance(value, list) else [value])
        ]
        source = os.path.relpath(gguf, folder) if gguf.is_relative_to(folder.parent) else str(gguf)
        path = folder / "Modelfile"
        atomic.write_text(
            path,
            text.render(
                "Modelfile.j2", name=name, gguf=source, parameters=listed, template=self.template
            ),
        )
        return path

    def request(self) -> dict[str, Any]:
        """The same for POST /api/create."""
        return {
            "parameters": self.parameters,
            **({"template": self.template} if self.template else {}),
        }


def modelfile_for(gguf: Gguf, prompt: Mapping[str, Any], server: tuple[int, ...]) -> Modelfile:
    """The Modelfile for a model: greedy, bounded context, its end-of-sequence text as a stop.

    `prompt` is one entry of parity.json's `prompts`; an old `server` gets a TEMPLATE that renders
    just that.
    """
    context = min(gguf.context_length or MAX_CONTEXT, MAX_CONTEXT)
    stop = {"stop": [gguf.special("eos")]} if gguf.special("eos") else {}
    template = "" if server >= JINJA_SINCE else _go_template(gguf, prompt)
    return Modelfile({**stop, "temperature": 0, "num_ctx": context}, template)


def _go_template(gguf: Gguf, prompt: Mapping[str, Any]) -> str:
    """The rendered prompt with the user's words taken out: `[INST] {{ .Prompt }}[/INST]`."""
    said = str(prompt["messages"][-1]["content"])
    before, _, after = map(
        _literal, str(prompt["rendered"]).removeprefix(gguf.special("bos")).rpartition(said)
    )
    end = _literal(gguf.special("eos"))
    return (
        f"{before}{{{{ if .System }}}}{{{{ .System }}}}\n\n{{{{ end }}}}{{{{ .Prompt"
        f" }}}}{after}{{{{ .Response }}}}{end}"
    )


def _literal(text: str) -> str:
    """A text of the GGUF or of parity.json as a template has it: never an action, and never the end
    of TEMPLATE in a Modelfile."""
    return "".join(_QUOTED.get(part, part) for part in _MARKS.split(text))
