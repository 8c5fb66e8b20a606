"""Processes side by side: what one tells arrives, and what becomes of the others where one fails."""

import multiprocessing
import time

import pytest
from side_by_side_work import work

from mixed_signals.extract.side_by_side import run_side_by_side
from mixed_signals.store import MixedSignalsError


def calls(*what):
    return [(f"d{number}", (one,)) for number, one in enumerate(what)]


@pytest.mark.parametrize(
    ("what", "said"), [("fails", "x: failed"), ("dies", "d1: its process ended with exit code -9")]
)
def test_where_none_can_go_on_alone_all_end_with_one_error(what, said):
    before, began = multiprocessing.active_children(), time.monotonic()
    with pytest.raises(MixedSignalsError) as caught:
        run_side_by_side(work, calls("goes on", what, what), lambda said: None, one_for_all=True)
    assert str(caught.value).replace("d2", "d1").partition(";")[0] == said
    assert str(caught.value).count(";") == 1
    assert time.monotonic() - began < 60
    assert [child for child in multiprocessing.active_children() if child not in before] == []


def test_otherwise_the_others_are_let_finish_and_each_error_is_told():
    told = []
    with pytest.raises(MixedSignalsError, match=r"x: failed.*what was done is kept") as caught:
        run_side_by_side(work, calls("takes a second", "fails", "dies"), told.append)
    assert "d2: its process ended with exit code -9" in str(caught.value)
    assert {what for what, _ in told} == {"takes a second", "fails", "dies", "done"}
