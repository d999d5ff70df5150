"""The sources of a data recipe by their `type`, each with its fields: what
`remote/payload/data/sources/TYPE.py` reads."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from remote.control.config.data_files import DataFile, RowsFile, SecretName
from remote.control.config.data_steps import AnyStep
from remote.control.config.yaml.section import Count, Plain, Section

Kind = Literal["chat", "instruction", "completion", "text", "corpus"]
_WHERE = "of the laptop, on the box (`box:/path`), or `s3://bucket/prefix/`"
_COLUMNS = "our names for columns: `instruction: question`"


class _Store(Section):
    """What may be reached in S3."""

    region: str = Field(default="", description="the region of the bucket, where it is in S3")
    endpoint: str = Field(default="", description="the address of another store that speaks S3")


class CorpusSource(_Store):
    """A file of rows, or a folder of them: JSON Lines, JSON, CSV, Excel, Parquet, Arrow, text,
    Markdown, packed or not."""

    type: Literal["corpus"] = Field(default="corpus", description="files of rows")
    path: RowsFile = Field(
        description=f"a file or folder, {_WHERE}", examples=["data/profiles/train.jsonl"]
    )
    local: DataFile = Field(
        default="", description="a copy of what lies in S3, whole or in part, of laptop or box"
    )
    prefer: Literal["both", "local", "s3"] = Field(
        default="both", description="`both`: S3 is asked only for what the copy lacks"
    )
    kind: Kind | None = Field(default=None, description="what the rows are; left out: found out")
    columns: dict[str, str] = Field(default={}, description=_COLUMNS)


class ArchivesSource(_Store):
    """PDFs, in ZIPs and tarballs or not, as documents. Nothing is unpacked."""

    type: Literal["archives"] = Field(default="archives", description="PDFs")
    path: DataFile = Field(
        description=f"an archive, a PDF, or a folder of them, {_WHERE}",
        examples=["s3://my-bucket/operatives/"],
    )
    max_pdfs: Count | None = Field(default=None, description="at most so many PDFs are read")
    ocr: bool = Field(default=False, description="read scanned pages by Tesseract")
    languages: str = Field(
        default="eng",
        pattern=r"^[A-Za-z0-9_]+(\+[A-Za-z0-9_]+)*$",
        description="what they are written in, as Tesseract has it: `fra+eng`",
    )


class Pages(Section):
    """Ranges of a query, each a unit of its own."""

    by: str = Field(description="the column whose values part them", examples=["id"])
    rows: Count = Field(default=5000, description="about so many rows a range")


class DatabaseSource(Section):
    """The rows of a query: PostgreSQL, SQLite, DuckDB, or tables in Parquet."""

    type: Literal["database"] = Field(default="database", description="rows of a query")
    secret: SecretName = Field(
        default="",
        description="the variable of your environment with PostgreSQL's connection string",
        examples=["SCORES_URL"],
    )
    path: DataFile = Field(
        default="", description="instead of `secret`: a SQLite or DuckDB file, or Parquet"
    )
    query: str = Field(
        description="one SELECT, whose ORDER BY tells every two rows apart",
        examples=["SELECT id, question, answer FROM faq ORDER BY id"],
    )
    parameters: dict[str, Plain | list[str | int | float]] = Field(
        default={}, description="values that the query writes `:name`, a template `parameters.name`"
    )
    columns: dict[str, str] = Field(default={}, description=_COLUMNS)
    template: dict[str, str] = Field(
        default={}, description="texts of Jinja2 over the columns: `instruction: ...`"
    )
    kind: Kind | None = Field(default=None, description="what the rows are; left out: found out")
    pages: Pages | None = Field(
        default=None, description="read in ranges; left out: the query is one unit"
    )
    balance: str = Field(
        default="", description="keep as many rows of each value of this column as the scarcest has"
    )
    statement_seconds: float = Field(default=600, gt=0, description="longest statement, in seconds")
    tries: Count = Field(default=4, description="how often a connection that breaks is tried")
    name: str = Field(default="", description="what it is called where its rows are told of")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if bool(self.secret) == bool(self.path):
            raise ValueError("either `secret`, or `path`")
        return self


class CodeSource(Section):
    """Questions and answers about a code base in Python, which is read and never run."""

    type: Literal["code"] = Field(default="code", description="a code base")
    path: DataFile = Field(
        description="a folder, of the laptop or on the box (`box:/path`)",
        examples=["../my-package"],
    )
    kinds: list[Literal["calls", "interactions"]] = Field(
        default=["calls", "interactions"],
        description="calls of language models; who imports and calls whom",
    )
    modules: list[str] = Field(default=[], description="patterns such as `app.*`; left out: all")


class KindsSource(Section):
    """Records of several kinds (instruction, reasoning, conversation, retrieval), under a licence
    and within a quota."""

    type: Literal["kinds"] = Field(default="kinds", description="records of several kinds")
    path: DataFile = Field(
        description="a file or folder, of the laptop or on the box (`box:/path`)",
        examples=["data/french"],
    )
    name: str = Field(default="", description="the `source` of its rows; left out: the file's name")
    kind: Literal["instruction", "reasoning", "conversation", "retrieval"] | None = Field(
        default=None, description="what its records are; left out: found out"
    )
    columns: dict[str, str] = Field(default={}, description=_COLUMNS)
    license: str = Field(
        default="", description="its licence; left out: what the README.md beside it says"
    )
    licenses: list[str] = Field(default=[], description="those allowed; left out: open ones")
    languages: list[str] = Field(
        default=[], description="a record that says it is in another one is left out"
    )
    steps: list[AnyStep] = Field(
        default=[], description="steps of single rows, taken before the quota counts"
    )
    quota: Count | None = Field(default=None, description="at most so many rows")
    paths: Literal["best", "all"] = Field(
        default="best", description="which ways through a tree of messages"
    )
    prompt: str = Field(default="", description="words before the question of a retrieval record")
    keep_prefix: bool = Field(default=False, description="leave `[MOD=name]` where it stands")


class HubSource(Section):
    """A dataset of the Hugging Face hub, at one commit. `HF_TOKEN` and `HF_ENDPOINT` are honoured
    where `secrets` name them."""

    type: Literal["hub"] = Field(default="hub", description="a dataset of the hub")
    path: str = Field(
        pattern=r"^hf://[^@\s]+@[0-9a-f]{40}$",
        description="`hf://NAME@REVISION`, the revision a commit's 40 digits",
        examples=["hf://OpenAssistant/oasst1@fdf72ae0827c1cda404aff25b6603abec9e3399b"],
    )
    config: str = Field(default="", description="its configuration; left out: the only one")
    split: str = Field(default="", description="its split; left out: `train`")
    files: list[str] = Field(default=[], description="patterns instead: `data/*.parquet`")
    kind: Kind | None = Field(default=None, description="what the rows are; left out: found out")
    columns: dict[str, str] = Field(default={}, description=_COLUMNS)
    license: str = Field(default="", description="its licence; left out: what its card says")
    licenses: list[str] = Field(default=[], description="those allowed; left out: open ones")


SOURCES: tuple[type[Section], ...] = (
    CorpusSource,
    ArchivesSource,
    DatabaseSource,
    CodeSource,
    KindsSource,
    HubSource,
)
AnySource = Annotated[
    CorpusSource | ArchivesSource | DatabaseSource | CodeSource | KindsSource | HubSource,
    Field(discriminator="type"),
]
