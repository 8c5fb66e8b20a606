"""What the benchmark of large corpora foretells, it foretells from what it measured."""

import math
import time

import numpy as np
import pytest
from benchmark_growth import Growth, spend

SIZES = (10_000, 100_000, 1_000_000)


def test_a_fixed_part_and_a_part_for_each_row_are_told_apart():
    found = Growth(SIZES, [3 + 2e-6 * n for n in SIZES])
    assert found.power < 1
    assert found.at(10**8) == found.at_most(10**8) == pytest.approx(203)
    assert found.rows_for(203) == pytest.approx(10**8)


def test_what_grows_faster_than_rows_goes_on_so():
    found = Growth(SIZES, [n**1.5 for n in SIZES])
    assert found.power == pytest.approx(1.5)
    assert found.at_most(10**8) == pytest.approx(10**12)
    assert found.at(10**8) < 10**12 / 5


def test_what_does_not_grow_never_fills_anything():
    found = Growth(SIZES, [0.0, 0.0, 0.0])
    assert math.isnan(found.power)
    assert (found.at(10**8), found.rows_for(1)) == (0, math.inf)


def preparing(folder):
    """Prepare for long with little, then take eighty megabytes and leave a file."""
    (folder / "before").write_bytes(bytes(5_000))
    time.sleep(1.5)
    yield
    taken = np.ones(10_000_000)
    time.sleep(0.05)
    (folder / "after").write_bytes(bytes(int(taken[0]) * 1_000))


def test_a_step_is_measured_without_what_prepares_it(tmp_path):
    spent = spend(preparing, tmp_path, folder=tmp_path)
    assert 0.05 <= spent.seconds < 1.5
    assert 80e6 <= spent.memory < 100e6
    assert spent.disk == 1_000


def failing():
    yield
    raise ValueError("as it happens")


def test_a_step_that_fails_is_no_measurement(tmp_path):
    with pytest.raises(RuntimeError, match="failing"):
        spend(failing, folder=tmp_path)
