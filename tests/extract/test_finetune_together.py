"""One encoder that several processes train: the same numbers as with one, and none is left hanging where one ends."""

import json
import multiprocessing
import os
import signal
import sys
import threading

import numpy as np
import pytest
import trained_together
from other_processes import until
from safetensors.torch import load_file
from trained_together import all_together
from tunable import BrokenOffError, N, breaking, call, planted_store, said_in, save_bert, written_metrics

from mixed_signals.extract.finetune.cli import app
from mixed_signals.extract.finetune.in_turn import train_encoders
from mixed_signals.extract.finetune.job import plan
from mixed_signals.extract.finetune.parallel import check_together, meeting_place
from mixed_signals.extract.finetune.ranks import Place
from mixed_signals.extract.finetune.request import Request
from mixed_signals.extract.finetune.settings import Settings
from mixed_signals.extract.side_by_side import run_side_by_side
from mixed_signals.store import UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where both processes did all trainings; what they said is in ``told``."""
    folder = tmp_path_factory.mktemp("together")
    planted_store(folder / "corpus", split=np.resize(["train", "train", "test", "test"], N))
    save_bert(folder / "tiny-text", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    with pytest.raises(BrokenOffError):
        trained_together.run(folder, "begun alone", on_progress=breaking(3, 2))
    told = []
    with meeting_place() as port:
        calls = [(f"{number}", (folder, Place(number, 2, port))) for number in range(2)]
        run_side_by_side(all_together, calls, told.append, one_for_all=True)
    (folder / "told").write_text(json.dumps(sorted(told)))
    return folder


def told(folder, name):
    """Return what each process came to: scores, and how many texts it read."""
    return [said[2:] for said in json.loads((folder / "told").read_text()) if said[1] == name]


def best(folder):
    (path,) = (folder / "state").glob("best-*")
    return load_file(path)


def assert_same(one, other):
    """Compare what two trainings wrote: but for rounding the same."""
    assert sorted(path.name for path in one.rglob("*")) == sorted(path.name for path in other.rglob("*"))
    for said, expected in zip(written_metrics(one), written_metrics(other), strict=True):
        assert said.pop("measure", None) == expected.pop("measure", None)
        assert said == pytest.approx(expected, rel=2e-3, abs=1e-5)
    found, expected = best(one), best(other)
    for name in expected:
        if name.endswith(
            "key.bias"
        ):  # has no gradient, as the softmax takes it out; AdamW makes steps of its rounding
            continue
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", ["batches", "accumulated", "one row at a time, in float16"])
def test_two_processes_come_to_the_numbers_of_one(folder, name):
    """With classes of other weights, shares of other sizes, and steps in which one has nothing to do."""
    trained, n_read = trained_together.run(folder, name)
    assert_same(folder / "together" / name, folder / "alone" / name)
    (scores, n_first), (others, n_second) = told(folder, name)
    assert scores == others == pytest.approx(trained.scores, abs=1e-6)
    assert n_read == len(trained_together.TRAINING.seen) == 32
    if "float16" not in name:
        assert 16 < n_first <= 32
        assert 16 < n_second <= 32


def test_a_training_begun_on_one_goes_on_on_two(folder):
    trained_together.run(folder, "batches", where=folder / "once")
    assert_same(folder / "alone" / "begun alone", folder / "once")


def test_a_training_begun_on_two_goes_on_on_one(folder):
    begun = folder / "together" / "begun together"
    assert len([one for one in written_metrics(begun) if "score" in one]) == 2
    epochs = []
    trained_together.run(
        folder, "begun together", where=begun, on_progress=lambda progress: epochs.append(progress.epoch)
    )
    assert min(epochs) == 3
    trained_together.run(folder, "batches", where=folder / "once more")
    assert_same(begun, folder / "once more")


def test_all_stop_when_the_first_says(folder):
    """The second one's own scores would have it go on."""
    assert [scores for scores, _ in told(folder, "stops early")] == [[0.5, 0.9, 0.8, 0.7]] * 2


def test_a_loss_that_is_no_number_ends_both(folder):
    first, second = told(folder, "explodes")
    assert first == second
    assert "lower --learning-rate" in first[0]


def test_an_encoder_that_two_trained_is_kept_by_one(folder):
    (kept,) = (folder / "corpus" / "store" / "encoders" / "text").glob("tiny-text.tuned")
    assert json.loads((kept / "training.json").read_text())["epochs"] == trained_together.PLAIN.epochs
    assert not (kept / "state").exists()
    assert trained_together.job_of(folder).todo == []


def test_where_one_is_killed_all_end_with_one_error_and_the_same_call_goes_on(tmp_path):
    store = planted_store(tmp_path, n=32, split=np.resize(["train", "train", "test", "test"], 32))
    encoder = save_bert(tmp_path / "tiny")
    settings = Settings(epochs=500, patience=0, batch_size=4)
    flags = ["--split", "train", "--epochs", "500", "--patience", "0", "--batch-size", "4"]
    state = store.path / "encoders" / "text" / ".tiny.tuned.part" / "state" / "last.safetensors"

    def kill_the_first():
        until(lambda: state.exists() or called.is_set(), 300)
        ranks = {child.pid for child in multiprocessing.active_children()} - before
        os.kill(min(ranks), signal.SIGKILL)

    before = {child.pid for child in multiprocessing.active_children()}
    called = threading.Event()
    killer = threading.Thread(target=kill_the_first)
    killer.start()
    result = call(app, store.path, "--text", encoder, *flags, "--devices", "cpu,cpu", "--spread")
    called.set()
    killer.join()
    assert str(result.exception).startswith(
        "cpu: its process ended with exit code -9; what was done is kept, the same command goes on from there"
    )
    assert "text train (1 of 1): epoch 1 of 500" in said_in(result)
    assert {child.pid for child in multiprocessing.active_children()} <= before
    epochs = []

    def stop(step):
        epochs.append(step.progress.epoch)
        raise BrokenOffError

    with pytest.raises(BrokenOffError):
        train_encoders(
            plan(Request(store.path, (("text", str(encoder)),), settings, split="train"), "cpu"), on_step=stop
        )
    assert epochs[0] > 1


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        (["cpu"], "name them"),
        (["mps", "mps"], "use several GPUs"),
        (["cuda:0", "cpu"], "use several GPUs"),
        (["cuda:1", "cuda:1"], "name each GPU once"),
        (["cuda", "cuda:0"], "name each GPU once"),
    ],
)
def test_devices_that_cannot_train_together_are_refused(devices, said):
    with pytest.raises(UsageError, match=f"^--spread: .*{said}"):
        check_together(devices)


def test_accelerate_that_is_not_there_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(UsageError, match=r"pip install 'mixed-signals\[finetune\]', or leave the flag out"):
        check_together(["cpu", "cpu"])
