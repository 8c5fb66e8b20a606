"""Designs of fine-tuning: whatever the groups, labels and folds, no encoder sees what its vectors are tested on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mixed_signals.extract.finetune.designs import Rows, by_split, check, nested, three_way
from mixed_signals.store import Fold, MixedSignalsError, UsageError
from mixed_signals.store.splits import split_groups

QUIET = settings(max_examples=25)


def rows_of(sizes, n_classes, seed):
    """Return rows of groups of these sizes, every class among them."""
    groups = np.array([f"g{g}" for g, size in enumerate(sizes) for _ in range(size)], dtype=object)
    n = len(groups)
    rng = np.random.default_rng(seed)
    strata = rng.permutation(np.arange(n) % n_classes)
    ids = np.array([f"u{i:03d}" for i in rng.permutation(n)], dtype=object)
    return Rows(ids, strata, groups)


def folds_of(rows, k, seed=0):
    pairs = split_groups(rows.ids, rows.strata, rows.groups, k, seed)
    return [Fold(0, number, rows.ids[a], rows.ids[b]) for number, (a, b) in enumerate(pairs)]


@st.composite
def problems(draw, least_folds=2):
    k = draw(st.integers(least_folds, 5))
    sizes = draw(st.lists(st.integers(1, 9), min_size=2 * k, max_size=18))
    n_classes = draw(st.integers(2, 3))
    rows = rows_of(sizes, n_classes, draw(st.integers(0, 9)))
    assume(np.bincount(rows.strata).max() >= k)
    folds = folds_of(rows, k)
    assume(all(len(fold.test_ids) for fold in folds))
    return rows, folds, draw(st.integers(0, 99)), draw(st.sampled_from([0.0, 0.1, 0.15, 0.3, 0.5]))


def made(design, *arguments, **options):
    """Return a design; what the groups do not allow is no example."""
    try:
        return design(*arguments, **options)
    except UsageError:
        assume(False)


def assert_honest(design, rows):
    """Hold the rule as the issue says it, in its own words and not in those of `check`."""
    group = dict(zip(rows.ids, rows.groups, strict=True))
    for member in design.members:
        encoders = {name: design.training(name) for name, _ in member.makers}
        for training in encoders.values():
            learned_from = {*training.train_ids, *training.validation_ids}
            assert not learned_from & set(member.test_ids)
            assert not {group[i] for i in learned_from} & {group[i] for i in member.test_ids}
        for name, ids in member.makers:
            assert not encoders[name].seen & set(ids)
        of_makers = [one for _, ids in member.makers for one in ids]
        assert sorted(of_makers) == sorted((*member.train_ids, *member.test_ids))


@QUIET
@given(problems())
def test_three_way_keeps_encoder_heads_and_test_rows_apart(problem):
    rows, folds, seed, share = problem
    design = made(three_way, rows, folds, seed=seed, validation=share)
    assert_honest(design, rows)
    assert len(design.trainings) == len(design.members) == 2 * len(folds)
    for fold in folds:
        one, other = (m for m in design.members if m.fold == fold.fold)
        assert set(one.train_ids) | set(other.train_ids) == set(fold.train_ids)
        assert not set(one.train_ids) & set(other.train_ids)
        assert one.test_ids == other.test_ids == tuple(fold.test_ids)
        for heads, encoder in ((one, other), (other, one)):  # the parts change places
            ((name, _),) = encoder.makers
            assert design.training(name).seen == set(heads.train_ids)
        assert len(one.makers) == len(other.makers) == 1  # one encoder a head, so one frame


@QUIET
@given(problems())
def test_aligned_heads_have_all_training_rows_and_anchors_taught_no_encoder(problem):
    rows, folds, seed, share = problem
    design = made(three_way, rows, folds, seed=seed, validation=share, aligned=True)
    plain = three_way(rows, folds, seed=seed, validation=share)
    assert_honest(design, rows)
    assert design.aligned
    assert not plain.aligned
    assert design.trainings == plain.trainings
    group = dict(zip(rows.ids, rows.groups, strict=True))
    for member, without in zip(design.members, plain.members, strict=True):
        fold = next(fold for fold in folds if fold.fold == member.fold)
        assert set(member.train_ids) == set(fold.train_ids)
        assert (member.makers[0], member.test_ids) == (without.makers[0], without.test_ids)
        encoders = [design.training(name) for name, _ in member.makers]
        assert member.makers[1][1] == tuple(i for i in rows.ids if i in encoders[0].seen)
        assert {frozenset(half) for half in member.anchors} == {frozenset(e.validation_ids) for e in encoders}
        anchors = {one for half in member.anchors for one in half}
        assert not anchors & {one for encoder in encoders for one in encoder.train_ids}
        assert not {group[one] for one in anchors} & {group[one] for one in member.test_ids}
        assert member.needed_of("none") == ()
        for encoder in encoders:
            assert anchors <= set(member.needed_of(encoder.name))


@QUIET
@given(problems(least_folds=3))
def test_nested_leaves_out_both_the_outer_and_the_inner_fold(problem):
    rows, folds, seed, share = problem
    design = made(nested, rows, folds, seed=seed, validation=share)
    k = len(folds)
    assert_honest(design, rows)
    assert len(design.trainings) == k * (k + 1) // 2
    assert len(design.members) == k
    for outer, member in zip(folds, design.members, strict=True):
        maker_of = {one: design.training(name).seen for name, ids in member.makers for one in ids}
        for inner in folds:
            excluded = {*outer.test_ids, *inner.test_ids}
            for one in inner.test_ids:
                assert maker_of[one] == set(rows.ids) - excluded
    for training in design.trainings:
        assert any(name == training.name for m in design.members for name, _ in m.makers)


@QUIET
@given(problems())
def test_rows_that_stop_a_training_are_whole_groups_of_its_own(problem):
    rows, folds, seed, share = problem
    group = dict(zip(rows.ids, rows.groups, strict=True))
    design = made(three_way, rows, folds, seed=seed, validation=share)
    for training in design.trainings:
        learned, held = ({group[i] for i in ids} for ids in (training.train_ids, training.validation_ids))
        assert not learned & held
        assert not (share == 0 and held)
        stratum = dict(zip(rows.ids, rows.strata, strict=True))
        assert {stratum[i] for i in training.seen} == {stratum[i] for i in training.train_ids}


@QUIET
@given(problems(), st.randoms(use_true_random=False))
def test_a_design_depends_on_ids_and_seed_and_not_on_the_order_of_rows(problem, random):
    rows, folds, seed, share = problem
    order = list(range(len(rows.ids)))
    random.shuffle(order)
    other = Rows(rows.ids[order], rows.strata[order], rows.groups[order])
    designs = [made(three_way, r, folds, seed=seed, validation=share) for r in (rows, rows, other)]
    assert designs[0] == designs[1]
    for one, two in zip(designs[0].trainings, designs[2].trainings, strict=True):
        assert (set(one.train_ids), set(one.validation_ids)) == (set(two.train_ids), set(two.validation_ids))


@QUIET
@given(st.integers(4, 12), st.integers(0, 50), st.booleans())
def test_a_split_trains_on_its_rows_and_makes_all(n_groups, seed, says_validation):
    rows = rows_of([4] * n_groups, 2, seed)
    split = np.where(np.arange(len(rows.ids)) % 4 == 0, "test", "train").astype(object)
    if says_validation:
        split[1::4] = "val"
    everything = [*rows.ids, "without-label"]
    design = by_split(rows, split, everything, seed=seed)
    (training,), (member,) = design.trainings, design.members
    if says_validation:
        assert set(training.train_ids) == set(rows.ids[split == "train"])
        assert set(training.validation_ids) == set(rows.ids[split == "val"])
    else:
        assert training.seen == set(rows.ids[split == "train"])
    assert not training.seen & set(rows.ids[split == "test"])
    assert member.makers == (("train", tuple(everything)),)
    assert design.cross_fit(member, "x") is None


def test_halves_have_their_share_of_the_classes():
    rows = rows_of([6] * 24, 2, 0)
    design = three_way(rows, folds_of(rows, 4), seed=42)
    shares = [rows.select(m.train_ids).strata.mean() for m in design.members]
    assert np.ptp(shares) < 0.1
    sizes = pd.Series([len(m.train_ids) for m in design.members])
    assert sizes.max() - sizes.min() <= 6
    held = [len(t.validation_ids) / len(t.seen) for t in design.trainings]
    assert 0.1 < np.mean(held) < 0.25


def test_what_cannot_be_made_is_said():
    rows = rows_of([6] * 4, 2, 0)
    with pytest.raises(UsageError, match="nested: 2 folds leave nothing"):
        nested(rows, folds_of(rows, 2), seed=0)
    two = rows_of([6, 6], 2, 0)
    with pytest.raises(UsageError, match="trains on one group"):
        three_way(two, folds_of(two, 2), seed=0)
    with pytest.raises(UsageError, match=r"--split learn: no labelled utterance .*\(there: train\)"):
        by_split(rows, np.array(["train"] * 24, object), rows.ids, train="learn", seed=0)
    one = Rows(rows.ids, np.zeros(24, int), rows.groups)
    with pytest.raises(UsageError, match="learn from 18 utterances of one class"):
        by_split(one, np.array(["train"] * 24, object), rows.ids, seed=0)


def test_anchors_that_leak_are_caught():
    rows = rows_of([4] * 12, 2, 1)
    design = three_way(rows, folds_of(rows, 3), seed=0, aligned=True)
    check(design, rows)
    first, *others = design.members
    for anchor in (first.test_ids[0], design.training(first.makers[0][0]).train_ids[0]):
        tainted = replace(first, anchors=(first.anchors[0], (*first.anchors[1], anchor)))
        with pytest.raises(
            MixedSignalsError, match="1 anchors taught an encoder or are of groups that are tested"
        ):
            check(replace(design, members=(tainted, *others)), rows)
    with pytest.raises(UsageError, match="--align: training p0f0 has no rows on which it stops early"):
        three_way(rows, folds_of(rows, 3), seed=0, validation=0, aligned=True)


@pytest.mark.parametrize("kind", [three_way, nested])
def test_a_design_that_leaks_is_caught(kind):
    rows = rows_of([4] * 12, 2, 1)
    design = kind(rows, folds_of(rows, 3), seed=0)
    check(design, rows)
    first, *others = design.members
    (name, ids), *makers = first.makers

    def with_training(**change):
        changed = [replace(t, **change) if t.name == name else t for t in design.trainings]
        return replace(design, trainings=tuple(changed))

    training = design.training(name)
    tested = first.test_ids[0]
    with pytest.raises(MixedSignalsError, match=r"is trained on groups of .* test rows"):
        check(with_training(train_ids=(*training.train_ids, tested)), rows)
    with pytest.raises(MixedSignalsError, match=r"is trained on groups of .* test rows"):
        check(with_training(validation_ids=(*training.validation_ids, tested)), rows)
    with pytest.raises(MixedSignalsError, match="of the same rows"):
        check(with_training(validation_ids=training.train_ids[:2]), rows)
    with pytest.raises(MixedSignalsError, match="two trainings have one name"):
        check(replace(design, trainings=(*design.trainings, training)), rows)
    fewer = replace(first, makers=((name, ids[1:]), *makers))
    with pytest.raises(MixedSignalsError, match="not each row of its heads has one encoder"):
        check(replace(design, members=(fewer, *others)), rows)
    group = dict(zip(rows.ids, rows.groups, strict=True))
    inner = next(
        one for _, rows_made in (first.makers[-1],) for one in rows_made if one not in first.test_ids
    )
    taught = first.makers[-1][0]
    kin = replace(design.training(taught), train_ids=(*design.training(taught).train_ids, inner))
    leaky = tuple(kin if t.name == taught else t for t in design.trainings)
    assert group[inner] not in {group[one] for one in first.test_ids}
    with pytest.raises(MixedSignalsError, match=r"is trained on groups of .* rows that it makes"):
        check(replace(design, trainings=leaky), rows)
