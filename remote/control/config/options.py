"""The plain values that stages take under `with:`."""

from typing import Annotated

from pydantic import AfterValidator, Field

from remote.contract.artifacts import row_kinds
from remote.contract.artifacts.gguf import DEFAULT_QUANTIZATION, Quantization
from remote.control.config.yaml.section import Count, Section


def _kind(text: str) -> str:
    if text and text not in row_kinds.KINDS:
        raise ValueError(f"one of {', '.join(row_kinds.KINDS)}")
    return text


def _columns(text: str) -> str:
    row_kinds.columns_of(text)
    return text


Kind = Annotated[str, AfterValidator(_kind)]
Columns = Annotated[str, AfterValidator(_columns)]


class Options(Section):
    """Every option of every stage; which stage takes which is in
    `remote/contract/job/stages.py`."""

    validation_share: float = Field(
        default=0.1, gt=0, lt=1, description="share of the groups held out for validation"
    )
    max_reject_share: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="share of unusable rows above which `prepare` gives up",
    )
    seed: int = Field(default=42, ge=0, description="seed of the split")
    kind: Kind = Field(
        default="",
        description=f"what the rows are ({', '.join(row_kinds.KINDS)}); left out: found out",
    )
    columns: Columns = Field(
        default="",
        description="our names for columns: `instruction=question,output=answer`",
        examples=["instruction=question,output=answer"],
    )
    max_rows: Count = Field(default=200, description="at most so many held-out rows are asked")
    max_new_tokens: Count = Field(default=256, description="at most so many tokens of an answer")
    quantize: Quantization = Field(
        default=DEFAULT_QUANTIZATION, description="the number format of the GGUF"
    )
    name: str = Field(
        default="windlass",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*(:[A-Za-z0-9._-]+)?$",
        description="the model's name in Ollama",
    )
