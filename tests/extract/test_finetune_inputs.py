"""What networks are trained on: read once and kept, or read again, and dealt out into steps."""

import numpy as np
import pytest
import small_encoders
from hypothesis import given, settings
from hypothesis import strategies as st
from small_encoders import RATE, Lengths, make_sound, make_sounds, make_store

from mixed_signals.extract.encoders.base import Output
from mixed_signals.extract.finetune.inputs import Inputs, n_bytes, shortened, steps
from mixed_signals.extract.media import Clip
from mixed_signals.store import Recipe


class Words(Lengths):
    """Texts as they are; what says `nothing` has no windows, and what is odd cannot be cut into any."""

    def windows(self, one):
        if isinstance(one, str) and one == "odd":
            raise ValueError("odd")
        return [] if isinstance(one, str) and one == "nothing" else [one]


class Arrays(Words):
    """A number for each character, of a reader that counts what it reads."""

    def __init__(self):
        super().__init__()
        self.read, read = [], self.reader.read

        def counted(texts):
            self.read += texts
            return [np.zeros(len(text), np.uint8) for text in read(texts)]

        self.reader.read = counted


def test_what_cannot_be_read_is_left_out_with_its_reason(tmp_path):
    said = ["hello", "", "broken", "nothing", "surprise", "well", "odd"]
    inputs = Inputs(make_store(tmp_path, said), Words())
    assert inputs.look([f"u0{i}" for i in range(7)]) == ["u00", "u05"]
    assert inputs.reasons == {
        "u01": "empty transcript",
        "u02": "cannot be read",
        "u03": "nothing in it that the network takes",
        "u04": "KeyError: 'surprise'",
        "u06": "ValueError: odd",
    }


def test_what_has_room_is_read_once(tmp_path):
    encoder = Arrays()
    inputs = Inputs(make_store(tmp_path, ["aaa", "bb", "cccc"]), encoder)
    for _ in range(2):
        inputs.look(["u00", "u01", "u02"])
        found = list(inputs.values([["u02", "u00"], ["u01"]]))
    assert [[len(one) for one in batch] for batch in found] == [[4, 3], [2]]
    assert encoder.read == ["aaa", "bb", "cccc"]


def test_what_has_no_room_is_read_again_and_comes_in_order(tmp_path):
    encoder = Arrays()
    inputs = Inputs(make_store(tmp_path, ["aaa", "bb", "cccc"]), encoder, memory=5)
    inputs.look(["u00", "u01", "u02"])
    found = list(inputs.values([["u02", "u00"], ["u01"]]))
    assert [[len(one) for one in batch] for batch in found] == [[4, 3], [2]]
    assert encoder.read == ["aaa", "bb", "cccc", "cccc"]  # aaa and bb fill the five bytes


class Samples(Words):
    """Counts samples, in worker processes."""

    def __init__(self):
        super().__init__()
        self.outputs = (Output(Recipe("samples", "audio"), ("samples",)),)
        self.reader = small_encoders.Samples()


def test_media_are_decoded_as_in_extraction_and_only_their_beginning_where_that_is_wanted(tmp_path):
    ends = [0.5, np.nan, np.nan]
    store = make_sounds(tmp_path, [8000, 4000, 1000], start=[0.2, np.nan, np.nan], end=ends)
    inputs = Inputs(store, Samples(), workers=1, max_seconds=0.25, memory=0)
    ids = inputs.look(["u00", "u01", "u02"])
    (found,) = inputs.values([ids])
    assert [int(one[0][0]) for one in found] == [2000, 2000, 1000]
    assert inputs.lengths(["u00", "u02"]).max() <= 0.25


def test_the_beginning_of_a_clip(tmp_path):
    make_sound(tmp_path / "a.wav", RATE)
    whole = Clip("a", media=tmp_path / "a.wav")
    assert shortened(whole, 0.5).end == 0.5
    assert shortened(whole, 2.0) is whole
    late = Clip("a", media=tmp_path / "a.wav", start=0.25, end=1.0)
    assert (shortened(late, 0.5).start, shortened(late, 0.5).end) == (0.25, 0.75)
    gone = Clip("a", media=tmp_path / "gone.wav")
    assert shortened(gone, 0.5) is gone


@given(
    lengths=st.lists(st.floats(0, 100), min_size=1, max_size=90),
    batch=st.integers(1, 6),
    accumulate=st.integers(1, 3),
    epoch=st.integers(0, 9),
)
@settings(max_examples=40)
def test_each_row_is_in_one_batch_and_steps_do_not_depend_on_batches(lengths, batch, accumulate, epoch):
    given_lengths = np.array(lengths)
    planned = steps(given_lengths, batch, accumulate, [3, epoch])
    rows = [row for step in planned for part in step for row in part.tolist()]
    assert sorted(rows) == list(range(len(lengths)))
    assert all(len(part) <= batch for step in planned for part in step)
    assert all(len(step) <= accumulate for step in planned)
    assert len(planned) == -(-len(lengths) // (batch * accumulate))
    whole = steps(given_lengths, batch * accumulate, 1, [3, epoch])
    assert [np.concatenate(step).tolist() for step in planned] == [step[0].tolist() for step in whole]


def test_batches_are_of_neighbouring_lengths_and_others_in_every_epoch():
    lengths = np.random.default_rng(0).uniform(0, 100, 640)
    first, second = (steps(lengths, 8, 1, [0, epoch]) for epoch in range(2))
    padded = sum(8 * lengths[batch].max() for (batch,) in first)
    at_random = sum(8 * part.max() for part in lengths.reshape(-1, 8))
    assert padded / lengths.sum() < 1.2
    assert at_random / lengths.sum() > 1.6
    assert {tuple(sorted(batch)) for (batch,) in first}.isdisjoint(
        tuple(sorted(batch)) for (batch,) in second
    )
    assert not np.all(np.diff([lengths[batch].max() for (batch,) in first]) <= 0)
    again = steps(lengths, 8, 1, [0, 0])
    assert all(np.array_equal(one, other) for (one,), (other,) in zip(first, again, strict=True))


def test_memory_is_counted_through_lists_and_tuples():
    assert n_bytes([np.zeros(3), (np.zeros(2, np.uint8), 5.0)]) == 26


@pytest.mark.parametrize("n", [1, 7, 8, 9])
def test_no_step_is_empty(n):
    planned = steps(np.arange(n), 2, 2, [0])
    assert planned
    assert all(step and all(len(part) for part in step) for step in planned)
