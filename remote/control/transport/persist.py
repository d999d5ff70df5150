"""`remote.control.retry` under the name that it had."""

from remote.control.retry import FIRST_PAUSE_SECONDS, PATIENCE_SECONDS
from remote.control.retry import retry_while_unreachable as persistently

__all__ = ["FIRST_PAUSE_SECONDS", "PATIENCE_SECONDS", "persistently"]
