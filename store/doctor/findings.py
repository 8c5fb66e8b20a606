"""What the examination of a store hands back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
EXAMPLES = 3


@dataclass(frozen=True)
class Symptom:
    """What one check saw: how bad it is, of how many things, in one sentence, and what mends it."""

    severity: Severity
    count: int
    what: str
    mend: str


@dataclass(frozen=True)
class Finding:
    """A symptom, and where it was seen.

    Attributes
    ----------
    severity : {"error", "warning", "note"}
        An error cannot be used as it is, a warning would mislead, a note is worth knowing.
    where : str
        Key of a feature set, or ``corpus``.
    what : str
        One sentence, with counts and up to three examples.
    mend : str
        What to do about it.
    check : str
        Name of the check; it stays the same from version to version.
    count : int
        Of how many rows, dimensions, classes or groups this is said.
    """

    severity: Severity
    where: str
    what: str
    mend: str
    check: str
    count: int


def examples(names: Iterable[object]) -> str:
    """Return up to three names as ``e.g. a, b, c``.

    Examples
    --------
    >>> examples(["u1", "u2"])
    'e.g. u1, u2'
    """
    return "e.g. " + ", ".join(str(name) for name in islice(names, EXAMPLES))
