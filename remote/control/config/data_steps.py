"""The steps of a data recipe by their `type`, each with its fields: what
`remote/payload/data/steps/TYPE.py` does."""

from typing import Annotated, Literal

from pydantic import Field

from remote.control.config.yaml.section import Section


class DeduplicateStep(Section):
    """Rows that say the same as one before go."""

    type: Literal["deduplicate"] = Field(default="deduplicate", description="what the step does")


STEPS: tuple[type[Section], ...] = (DeduplicateStep,)
AnyStep = Annotated[DeduplicateStep, Field(description="a step")]
