"""The self-test fails where it should: one vector among many that is none, one that can be made only alone."""

import numpy as np
import pytest
from small_encoders import AsIs, Lengths, make_store

from mixed_signals.extract.checking import check
from mixed_signals.extract.encoders.base import Encoded
from mixed_signals.store import MixedSignalsError, Status

SAID = ["one", "three", "eleven", "thirteen"]


class InCompany(Lengths):
    """Gives other vectors to some texts where it sees several at once."""

    def __init__(self, said=""):
        super().__init__()
        self.said, self.reader, self.budget = said, AsIs(), 0

    def encode(self, packed):
        alone = super().encode(packed)
        return [
            self.said if len(packed) > 1 and one == "eleven" else same
            for one, same in zip(packed, alone, strict=True)
        ]

    def close(self):
        self.loaded = False


@pytest.mark.parametrize(
    ("said", "difference"),
    [
        (Encoded(Status.OK, (np.array([6]),)), 0),
        (Encoded(Status.OK, (np.array([9]),)), 0.5),
        (Encoded(Status.OK, (np.array([np.nan]),)), np.nan),
        (Encoded(Status.FAILED, reason="too much"), np.inf),
    ],
)
def test_what_differs_in_company_is_never_ok(tmp_path, said, difference):
    (found,) = check(make_store(tmp_path, SAID), InCompany(said))
    np.testing.assert_equal(found.difference, difference)
    assert found.n == 4
    assert found.ok == (difference == 0)


def test_two_utterances_are_needed(tmp_path):
    with pytest.raises(MixedSignalsError, match="needs two utterances that can be read, and found 1"):
        check(make_store(tmp_path, ["one", "broken", ""]), InCompany())
