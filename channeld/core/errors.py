"""The exception tree, grouped by what the caller must do about it.

Everything that channeld raises on purpose is a `ChanneldError`. What is not one is a defect.
"""

from __future__ import annotations


class ChanneldError(Exception):
    """The root of the tree. Its text is meant for a person and holds no secret."""


class BadValue(ChanneldError, ValueError):
    """A value from outside is unusable: correct it and come again; nothing was changed.

    `field` names where it stood, `remedy` says what would be taken.
    """

    def __init__(self, field: str, problem: str, remedy: str = "") -> None:
        self.field, self.problem, self.remedy = field, problem, remedy
        super().__init__(f"{field}: {problem}" + (f" ({remedy})" if remedy else ""))


class ConfigError(ChanneldError):
    """The configuration is refused as a whole. `problems` lists all that was found, each naming its key."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class Unreachable(ChanneldError):
    """Something needed does not answer now: try again later, the state is as it was or unknown."""


class Disagreement(Unreachable):
    """Nodes contradict each other about a validated ledger: believe none of them, stop issuing, ask again later."""


class LedgerError(ChanneldError):
    """A node answered a request with an error. `code` is the node's own word, such as `actNotFound`."""

    def __init__(self, code: str, message: str = "") -> None:
        self.code = code
        super().__init__(f"{code}: {message}" if message else code)


class Malformed(ChanneldError):
    """A message does not have the shape its sender promised: count it, skip it, go on."""


class StoreError(ChanneldError):
    """The store could not do it: nothing of the transaction is known to have happened; stop issuing and look."""


class Refused(ChanneldError):
    """A guard forbids it, whatever the caller wants: the text says which and what would lift it."""


def system_reason(error: Exception) -> str:
    """Why the system does not give us a file, such as "no such file or directory"; nothing of its name."""
    reason = (isinstance(error, OSError) and error.strerror) or "not a usable path"
    return reason[:1].lower() + reason[1:]
