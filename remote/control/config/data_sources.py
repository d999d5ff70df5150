"""The sources of a data recipe by their `type`, each with its fields: what
`remote/payload/data/sources/TYPE.py` reads."""

from typing import Annotated, Literal

from pydantic import Field

from remote.control.config.data_files import RowsFile
from remote.control.config.yaml.section import Section

Kind = Literal["", "chat", "instruction", "completion", "text", "corpus"]


class CorpusSource(Section):
    """A file of rows, or a folder of them, in any format that is read."""

    type: Literal["corpus"] = Field(default="corpus", description="what the source is")
    path: RowsFile = Field(
        description="a file or folder: of the laptop, or on the box (`box:/path`)",
        examples=["data/profiles/train.jsonl"],
    )
    kind: Kind = Field(default="", description="what the rows are; left out: found out")
    columns: dict[str, str] = Field(
        default={}, description="our names for columns: `instruction: question`"
    )


AnySource = Annotated[CorpusSource, Field(description="a source")]
SOURCES: tuple[type[Section], ...] = (CorpusSource,)
