"""Which encoders are trained on which rows, and of which rows each makes the vectors. No network, no file.

The rule that every design keeps: no test row of a fold, and no row of the same group, is a training row of an encoder
that made a vector which a head of the fold is trained or tested on; and no encoder makes vectors of its training rows.
Rows on which a training stops early count as its training rows.

With k folds:

- `three_way`: 2 k trainings. The training groups of each fold are parted in two. The encoder trained on one part makes
  the vectors of the other, on which heads are trained, and of the test rows; then the parts change places. Aligned,
  heads are trained on both parts: the encoder of the other part makes the rows that trained the first one, and they are
  brought into its frame (`mixed_signals.extract.finetune.alignment`). Test rows are made as without, by one encoder,
  in its own frame; as the parts change places, half of the tests are of either encoder, as half of the training
  vectors are.
- `nested`: k (k + 1) / 2 trainings, one without each fold and one without each two. Of fold i the heads are trained on
  vectors that the encoder without i and j made of each other fold j, and tested on those that the one without i made.
- `by_split`: one training, on the rows that the corpus says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from mixed_signals.store import CrossFit, Fold, MixedSignalsError, UsageError
from mixed_signals.store.splits import split_groups

VALIDATION = ("validation", "val", "valid", "dev", "development")
"""What a column of predefined splits calls the rows on which training stops early."""


@dataclass(frozen=True)
class Rows:
    """The utterances that have a label.

    Attributes
    ----------
    ids, groups : ndarray of str, shape (N,)
    strata : ndarray of int, shape (N,)
        What each part is to have its share of (`mixed_signals.store.splits.strata`).
    """

    ids: np.ndarray
    strata: np.ndarray
    groups: np.ndarray

    def select(self, ids: Collection[str]) -> Rows:
        """Return the rows with these ids."""
        wanted = np.isin(self.ids, list(ids))
        return Rows(self.ids[wanted], self.strata[wanted], self.groups[wanted])

    def split(self, n: int, seed: int) -> list[tuple[Rows, Rows]]:
        """Return n pairs of the others and a part, groups kept whole; strata in their shares where that can be."""
        enough = np.bincount(self.strata).max() >= n
        codes = self.strata if enough else np.zeros_like(self.strata)
        pairs = split_groups(self.ids, codes, self.groups, n, seed)
        return [(self._at(others), self._at(part)) for others, part in pairs]

    def _at(self, positions: np.ndarray) -> Rows:
        return Rows(self.ids[positions], self.strata[positions], self.groups[positions])


@dataclass(frozen=True)
class Training:
    """One encoder that is trained.

    Attributes
    ----------
    name : str
        Unique in its design.
    train_ids : tuple of str
        The rows that it learns from.
    validation_ids : tuple of str
        The rows on which it stops early; none where no group can be spared.
    """

    name: str
    train_ids: tuple[str, ...]
    validation_ids: tuple[str, ...]

    @property
    def seen(self) -> frozenset[str]:
        """The rows whose labels had a part in the encoder."""
        return frozenset(self.train_ids) | frozenset(self.validation_ids)


@dataclass(frozen=True)
class Member:
    """One feature set that comes out of a design.

    Attributes
    ----------
    partition, fold : int
    train_ids, test_ids : tuple of str
        The rows that heads are trained and tested on; empty where the design has no folds.
    makers : tuple of (str, tuple of str)
        The name of a training, and the rows whose vectors its encoder makes.
    anchors : tuple of tuple of str
        Where the makers' frames are aligned with that of the first: the rows that say how, those on which each of the
        trainings stopped early. None otherwise.
    """

    partition: int
    fold: int
    train_ids: tuple[str, ...]
    test_ids: tuple[str, ...]
    makers: tuple[tuple[str, tuple[str, ...]], ...]
    anchors: tuple[tuple[str, ...], ...] = ()

    def needed_of(self, name: str) -> tuple[str, ...]:
        """Return the rows whose vectors are needed of a training's encoder, anchors among them; some may repeat."""
        if name not in dict(self.makers):
            return ()
        return (*dict(self.makers)[name], *(one for half in self.anchors for one in half))


@dataclass(frozen=True)
class Design:
    """All trainings, and all feature sets that come out of them.

    Attributes
    ----------
    kind : str
        three-way, nested or split.
    trainings : tuple of Training
    members : tuple of Member
    n_partitions, n_folds : int
        As many members there are, together.
    group : str or None
        The column whose values are kept apart.
    """

    kind: str
    trainings: tuple[Training, ...]
    members: tuple[Member, ...]
    n_partitions: int
    n_folds: int
    group: str | None

    @property
    def aligned(self) -> bool:
        """Whether frames of encoders are aligned."""
        return any(member.anchors for member in self.members)

    @property
    def mixed(self) -> bool:
        """Whether several encoders make the rows of one feature set."""
        return any(len(member.makers) > 1 for member in self.members)

    def training(self, name: str) -> Training:
        """Return the training of a name."""
        return next(training for training in self.trainings if training.name == name)

    def cross_fit(self, member: Member, name: str) -> CrossFit | None:
        """Return which fold a member of the family `name` is made for, or None of a design without folds."""
        if self.kind == "split":
            return None
        return CrossFit(
            name=name,
            design=self.kind,
            partition=member.partition,
            fold=member.fold,
            n_partitions=self.n_partitions,
            n_folds=self.n_folds,
            group=self.group,
            train_ids=member.train_ids,
            test_ids=member.test_ids,
        )


def three_way(
    rows: Rows,
    folds: Sequence[Fold],
    *,
    seed: int,
    validation: float = 0.15,
    group: str | None = "group",
    aligned: bool = False,
) -> Design:
    """Part the training groups of each fold in two: one for the encoder, one for the heads, and the other way round.

    Parameters
    ----------
    rows : Rows
    folds : sequence of Fold
        From `mixed_signals.store.folds`, on the labels alone.
    seed : int
    validation : float
        Share of a training's rows on which it stops early, in whole groups; 0 for none.
    group : str or None
        The column that `rows.groups` came from.
    aligned : bool
        Whether heads are trained on the rows of both parts.

    Raises
    ------
    UsageError
        If a fold has one training group only, or an encoder would be trained on one class; if frames are to be aligned
        and a training has no rows on which it stops early.
    """
    trainings, members = [], []
    for fold in folds:
        mine = rows.select(fold.train_ids)
        if len(set(mine.groups)) < 2:
            raise UsageError(
                f"fold {fold.fold} of {len(folds)} trains on one group, which cannot be parted between encoder and "
                "heads: make fewer folds (--folds), or take --design nested"
            )
        parts = [part for _, part in mine.split(2, seed)]
        pair = [_with_validation(f"p{p}f{fold.fold}", part, validation, seed) for p, part in enumerate(parts)]
        test = tuple(fold.test_ids)
        for partition, (own, other) in enumerate((parts, parts[::-1])):
            maker, neighbour = pair[partition].name, pair[1 - partition].name
            member = Member(partition, fold.fold, tuple(other.ids), test, ((maker, (*other.ids, *test)),))
            if aligned:
                member = replace(
                    member,
                    train_ids=(*other.ids, *own.ids),
                    makers=(*member.makers, (neighbour, tuple(own.ids))),
                    anchors=_anchors(pair),
                )
            members.append(member)
        trainings += pair
    return _checked(Design("three-way", tuple(trainings), tuple(members), 2, len(folds), group), rows)


def nested(
    rows: Rows, folds: Sequence[Fold], *, seed: int, validation: float = 0.15, group: str | None = "group"
) -> Design:
    """Train an encoder without each fold, and without each two.

    Parameters
    ----------
    rows, folds, seed, validation, group
        As `three_way` takes them; each row is tested in one fold.

    Raises
    ------
    UsageError
        If there are fewer than three folds, or an encoder would be trained on one class.
    """
    k = len(folds)
    if k < 3:
        raise UsageError(
            f"--design nested: {k} folds leave nothing to train on without two; make 3 or more (--folds)"
        )
    parts = [tuple(fold.test_ids) for fold in folds]
    without = [(number,) for number in range(k)] + list(combinations(range(k), 2))
    trainings = []
    for left_out in without:
        excluded = {one for number in left_out for one in parts[number]}
        own = rows.select([one for one in rows.ids if one not in excluded])
        trainings.append(_with_validation(_without(*left_out), own, validation, seed))
    members = [
        Member(
            0,
            number,
            tuple(fold.train_ids),
            parts[number],
            (
                (_without(number), parts[number]),
                *((_without(number, j), parts[j]) for j in range(k) if j != number),
            ),
        )
        for number, fold in enumerate(folds)
    ]
    return _checked(Design("nested", tuple(trainings), tuple(members), 1, k, group), rows)


def by_split(
    rows: Rows,
    split: np.ndarray,
    made: Iterable[str],
    *,
    train: str = "train",
    seed: int,
    validation: float = 0.15,
    group: str | None = "group",
) -> Design:
    """Train one encoder on the rows that a column names; those that it calls validation stop it early.

    Parameters
    ----------
    rows : Rows
    split : ndarray of str, shape (N,)
        What the column says of each row.
    made : iterable of str
        The utterances whose vectors are made, the training rows among them: heads may be trained on these, and
        `fit-heads` refuses to test on them.
    train : str
        Which value names the training rows.
    seed, validation, group
        As `three_way` takes them, where the column names no validation rows (`VALIDATION`).

    Raises
    ------
    UsageError
        If no row has this value, or the encoder would be trained on one class.
    """
    own = rows.select(rows.ids[split == train])
    if not len(own.ids):
        there = ", ".join(sorted(set(split) - {""})) or "nothing"
        raise UsageError(
            f"--split {train}: no labelled utterance says so in its column split (there: {there})"
        )
    held = rows.ids[np.isin([str(value).lower() for value in split], VALIDATION) & (split != train)]
    said = bool(len(held)) and validation > 0
    training = (
        _training_on("train", own, tuple(held)) if said else _with_validation("train", own, validation, seed)
    )
    member = Member(0, 0, (), (), (("train", tuple(made)),))
    return _checked(Design("split", (training,), (member,), 1, 1, group), rows)


def check(design: Design, rows: Rows) -> None:
    """Make sure that a design keeps the rule of this module, whoever made it.

    Raises
    ------
    MixedSignalsError
        If it does not.
    """
    group_of = dict(zip(rows.ids.tolist(), rows.groups.tolist(), strict=True))
    trainings = {training.name: training for training in design.trainings}
    if len(trainings) < len(design.trainings):
        raise _broken("two trainings have one name")
    for training in design.trainings:
        both = set(training.train_ids) & set(training.validation_ids)
        if both:
            raise _broken(f"{training.name} is trained and stopped on {len(both)} of the same rows")
    for member in design.members if design.kind != "split" else ():
        place = f"partition {member.partition}, fold {member.fold}"
        wanted = Counter((*member.train_ids, *member.test_ids))
        if Counter(one for _, ids in member.makers for one in ids) != wanted or max(wanted.values()) > 1:
            raise _broken(f"{place}: not each row of its heads has one encoder")
        for name, ids in member.makers:
            seen = {group_of[one] for one in trainings[name].seen}
            for what, which in (("test rows", member.test_ids), ("rows that it makes", ids)):
                tainted = sum(group_of[one] in seen for one in which)
                if tainted:
                    raise _broken(f"{place}: {name} is trained on groups of {tainted} {what}")
        taught = {one for name, _ in member.makers for one in trainings[name].train_ids}
        tested = {group_of[one] for one in member.test_ids}
        tainted = sum(one in taught or group_of[one] in tested for half in member.anchors for one in half)
        if tainted:
            raise _broken(f"{place}: {tainted} anchors taught an encoder or are of groups that are tested")


def _broken(said: str) -> MixedSignalsError:
    return MixedSignalsError(f"the design leaks, which is a fault of this program, please report it: {said}")


def _checked(design: Design, rows: Rows) -> Design:
    check(design, rows)
    return design


def _with_validation(name: str, own: Rows, validation: float, seed: int) -> Training:
    """Return a training on these rows, some of whose groups stop it early."""
    n_groups = len(set(own.groups))
    if validation <= 0 or n_groups < 2:
        return _training_on(name, own, ())
    classes = set(own.strata)
    for learned, held in own.split(max(2, min(round(1 / validation), n_groups)), seed):
        if len(held.ids) and set(learned.strata) == classes:
            return _training_on(name, learned, tuple(held.ids))
    return _training_on(name, own, ())  # held out, any group would take a class with it


def _training_on(name: str, learned: Rows, held: tuple[str, ...]) -> Training:
    if len(set(learned.strata)) < 2:
        raise UsageError(
            f"training {name} would learn from {len(learned.ids)} utterances of one class: make fewer folds (--folds)"
        )
    return Training(name, tuple(learned.ids), held)


def _anchors(pair: Sequence[Training]) -> tuple[tuple[str, ...], ...]:
    for training in pair:
        if not training.validation_ids:
            raise UsageError(
                f"--align: training {training.name} has no rows on which it stops early, and frames are matched on "
                "these: raise --validation, make fewer folds (--folds), or leave --align out"
            )
    return tuple(training.validation_ids for training in pair)


def _without(*folds: int) -> str:
    return "".join(f"f{number}" for number in sorted(folds))
