"""The step `raft` of a data recipe, and the teacher that it may ask: what
`remote/payload/data/steps/raft.py` and `remote/payload/data/raft/teacher.py` read."""

from typing import Annotated, Any, Literal

from pydantic import Field

from remote.control.config.data_files import SecretName
from remote.control.config.yaml.section import Section, Share


class Teacher(Section):
    """A larger model behind an endpoint, which writes questions and answers."""

    url: Annotated[str, Field(pattern=r"^https?://[^@]+$")] = Field(
        description="the base of its API, as the box reaches it; an OpenAI-compatible one mostly"
        " ends in `/v1`",
        examples=["https://api.mistral.ai/v1"],
    )
    model: str = Field(description="its name there", examples=["mistral-large-latest"])
    api: Literal["openai", "ollama"] = Field(default="openai", description="which API it speaks")
    key: SecretName = Field(
        default="",
        description="the NAME of the variable of your environment that holds its key",
        examples=["TEACHER_API_KEY"],
    )
    seconds: float = Field(default=120, gt=0, description="longest wait for one answer")
    tries: int = Field(
        default=6, ge=1, le=20, description="how often one question is asked while it is busy"
    )
    parallel: int = Field(default=4, ge=1, le=64, description="questions asked at once")
    json_mode: bool = Field(
        default=True, description="tell the API to answer with JSON; `false` where it knows no such"
    )
    parameters: dict[str, Any] = Field(
        default={"temperature": 0}, description="what else goes with each question"
    )


class RaftStep(Section):
    """Makes documents into questions over passages of them, answered with their evidence."""

    type: Literal["raft"] = Field(default="raft", description="questions over documents")
    questions: int = Field(default=1, ge=1, le=20, description="questions a passage")
    distractors: int = Field(
        default=4, ge=1, le=50, description="passages beside the one that answers"
    )
    oracle_share: Share = Field(
        default=0.8, description="share of the questions that see the passage which answers them"
    )
    passage_characters: int = Field(default=1000, ge=200, le=20_000, description="longest passage")
    language: Literal["en", "fr"] = Field(
        default="en", description="of the questions that are made without a teacher"
    )
    system: str = Field(default="", description="a system prompt before each question")
    teacher: Teacher | None = Field(
        default=None, description="who writes questions and answers; left out: the passages do"
    )
