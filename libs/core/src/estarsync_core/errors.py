"""What can go wrong, named for what to do next.

EstarsyncError
├── ConfigurationError   somebody must change a setting; carries every problem at once
├── RetryLater           the other side is busy or away; the same call may work after `after` seconds
├── Stop                 going on would do harm or spin; a person must look
├── Fenced               another process has taken over; exit and wait for a turn
└── InvalidRecord        this record can't be used: it goes to the dead letters with its reason
"""

from collections.abc import Sequence


class EstarsyncError(Exception):
    """The root of everything that estarsync raises on purpose; its text is written for people."""


class ConfigurationError(EstarsyncError):
    """Settings, a profile or the surroundings are wrong.

    Args:
        problems: one line each, saying what is wrong and what to do.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class RetryLater(EstarsyncError):  # noqa: N818 - named for what to do
    """The call failed in a way that passes.

    Args:
        reason: what happened, without personal data.
        after: seconds to wait at least, where the other side said so.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        self.after = after
        super().__init__(reason)


class Stop(EstarsyncError):  # noqa: N818 - named for what to do
    """Trying again can't help, and going on would do harm: the process stops with this text."""


class Fenced(EstarsyncError):  # noqa: N818 - named for what happened
    """A newer process with the same role has taken over; nothing more may be written."""


class InvalidRecord(EstarsyncError):  # noqa: N818 - named for what it is
    """A record that can't be used.

    Args:
        field: where the trouble is, as a path (`email`, `lines[3].quantity`); never a value.
        code: the reason, from a closed set, fit for a metric label (`missing`, `not_an_email`).
    """

    def __init__(self, field: str, code: str) -> None:
        self.field = field
        self.code = code
        super().__init__(f"{field}: {code}")
