"""Cross-fitted feature sets: one for each fold, whose encoders saw none of the fold's test rows.

An encoder that was fine-tuned on a row makes every head look good on it. So fine-tuning is done for each fold anew, and
a cross-fitted feature set is a family of files: each *member* holds the vectors that the heads of one fold are trained
and tested on, and says in its provenance which rows these are. All vectors of a member are in one frame; those of two
members are not, and are never mixed in a head.

- ``three-way``: the training groups of each fold are parted in two; an encoder that was trained on one part makes the
  vectors of the other, on which heads are trained, and of the test rows. Then the parts change places. So each fold
  gives two members, partitions 0 and 1, and each utterance is tested by both.
  Where the two frames are aligned (`ALIGNED`), the rows of the part that trained a member's encoder are there as well,
  made by the other encoder and brought into the member's frame. The provenance says so under ``aligned``.
- ``nested``: the vectors are class log-odds, which mean the same whichever encoder gave them. Those of the training
  rows of inner fold j come from an encoder that saw neither fold j nor the test fold.

Members are called ``<name>.p<partition>f<fold>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.features import FeatureSet
from mixed_signals.store.provenance import MODALITIES
from mixed_signals.store.splits import Fold
from mixed_signals.store.terminal import counted
from mixed_signals.store.views import Views, join_several

if TYPE_CHECKING:
    from mixed_signals.store.folder import Store

DESIGNS = ("three-way", "nested")
_MEMBER = re.compile(r"(.+)\.p(\d+)f(\d+)")

LEFT_OUT = ("trained its encoder", "of another fold", "without a label")
"""Why a fold's feature set has no vector of an utterance, where that is meant to be so."""

ALIGNED = (
    "experimental: half of the training vectors come from a second encoder, whose vector space was aligned with the "
    "first one's (finetune-encoders --align)"
)
"""What every output says that rests on aligned vectors (with their names: `alignment_notes`)."""


@dataclass(frozen=True)
class CrossFit:
    """Which fold a feature set was made for.

    Attributes
    ----------
    name : str
        What the family is called.
    design : str
        three-way or nested.
    partition, fold : int
    n_partitions, n_folds : int
        How many members the family has, together.
    group : str or None
        The column whose values the folds keep apart.
    train_ids, test_ids : tuple of str
        The rows that the heads of this fold are trained and tested on.
    """

    name: str
    design: str
    partition: int
    fold: int
    n_partitions: int
    n_folds: int
    group: str | None
    train_ids: tuple[str, ...]
    test_ids: tuple[str, ...]

    @property
    def member(self) -> str:
        """The name of the feature set."""
        return member_name(self.name, self.partition, self.fold)

    def as_provenance(self) -> dict[str, Any]:
        """Return what a feature set's provenance holds under ``cross_fitted``."""
        return asdict(self)

    @classmethod
    def of(cls, features: FeatureSet) -> CrossFit | None:
        """Return that of a feature set, or None where it was not cross-fitted.

        Raises
        ------
        MixedSignalsError
            If what the file says is not readable.
        """
        said = features.provenance.get("cross_fitted")
        if said is None:
            return None
        try:
            found = cls(
                **{**said, "train_ids": tuple(said["train_ids"]), "test_ids": tuple(said["test_ids"])}
            )
        except (TypeError, KeyError) as error:
            raise MixedSignalsError(
                f"{features.path}: refused as a feature set: how it was cross-fitted is not readable ({error})"
            ) from error
        if found.member != features.name:
            raise MixedSignalsError(f"{features.path}: was made as {found.member}; give it its name back")
        return found


class CrossFitted(NamedTuple):
    """What heads are trained on where features are cross-fitted.

    Attributes
    ----------
    views : list of Views
        Of the same utterances, one for each fold.
    folds : list of Fold
        ``folds[i]`` is trained and tested on ``views[i]`` and on no other.
    group : str or None
        The column whose values the folds keep apart.
    """

    views: list[Views]
    folds: list[Fold]
    group: str | None


def member_name(name: str, partition: int, fold: int) -> str:
    """Return the name of a family's member.

    Examples
    --------
    >>> member_name("roberta-base.tuned", 1, 3)
    'roberta-base.tuned.p1f3'
    """
    return f"{name}.p{partition}f{fold}"


def families(keys: Sequence[str]) -> dict[str, list[str]]:
    """Return which keys of feature sets look like members, by the key of their family, in order of their folds.

    Examples
    --------
    >>> families(["text/a", "text/b.p0f1", "text/b.p0f0"])
    {'text/b': ['text/b.p0f0', 'text/b.p0f1']}
    """
    found: dict[str, list[tuple[int, int, str]]] = {}
    for key in keys:
        if match := _MEMBER.fullmatch(key):
            found.setdefault(match[1], []).append((int(match[2]), int(match[3]), key))
    return {family: [key for *_, key in sorted(members)] for family, members in found.items()}


def alignment_notes(keys: Iterable[str]) -> list[str]:
    """Return what has to be said of feature sets whose vectors were aligned: a sentence, or none where there are none.

    Parameters
    ----------
    keys : iterable of str
        Of aligned feature sets (`FeatureSet.aligned`); members of a family are named once.

    Examples
    --------
    >>> [note.rpartition(": ")[2] for note in alignment_notes(["text/b.p0f0", "text/b.p0f1", "audio/a"])]
    ['text/b, audio/a']
    """
    names = dict.fromkeys(match[1] if (match := _MEMBER.fullmatch(key)) else key for key in keys)
    return [f"{ALIGNED}: {', '.join(names)}"] if names else []


def cross_fitted_views(
    store: Store, names: Mapping[str, str], *, target: str = "label", missing: str = "drop"
) -> CrossFitted:
    """Join cross-fitted feature sets, and others beside them, fold by fold.

    Parameters
    ----------
    store : Store
    names : mapping of modality to str
        Of a family, or of a feature set whose encoder saw none of the corpus; one family at least.
    target : str
    missing : {"drop", "mask"}
        Whether a fold's rows are those that have every modality in it, or any.

    Raises
    ------
    UsageError
        If there is no family among the names, families have other folds, or a member is missing.
    MixedSignalsError
        As `Store.views` does.
    """
    known = families(store.feature_sets())
    members = {
        modality: [store[key] for key in known[f"{modality}/{name}"]]
        for modality in MODALITIES
        if (name := names.get(modality, "").removeprefix(f"{modality}/")) and f"{modality}/{name}" in known
    }
    if not members:
        raise UsageError(f"no cross-fitted feature set among {', '.join(names.values())}")
    fits = {modality: _complete(modality, found) for modality, found in members.items()}
    (first, places), *others = fits.items()
    for modality, these in others:
        for one, other in zip(places, these, strict=False):
            if len(these) != len(places) or _rows(one) != _rows(other):
                raise UsageError(
                    f"{first}/{one.name} and {modality}/{other.name} were cross-fitted on other folds; make both in "
                    "one call of finetune-encoders"
                )
    plain = {
        modality: store[f"{modality}/{name}"] for modality, name in names.items() if modality not in members
    }
    views = join_several(
        store.corpus,
        [{**plain, **{m: found[number] for m, found in members.items()}} for number in range(len(places))],
        target=target,
    )
    folds = []
    for place, own in zip(places, views, strict=True):
        there = own.present.all(axis=1) if missing == "drop" else own.present.any(axis=1)
        ids = set(own.ids[there])
        train, test = (
            np.array([i for i in own.ids if i in wanted], dtype=object)
            for wanted in (ids & set(place.train_ids), ids & set(place.test_ids))
        )
        folds.append(Fold(place.partition, place.fold, train, test))
    return CrossFitted(views, folds, places[0].group)


def _complete(modality: str, members: Sequence[FeatureSet]) -> list[CrossFit]:
    """Return where the members of a family stand; refuse one that is not whole."""
    found = [fit for features in members if (fit := CrossFit.of(features)) is not None]
    if len(found) < len(members):
        stranger = next(features for features in members if CrossFit.of(features) is None)
        raise UsageError(
            f"{stranger.key} is called like a cross-fitted feature set but was not cross-fitted; rename it"
        )
    first = found[0]
    wanted = first.n_partitions * first.n_folds
    if len(found) != wanted:
        raise UsageError(
            f"{modality}/{first.name}: {len(found)} of its {wanted} feature sets are there; run finetune-encoders "
            "again, which goes on"
        )
    for features in members:
        if n := features.coverage["pending"]:
            raise UsageError(
                f"{features.key}: {counted(n, 'vector')} not made yet; run finetune-encoders again, which goes on"
            )
    return found


def _rows(fit: CrossFit) -> tuple[Any, ...]:
    return fit.design, fit.partition, fit.fold, fit.group, fit.train_ids, fit.test_ids
