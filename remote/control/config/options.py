"""The plain values that stages take under `with:`."""

from pydantic import Field

from remote.contract.artifacts.gguf import DEFAULT_QUANTIZATION, Quantization
from remote.control.config.yaml.section import Count, Section


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
