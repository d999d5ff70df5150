"""Where S3 answers, for a bucket of Windlass's in tests."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class There:
    """An endpoint whose every client is this one."""

    s3: Any
    region: str = "us-east-1"
    regions: tuple[str, ...] = ()

    def client(self, service: str) -> Any:
        return self.s3
