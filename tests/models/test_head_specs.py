"""Heads as they are written on the command line, and what a run is called."""

from contextlib import suppress

import pytest
from small_store import planted_store

from mixed_signals.models import head_spec
from mixed_signals.models.cli import _next_name
from mixed_signals.models.keeping import unfinished, unfinished_path
from mixed_signals.store import UsageError


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("gated@hidden=0", "hidden=0: it is a whole number of at least 1"),
        ("gated@learning_rate=nan", "it is a number of at least 0"),
        ("gated@learning_rate=-1", "it is a number of at least 0"),
        ("xgboost@max_depth=two", "max_depth='two': it is a whole number"),
        ("logistic@penalties=0.1", "it is a list of numbers above 0"),
        ("gated@size=3", "no setting 'size'"),
        ("gated@random_state=3", "no setting 'random_state'"),
    ],
)
def test_a_wrong_setting_is_told_before_anything_is_fitted(written, said):
    with pytest.raises(UsageError, match=said):
        head_spec(written).cls("nominal")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("gated@hidden", "'gated@hidden': write a setting as NAME=VALUE"),
        ("gated@=3", "'gated@=3': write a setting as NAME=VALUE"),
        ("svm", "unknown head 'svm'"),
        ("gated@gate=a/b", "leave out the /"),
    ],
)
def test_what_is_no_head_is_refused(written, said):
    with pytest.raises(UsageError, match=said):
        head_spec(written)


def test_settings_reach_the_head():
    head = head_spec("gated@hidden=8@gate=sigmoid@n_scouts=0").make(
        "ordinal", ("a", "b"), {"text": (0, 3)}, 4
    )
    assert (head.hidden, head.gate, head.n_scouts, head.random_state) == (8, "sigmoid", 0, 4)
    assert head.ordinal


def test_a_run_without_a_name_leaves_an_unfinished_one_alone(tmp_path):
    store = planted_store(tmp_path, n=48, strengths={"text": 1.0})
    assert _next_name(store) == "run1"
    with suppress(KeyboardInterrupt), unfinished(store, "run1") as folder:
        (folder / "logistic.p0.f0.0.npz").write_bytes(b"")
        raise KeyboardInterrupt
    assert _next_name(store) == "run2"
    with suppress(ValueError), unfinished(store, "run2"):
        raise ValueError
    assert not unfinished_path(store, "run2").exists()  # nothing was done
