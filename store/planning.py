"""Which rows of a feature set have to be made, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mixed_signals.store.errors import UsageError
from mixed_signals.store.features import FeatureSet, Status
from mixed_signals.store.provenance import Recipe, as_bytes


@dataclass(frozen=True)
class Plan:
    """Which rows of a feature set have to be made, and why.

    Attributes
    ----------
    rows : ndarray of int
        Positions among `ids`, ascending.
    reasons : dict of str to int
        How many rows for each reason, e.g. ``{"audio changed": 12}``.
    keep : ndarray of int, shape (N,)
        For each corpus row the row of the present file that stays valid, or -1.
    dropped : int
        How many rows of the present file belong to utterances that are not asked for any more.
    current : bool
        Whether the present file already has these ids and hashes in this order (in any, where its vectors lie in
        several files); or none are asked for, and there is no file.
    """

    rows: np.ndarray
    reasons: dict[str, int]
    keep: np.ndarray
    dropped: int
    current: bool


def plan_rows(
    existing: FeatureSet | None,
    recipe: Recipe,
    ids: Sequence[str] | np.ndarray,
    row_hashes: Sequence[str] | np.ndarray,
    entry_hashes: np.ndarray | None = None,
    *,
    retry_failed: bool | np.ndarray = False,
) -> Plan:
    """Compare a feature set with what is asked for; nothing is written.

    Parameters
    ----------
    existing : FeatureSet or None
        What is on disk.
    recipe : Recipe
        How the vectors are to be made.
    ids, row_hashes : sequences of str or arrays of bytes, length N
        The corpus's utterances, and what each vector is made of.
    entry_hashes : ndarray of bytes, shape (N,), optional
        What the corpus says of each utterance now; where only that changed, nothing is made again.
    retry_failed : bool or ndarray of bool, shape (N,)
        Whether rows that failed are tried again though their media did not change, or which.

    Raises
    ------
    UsageError
        If the file on disk was made by another recipe.
    """
    n = len(ids)
    if existing is None:
        return Plan(np.arange(n), {"new": n} if n else {}, np.full(n, -1), 0, current=n == 0)
    if existing.recipe_fingerprint != recipe.fingerprint:
        raise UsageError(
            f"{existing.path}: made by another recipe ({recipe_difference(existing.recipe, recipe)}); "
            "give the new one a name of its own (--name), or remove the file to make it again"
        )
    old = existing.find(as_bytes(ids))
    unchanged = existing.row_hash_bytes[old] == as_bytes(row_hashes)
    status = existing.status[old]
    reasons = {
        "new": old < 0,
        f"{recipe.modality} changed": ~unchanged,
        "not yet done": status == Status.PENDING,
        "failed before": (status == Status.FAILED) & retry_failed,
    }
    why = np.select(list(reasons.values()), range(len(reasons)), default=-1)
    counts = {reason: int((why == number).sum()) for number, reason in enumerate(reasons)}
    return Plan(
        rows=np.flatnonzero(why >= 0),
        reasons={reason: count for reason, count in counts.items() if count},
        keep=np.where(why < 0, old, -1),
        dropped=len(existing) - int((old >= 0).sum()),
        current=len(existing) == n
        and bool((existing.virtual or (old == np.arange(n)).all()) and (old >= 0).all() and unchanged.all())
        and (entry_hashes is None or np.array_equal(existing.entry_hash_bytes[old], entry_hashes)),
    )


def recipe_difference(old: Recipe, new: Recipe) -> str:
    """Say in what two recipes differ."""
    return "; ".join(differences(asdict(old), asdict(new)))


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield what differs, of nested values only the innermost."""
    for key in dict.fromkeys([*there, *now]):
        old, new = there.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differences(old, new)
        elif old != new:
            yield f"{key}: {old!r} there, {new!r} now"
