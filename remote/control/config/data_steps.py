"""The steps of a data recipe by their `type`, each with its fields: what
`remote/payload/data/steps/TYPE.py` does."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from remote.control.config.data_files import NAMES_A_FILE, DataFile, RowsFile
from remote.control.config.data_raft import RaftStep
from remote.control.config.yaml.section import Count, Section, Share

RULES = (
    "max_alpha_words",
    "max_bullet_lines",
    "max_characters",
    "max_digit_share",
    "max_ellipsis_lines",
    "max_ellipsis_share",
    "max_hash_share",
    "max_line_breaks",
    "max_punctuated_lines",
    "max_repeated_10_words",
    "max_repeated_5_words",
    "max_repeated_6_words",
    "max_repeated_7_words",
    "max_repeated_8_words",
    "max_repeated_9_words",
    "max_repeated_line_characters",
    "max_repeated_lines",
    "max_repeated_paragraph_characters",
    "max_repeated_paragraphs",
    "max_short_lines",
    "max_stop_word_share",
    "max_stop_words",
    "max_symbol_share",
    "max_top_2_words",
    "max_top_3_words",
    "max_top_4_words",
    "max_word_length",
    "max_words",
    "min_alpha_words",
    "min_characters",
    "min_punctuated_lines",
    "min_stop_word_share",
    "min_stop_words",
    "min_word_length",
    "min_words",
)
"""The rules of `quality`, as `remote/payload/data/steps/quality.py` has them: a test keeps the two
alike."""

_OF = "what counts: all of a row's text, what is asked, or the answer"


class NormaliseStep(Section):
    """Makes text uniform."""

    type: Literal["normalise"] = Field(default="normalise", description="uniform text")
    form: Literal["NFC", "NFKC", "none"] = Field(default="NFC", description="form of Unicode")
    hyphens: bool = Field(default=True, description="join words hyphenated at the ends of lines")
    spaces: Literal["tidy", "collapse", "none"] = Field(
        default="tidy", description="white space; `collapse` spoils code and tables"
    )
    join_lines: bool = Field(
        default=False, description="one line of each paragraph, for text out of PDFs"
    )


class QualityStep(Section):
    """Sets aside what is no text to learn from, by published rules, or by rules with limits of
    one's own: `min_words: 20`; null turns one off."""

    model_config = ConfigDict(extra="allow")

    type: Literal["quality"] = Field(default="quality", description="rules of quality")
    like: (
        Literal["gopher", "repetition", "fineweb"]
        | list[Literal["gopher", "repetition", "fineweb"]]
    ) = Field(default=[], description="a published set of rules, or several")
    of: Literal["all", "answer"] = Field(default="all", description="all text, or the answer")
    language: str = Field(default="", description="whose stop words count; left out: English")

    @model_validator(mode="after")
    def _has_rules(self) -> Self:
        for name, limit in (self.model_extra or {}).items():
            if name not in RULES:
                raise ValueError(f"rules ({', '.join(RULES)}), and no `{name}`")
            if isinstance(limit, bool) or not (limit is None or isinstance(limit, int | float)):
                raise ValueError(f"a number for `{name}`, or null")
        return self


class LanguageStep(Section):
    """Keeps rows of some languages."""

    type: Literal["language"] = Field(default="language", description="languages")
    keep: list[str] = Field(min_length=1, description="codes: `[fr, en]`", examples=["[fr]"])
    among: list[str] = Field(default=[], description="what may occur at all; left out: 139")
    min_confidence: Share = Field(default=0, description="less sure ones go")
    min_characters: Count = Field(default=20, description="shorter text cannot be told")
    short: Literal["keep", "drop"] = Field(default="keep", description="what becomes of such")
    of: Literal["all", "answer"] = Field(default="all", description="all text, or the answer")


class DeduplicateStep(Section):
    """Removes rows that say the same as one before, or nearly the same."""

    type: Literal["deduplicate"] = Field(default="deduplicate", description="no row twice")
    near: float | None = Field(
        default=None,
        ge=0.3,
        le=1,
        description="what shares so much with an earlier row goes too; left out: exact ones only",
    )
    shingle: Count = Field(default=3, description="words that are compared as one")
    of: Literal["all", "asked", "answer"] = Field(default="all", description=_OF)
    drop: bool = Field(default=True, description="false: near ones stay, on one side of the split")


class RedactStep(Section):
    """Puts placeholders where a text has addresses, numbers, secrets, or names of a list."""

    type: Literal["redact"] = Field(default="redact", description="placeholders")
    kinds: list[Literal["secret", "email", "card", "ip", "phone", "name"]] = Field(
        default=[], description="what is looked for; left out: all, `name` where `names` has some"
    )
    names: Annotated[str | list[str], NAMES_A_FILE] = Field(
        default=[], description="a file, one name a line, or a list"
    )
    placeholders: dict[str, str] = Field(
        default={}, description="what is put: `email: someone@example.org`; left out: `[EMAIL]`"
    )


class BalanceStep(Section):
    """Keeps classes of rows in proportion: by `quotas`, `shares` or `ratio`."""

    type: Literal["balance"] = Field(default="balance", description="classes in proportion")
    by: Literal["source", "group", "asked", "answer"] = Field(
        default="source", description="what names a row's class"
    )
    pattern: str = Field(
        default="", description="a regular expression: its first group in that is the class"
    )
    bins: list[float | int] = Field(
        default=[], description="where classes are numbers: `[0.4, 0.7]` makes three"
    )
    quotas: dict[str, int] = Field(default={}, description="most rows of a class")
    shares: dict[str, float | int] = Field(default={}, description="share of each class")
    ratio: float | None = Field(
        default=None, ge=1, description="each class at most so many times the smallest"
    )


class CapStep(Section):
    """Keeps at most so many rows."""

    type: Literal["cap"] = Field(default="cap", description="at most so many rows")
    total: Count | None = Field(default=None, description="in all")
    per_source: Count | None = Field(default=None, description="of a source")
    per_group: Count | None = Field(default=None, description="of a group")


class ChunkStep(Section):
    """Cuts documents into pieces that a model can take; conversations stay whole."""

    type: Literal["chunk"] = Field(default="chunk", description="pieces of documents")
    tokenizer: DataFile = Field(
        default="",
        description="the model's folder on the box; left out: `characters` count",
        examples=["box:shared/models/mistralai/Mistral-7B-v0.3"],
    )
    tokens: Count | None = Field(default=None, description="longest piece; left out: 1024")
    characters: Count | None = Field(default=None, description="the same; left out: 4000")
    overlap: int = Field(default=0, ge=0, description="how much of a piece comes again in the next")


class DecontaminateStep(Section):
    """Keeps out what a model will be judged by."""

    type: Literal["decontaminate"] = Field(default="decontaminate", description="seeds stay out")
    seeds: RowsFile = Field(
        description="a file or folder of rows", examples=["data/profiles/held-out.jsonl"]
    )
    kind: Literal["chat", "instruction", "completion", "text", "corpus"] | None = Field(
        default=None, description="what the seeds are; left out: found out"
    )
    columns: dict[str, str] = Field(default={}, description="our names for their columns")
    words: int = Field(default=13, ge=2, description="words in a row that give a seed away")
    share: Share = Field(default=0, description="less than this share of such runs is allowed")
    common: Count = Field(default=10, description="a run that more seeds have is their template's")
    least: Count = Field(default=5, description="shortest question that counts as a whole")
    groups: bool = Field(default=True, description="rows of a seed's group go, too")


STEPS: tuple[type[Section], ...] = (
    NormaliseStep,
    QualityStep,
    LanguageStep,
    DeduplicateStep,
    RedactStep,
    DecontaminateStep,
    ChunkStep,
    RaftStep,
    BalanceStep,
    CapStep,
)
AnyStep = Annotated[
    NormaliseStep
    | QualityStep
    | LanguageStep
    | DeduplicateStep
    | RedactStep
    | DecontaminateStep
    | ChunkStep
    | RaftStep
    | BalanceStep
    | CapStep,
    Field(discriminator="type"),
]
