"""What all networks share, on one so plain that every number can be said beforehand: layer i is the input times i."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixed_signals.extract.checkpoints import Checkpoint
from mixed_signals.extract.encoders.base import Reader
from mixed_signals.extract.encoders.pooling import POOLINGS, combine, needed, pool
from mixed_signals.extract.encoders.transformer import Readout, TransformerEncoder
from mixed_signals.store import MixedSignalsError, Status, UsageError

N_LAYERS, WIDTH = 4, 3
ALL = [Readout("last", pooling) for pooling in POOLINGS]


class Plain(TransformerEncoder):
    """An utterance is a list of windows, each (n, WIDTH); padding is NaN, so that none may enter a result."""

    modality = "text"
    budgets = {"cpu": 12, "cuda": 1000}  # noqa: RUF012
    n_layers, width = N_LAYERS, WIDTH
    preprocessing = {"spaces": "kept"}  # noqa: RUF012
    padding_changes = False
    most = 10**9

    def make_reader(self):
        return Reader()

    def load(self):
        self.seen = []
        self._network = self._run_network

    def _run_network(self, values, output_hidden_states=False):
        if output_hidden_states:
            hidden = [values * i for i in range(N_LAYERS + 1)]
            return SimpleNamespace(last_hidden_state=hidden[-1], hidden_states=hidden)
        return SimpleNamespace(last_hidden_state=values * N_LAYERS)

    def windows(self, one):
        if isinstance(one, str):
            raise ValueError(one)
        return one

    def length(self, window):
        return len(window)

    def collate(self, windows):
        values = torch.full((len(windows), max(map(len, windows)), WIDTH), torch.nan)
        for row, window in zip(values, windows, strict=True):
            row[: len(window)] = torch.from_numpy(window)
        return {"values": values}

    def states(self, tensors, layers):
        values = tensors["values"]
        mask = ~values.isnan().any(dim=2)
        self.seen.append(tuple(values.shape[:2]))
        if values.shape[0] * values.shape[1] > self.most:
            raise self.no_memory
        if (values == 666).any():
            raise IndexError("a token that is none\nsecond line")
        return self.read(layers, values=values), mask

    no_memory = torch.OutOfMemoryError("CUDA out of memory")


def checkpoint(name="plain"):
    return Checkpoint(name=name, folder=None, config={}, fingerprint="f00d", revision="main")


def plain(*readouts, **options):
    encoder = Plain(checkpoint(), readouts, **options)
    encoder.load()
    return encoder


def utterances(*lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [[rng.standard_normal((n, WIDTH)).astype(np.float32) for n in parts] for parts in lengths]


def expected(windows, pooling):
    whole = np.concatenate(windows) * N_LAYERS
    return {
        "mean": lambda: whole.mean(axis=0),
        "std": lambda: whole.std(axis=0),
        "max": lambda: whole.max(axis=0),
        "first": lambda: np.mean([window[0] for window in windows], axis=0) * N_LAYERS,
        "last": lambda: np.mean([window[-1] for window in windows], axis=0) * N_LAYERS,
    }[pooling]()


def test_windows_of_an_utterance_are_pooled_as_declared():
    inputs = utterances([3], [1], [5, 4, 4], [12, 1], [2])
    encoder = plain(*ALL)
    for one, found in zip(inputs, encoder.encode(encoder.pack(inputs)), strict=True):
        assert found.status == Status.OK
        for pooling, vector in zip(POOLINGS, found.vectors, strict=True):
            np.testing.assert_allclose(vector, expected(one, pooling), rtol=1e-5, atol=1e-6)
            assert vector.dtype == np.float32
    assert len(encoder.seen) > 1


@given(
    st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=8), st.integers(1, 40)
)
def test_neither_the_budget_nor_the_neighbours_change_a_result(lengths, budget):
    inputs = utterances(*lengths)
    encoder = plain(*ALL)
    encoder.budget = budget
    together = encoder.encode(encoder.pack(inputs))
    assert all(n * longest <= budget or n == 1 for n, longest in encoder.seen)
    for one, found in zip(inputs, together, strict=True):
        (alone,) = encoder.encode(encoder.pack([one]))
        np.testing.assert_allclose(found.vectors, alone.vectors, rtol=1e-5, atol=1e-5)


@given(
    st.lists(st.floats(0.001, 50), max_size=60),
    st.integers(1, 500),
    st.integers(1, 20),
)
def test_planned_batches_hold_each_once_and_neighbours_in_length(lengths, budget, most_rows):
    encoder = plain()
    encoder.budget, encoder.most_rows = budget, most_rows
    planned = encoder.batches(np.array(lengths))
    assert sorted(i for batch in planned for i in batch) == list(range(len(lengths)))
    at = [lengths[i] for batch in planned for i in batch]
    assert [max(one, 1) for one in at] == sorted((max(one, 1) for one in at), reverse=True)
    for batch in planned:
        cost = max(max(lengths[i], 1) for i in batch) * len(batch)
        assert len(batch) <= most_rows
        assert cost <= budget * encoder.passes_a_batch or len(batch) == 1


@pytest.mark.parametrize("side", ["left", "right", "none"])
def test_masked_positions_never_count(side):
    states = torch.randn(3, 6, 2, generator=torch.manual_seed(0))
    lengths = [6, 6, 6] if side == "none" else [2, 6, 1]
    mask = torch.zeros(3, 6, dtype=torch.bool)
    for row, n in zip(mask, lengths, strict=True):
        row[slice(6 - n, 6) if side == "left" else slice(n)] = True
    states[~mask] = 1e30
    found = pool(states, None if side == "none" else mask, POOLINGS).numpy()
    for row, keep, of_one in zip(states.numpy(), mask.numpy(), found, strict=True):
        real = row[keep]
        plain = [real.mean(axis=0), real[0], real[-1], real.max(axis=0), real.std(axis=0)]
        np.testing.assert_allclose(of_one, plain, rtol=1e-5, atol=1e-6)


def test_the_spread_over_windows_counts_how_far_they_are_apart():
    parts = needed(["std"])
    windows = np.array([[[1.0], [0.0]], [[4.0], [1.0]]])  # means 1 and 4, each with its own spread
    assert parts == ("mean", "std")
    found = combine(windows, np.array([1, 3]), parts, "std")
    np.testing.assert_allclose(found, [np.sqrt(27 / 16 + 3 / 4)])


def test_several_readouts_come_out_of_one_pass():
    readouts = [Readout("0", "max"), Readout("3", "mean"), Readout("last", "mean"), Readout("3", "std")]
    encoder = plain(*readouts)
    (one,) = inputs = utterances([4])
    (found,) = encoder.encode(encoder.pack(inputs))
    assert len(encoder.seen) == 1
    scales = [0, 3, N_LAYERS, 3]
    for readout, scale, vector in zip(readouts, scales, found.vectors, strict=True):
        pooled = {"max": np.max, "mean": np.mean, "std": np.std}[readout.pooling](one[0] * scale, axis=0)
        np.testing.assert_allclose(vector, pooled, rtol=1e-5, atol=1e-6)
    assert [(output.layer, output.pooling) for output in encoder.outputs] == readouts
    assert [(output.recipe.layer, output.recipe.pooling) for output in encoder.outputs] == readouts


def test_hidden_states_are_asked_for_where_they_are_wanted():
    asked = []
    encoder = plain(Readout("last", "mean"))
    network = encoder._network
    encoder._network = lambda **inputs: asked.append(set(inputs)) or network(**inputs)
    encoder.encode(encoder.pack(utterances([2])))
    assert asked == [{"values"}]


def test_a_recipe_says_how_its_vectors_are_made():
    output = Plain(checkpoint(), dtype="bfloat16").outputs[0]
    recipe = output.recipe
    assert (recipe.encoder, recipe.weights, recipe.revision) == ("plain", "f00d", "main")
    assert (recipe.layer, recipe.pooling, recipe.dtype) == ("last", "mean", "bfloat16")
    assert recipe.preprocessing == {"spaces": "kept"}
    assert (output.layer, output.pooling) == ("", "")
    assert output.dimensions == ("plain_0", "plain_1", "plain_2")
    prints = {Plain(checkpoint(), [one]).outputs[0].recipe.fingerprint for one in [*ALL, Readout("2", "std")]}
    assert len(prints) == 6
    (asked,) = Plain(checkpoint(), [Readout("2", "")]).outputs
    assert (asked.layer, asked.pooling) == ("2", "mean")  # the pooling that is the encoder's own


@pytest.mark.parametrize(
    ("readout", "said"),
    [
        (
            Readout("5", "mean"),
            r"--text plain: no layer '5': use last, or a number from 0 \(embeddings\) to 4",
        ),
        (Readout("-1", "mean"), "no layer '-1'"),
        (Readout("last", "median"), "no pooling 'median': use mean, first, last, max, std"),
    ],
)
def test_layers_and_poolings_that_are_none_are_refused(readout, said):
    with pytest.raises(UsageError, match=said):
        Plain(checkpoint(), [readout])


def test_a_precision_that_is_none_is_refused():
    with pytest.raises(UsageError, match="--dtype 'int8': use float32, bfloat16, float16"):
        Plain(checkpoint(), dtype="int8")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"
        ),
        MemoryError(),
    ],
)
def test_where_memory_runs_out_passes_are_halved_and_that_is_remembered(error, caplog):
    encoder = plain()
    encoder.budget, encoder.most, encoder.no_memory = 64, 10, error
    inputs = utterances(*([2] for _ in range(40)))
    with caplog.at_level(logging.WARNING):
        found = encoder.encode(encoder.pack(inputs))
    assert [one.status for one in found] == [Status.OK] * 40
    for one, made in zip(inputs, found, strict=True):
        np.testing.assert_allclose(made.vectors[0], expected(one, "mean"), rtol=1e-5)
    too_much = [n * longest for n, longest in encoder.seen if n * longest > 10]
    assert too_much == [64, 32, 16]  # each size is tried once, also of passes that were packed before
    assert encoder.budget == 8
    assert len(caplog.messages) == 3
    encoder.seen.clear()
    encoder.encode(encoder.pack(inputs))
    assert max(n * longest for n, longest in encoder.seen) <= 8


def test_an_utterance_too_large_for_the_memory_fails_alone():
    encoder = plain()
    encoder.most = 10
    found = encoder.encode(encoder.pack(utterances([2], [11], [1, 1], [30, 1], [10])))
    assert [one.status for one in found] == [Status.OK, Status.FAILED, Status.OK, Status.FAILED, Status.OK]
    assert found[1].reason == "not enough memory on cpu for it alone (length 11)"


def test_a_fault_of_one_utterance_is_its_own():
    inputs = utterances([2], [2, 2], [2], [2])
    inputs[1][1][0, 0] = 666
    encoder = plain()
    found = encoder.encode(encoder.pack([*inputs, "cannot be split", []]))
    assert [one.status.name for one in found] == ["OK", "FAILED", "OK", "OK", "FAILED", "FAILED"]
    assert found[1].reason == "IndexError: a token that is none"
    assert found[4].reason == "ValueError: cannot be split"
    assert found[5].reason == "nothing in it that the network takes"


def test_a_device_that_is_lost_ends_the_job_rather_than_failing_every_row():
    encoder = plain()
    encoder.most, encoder.no_memory = 1, torch.AcceleratorError("CUDA error: device-side assert triggered")
    with pytest.raises(MixedSignalsError, match=r"plain: cpu gave up: .*device-side assert"):
        encoder.encode(encoder.pack(utterances([2], [3])))


def test_windows_without_a_real_position_fail_rather_than_give_nan():
    encoder = plain()
    inputs = utterances([2], [1])
    inputs[1][0][:] = np.nan
    found = encoder.encode(encoder.pack(inputs))
    assert [one.status for one in found] == [Status.OK, Status.FAILED]
    assert "no position" in found[1].reason


def test_equal_lengths_share_a_pass_where_padding_would_change_them():
    encoder = plain()
    encoder.padding_changes = True
    inputs = utterances([2], [3], [2, 3], [1])
    assert [sorted(one.windows) for one in encoder.pack(inputs).passes] == [[1, 3], [0, 2], [4]]


def test_numbers_that_are_not_the_networks_layers_are_refused():
    class Other(Plain):
        n_layers = N_LAYERS - 1  # as its configuration counts

    encoder = Other(checkpoint(), [Readout("1", "mean")])
    encoder.load()
    (found,) = encoder.encode(encoder.pack(utterances([3])))
    assert found.status == Status.FAILED
    assert "gives 5 layers, not 4: read last alone" in found.reason
