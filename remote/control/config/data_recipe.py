"""A data recipe: how rows are made. Recipes compose with `extends:`; `prepare` on the box gets
`plain()` as JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr

from remote.contract.artifacts.row_formats import name_needs_library
from remote.control import project
from remote.control.config import data_files
from remote.control.config.data_files import INPUT, DataFile, NamedFile, RowsFile
from remote.control.config.data_sources import AnySource
from remote.control.config.data_steps import AnyStep
from remote.control.config.yaml import compose, explain
from remote.control.config.yaml.section import Count, Name, Section, Share
from remote.control.config.yaml.source import Keys, Source
from remote.control.errors import ConfigError, Finding

FOLDER = "playbooks/data"

_STANDARD_SOURCES = ("corpus", "code", "kinds")
_STANDARD_STEPS = (
    "normalise",
    "quality",
    "redact",
    "deduplicate",
    "decontaminate",
    "chunk",
    "balance",
    "cap",
)
"""What needs the standard library alone, as long as nothing of `_MORE` is asked of it."""
_MORE = ("near", "tokenizer")


class Split(Section):
    """Which rows validate."""

    validation: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="share of the groups held out for validation; the choice is kept, so that a"
        " growing corpus moves no row across",
    )
    held_out: RowsFile = Field(
        default="",
        description="a file of rows that are the validation set as they stand",
        examples=["data/profiles/held-out.jsonl"],
    )


class Limits(Section):
    """How much work, and how much loss, is taken."""

    workers: Count | None = Field(
        default=None, description="processes at once; left out: one for each CPU"
    )
    unit_seconds: float = Field(
        default=3600, gt=0, description="longest work on one unit, such as a file, in seconds"
    )
    document_seconds: float = Field(
        default=60, gt=0, description="longest work on one document, such as a PDF, in seconds"
    )
    memory_mb: int = Field(default=4096, ge=64, description="memory of a process, in MB")
    max_reject_share: Share = Field(
        default=0.02, description="share of unusable rows above which `prepare` gives up"
    )


class Outputs(Section):
    """Where the files go, beside this laptop."""

    bucket: bool = Field(
        default=False,
        description="also to `datasets/NAME/` in the inventory's bucket, the manifest last",
    )
    hub: str = Field(
        default="",
        pattern=r"^(hf://[\w.-]+/[\w.-]+)?$",
        description="also to this dataset of the Hugging Face hub, as Parquet with a card:"
        " `hf://OWNER/NAME`. `HF_TOKEN` is to be one of `secrets`",
    )
    modules: Literal["", "prefix", "group"] = Field(
        default="",
        description="a train and a val file for each module, too: by the `[MOD=NAME]` of its rows,"
        " or by their group",
    )
    license: str = Field(
        default="", description="its licence on the hub; left out: that of all its sources"
    )
    public: bool = Field(
        default=False, description="whether all may read a dataset that the hub does not have yet"
    )


class TrainingToCome(Section):
    """What is known of the training, for the report: what is not said is the golden recipe's."""

    tokenizer: DataFile = Field(
        default="",
        description="the model's folder on the box, for true counts of tokens",
        examples=["box:shared/models/mistralai/Mistral-7B-v0.3"],
    )
    max_length: int = Field(default=1024, ge=16, description="tokens of a row")
    batch: Count = Field(default=4, description="rows in a micro-batch")
    accumulation: Count = Field(default=1, description="micro-batches in a step")
    epochs: float = Field(default=1, gt=0, description="passes over the rows")
    max_steps: Count | None = Field(default=None, description="stop after so many steps")
    overlong: Literal["truncate", "drop"] = Field(
        default="truncate", description="what happens to a row with more tokens"
    )
    tokens_per_second: float | None = Field(default=None, gt=0, description="speed of the box")
    hourly_usd: float | None = Field(default=None, ge=0, description="price of the box")


class DataRecipe(Section):
    """A whole data recipe, composed."""

    name: Name = Field(
        description="what the dataset is called; the folder that keeps its work on the box",
        examples=["mistral-verbosity"],
    )
    sources: list[AnySource] = Field(
        min_length=1, description="where rows come from, each with its `type`"
    )
    steps: list[AnyStep] = Field(
        default=[], description="what is done with the rows, in order, each with its `type`"
    )
    split: Split = Field(default=Split(), description="which rows validate")
    limits: Limits = Field(default=Limits(), description="how much work and loss is taken")
    outputs: Outputs = Field(default=Outputs(), description="where the files go")
    training: TrainingToCome = Field(
        default=TrainingToCome(), description="the training to come, for the report"
    )
    seed: int = Field(default=42, ge=0, description="seed of all that is drawn")
    secrets: list[Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")]] = Field(
        default=[],
        description="variables of your environment that its job gets, such as PGPASSWORD",
        examples=["PGPASSWORD"],
    )

    _source: Source = PrivateAttr(default_factory=lambda: Source(Path("recipe")))

    def where(self, *keys: str | int) -> str:
        """`file:line` of a value, in whichever of the composed files holds it."""
        return self._source.where(*keys)

    @property
    def path(self) -> Path:
        """The file that was loaded."""
        return self._source.path

    @property
    def secret_names(self) -> list[str]:
        """The variables that its job gets: those of `secrets`, and those that its sources and steps
        name."""
        return list(dict.fromkeys((*self.secrets, *(name for _, name in self._fields))))

    @property
    def _fields(self) -> list[tuple[Keys, str]]:
        return list(data_files.secrets_of(self))

    def where_secret(self, name: str) -> str:
        """`file:line` of the variable."""
        if name in self.secrets:
            return self.where("secrets", self.secrets.index(name))
        return self.where(*next(keys for keys, named in self._fields if named == name))

    @property
    def files(self) -> list[NamedFile]:
        """The files of the laptop that it names."""
        return list(data_files.files_of(self))

    def plain(self) -> dict[str, Any]:
        """The recipe as JSON values, as the box reads it: a file of the laptop stands there as
        `input:NAME`."""
        told = self.model_dump(mode="json", exclude_none=True)
        told["training"] = self.training.model_dump(mode="json", exclude_unset=True)
        for key in ("sources", "steps"):  # what is not said is for the box to know
            told[key] = [
                each.model_dump(mode="json", exclude_unset=True) for each in getattr(self, key)
            ]
        told["secrets"] = self.secret_names
        for file in self.files:
            data_files.put(told, file.keys, f"{INPUT}{file.name}")
        for file in data_files.on_box(self):
            data_files.put(told, file.keys, file.value)
        return told

    def missing(self) -> list[Finding]:
        """A finding for each file that is named and not there."""
        return [
            Finding(
                self.where(*file.keys),
                f"`{file.keys[-1]}: {file.value}`: there is no such file",
                "a file or folder of the project, `box:/path`, or `s3://bucket/prefix/`",
                "put it there, or correct the path",
            )
            for file in self.files
            if not project.is_there(file.path)
        ]


def load_data_recipe(path: str | Path) -> DataRecipe:
    """Load and compose a data recipe, by path or by its bare name (`golden` is
    playbooks/data/golden.yaml).

    Raises ConfigError with every finding in it and in the recipes it extends.
    """
    read = compose.compose(project.named_file(path, FOLDER), FOLDER)
    findings = list(read.findings)
    recipe = explain.validate(DataRecipe, read, findings)
    if recipe is not None:
        recipe._source = read
        findings += recipe.missing()
    if findings or recipe is None:
        raise ConfigError(explain.in_order(findings))
    return recipe


def needs_libraries(plain: Mapping[str, Any]) -> bool:
    """Whether a recipe (as `plain` gives it) needs the libraries of the box's Python environment,
    whatever its files are."""
    sources, steps = plain.get("sources") or (), plain.get("steps") or ()
    return (
        any(source.get("type") not in _STANDARD_SOURCES for source in sources)
        or any(step.get("type") not in _STANDARD_STEPS for step in steps)
        or any(each.get(name) for each in (*steps, plain.get("training") or {}) for name in _MORE)
        or any(_may_hold_more(str(source.get("path", ""))) for source in sources)
        or any(needs_libraries({"steps": source.get("steps")}) for source in sources)
        or bool((plain.get("outputs") or {}).get("hub"))
    )


def _may_hold_more(path: str) -> bool:
    """Whether a path that is no input of the job may hold files that need a library: one in S3 does
    itself, and a folder of the box may."""
    is_elsewhere = not path.startswith(INPUT)
    return is_elsewhere and (
        path.startswith("s3://") or not Path(path).suffix or name_needs_library(path)
    )
