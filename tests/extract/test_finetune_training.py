"""Training, on tiny networks of random weights: that it learns, goes on where it was broken off, and keeps the best."""

import json
import pickletools
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from other_processes import started, until
from safetensors.torch import load_file
from tunable import CLASSES, QUICK, Bench, BrokenOffError, breaking, labels_of, part, written_metrics

from mixed_signals.extract.encoders import make_encoder
from mixed_signals.extract.finetune.designs import Training
from mixed_signals.extract.finetune.labels import Coding, Labels
from mixed_signals.extract.finetune.learning import Learner
from mixed_signals.extract.finetune.network import Classifier
from mixed_signals.extract.finetune.settings import PRESETS, Settings
from mixed_signals.extract.finetune.state import read
from mixed_signals.store import MixedSignalsError, UsageError

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("text"))


def weights(classifier):
    return {name: one.detach().clone() for name, one in classifier.state_dict().items()}


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("modality", ["text", "audio", "video"])
def test_training_raises_held_out_accuracy(tmp_path, modality):
    bench = Bench(tmp_path, modality, n=96 if modality == "text" else 36)
    training = part(bench.ids)
    held_out = bench.ids[len(training.train_ids) + len(training.validation_ids) :]
    before = np.mean([bench.accuracy(bench.untrained(seed), held_out) for seed in range(8)])
    trained = bench.train(tmp_path / "run", replace(QUICK, epochs=8), training)
    after = bench.accuracy(trained.classifier, held_out)
    assert 0.25 < before < 0.75
    assert after > 0.9
    assert trained.score > 0.8
    assert trained.measure == "macro F1"


@pytest.mark.parametrize("at", [(2, 3), (3, 1)], ids=["between epochs", "within an epoch"])
def test_a_training_that_was_broken_off_comes_to_the_same_bit_for_bit(bench, tmp_path, at):
    whole = bench.train(tmp_path / "whole")
    expected = weights(whole.classifier)
    with pytest.raises(BrokenOffError):
        bench.train(tmp_path / "broken", on_progress=breaking(*at))
    assert read(tmp_path / "broken" / "state" / "last.safetensors")[1].epoch == 2
    torch.manual_seed(99)  # nothing depends on what torch would draw here
    resumed = bench.train(tmp_path / "broken")
    assert same(weights(resumed.classifier), expected)
    assert resumed.scores == whole.scores
    assert written_metrics(tmp_path / "broken") == written_metrics(tmp_path / "whole")


@pytest.mark.usefixtures("one_thread")  # as in the child
def test_a_training_that_was_killed_comes_to_the_same_bit_for_bit(tmp_path):
    settings = replace(QUICK, epochs=6)
    bench = Bench(tmp_path)
    expected = weights(bench.train(tmp_path / "whole", settings).classifier)
    metrics = tmp_path / "killed" / "metrics.jsonl"

    def in_the_third_epoch():
        return metrics.exists() and metrics.read_text().count('"epoch": 3, "step"') >= 2

    with started(CHILD, tmp_path) as child:
        until(in_the_third_epoch, 300, alive=child)
        child.kill()
    assert read(tmp_path / "killed" / "state" / "last.safetensors")[1].epoch == 2
    resumed = bench.train(tmp_path / "killed", settings)
    assert same(weights(resumed.classifier), expected)
    assert written_metrics(tmp_path / "killed") == written_metrics(tmp_path / "whole")


CHILD = """
import sys, time
from dataclasses import replace
import torch
from tunable import QUICK, Bench

torch.set_num_threads(1)
bench = Bench(sys.argv[1])
slow = lambda progress: time.sleep(60 if (progress.epoch, progress.step) == (3, 2) else 0)
bench.train(bench.folder / "killed", replace(QUICK, epochs=6), on_progress=slow)
"""


def test_a_training_that_is_done_is_not_done_again(bench, tmp_path):
    first = bench.train(tmp_path)
    expected, told = weights(first.classifier), []
    again = bench.train(tmp_path, on_progress=told.append)
    assert same(weights(again.classifier), expected)
    assert (again.score, again.epoch, again.scores, told) == (first.score, first.epoch, first.scores, [])


@pytest.mark.parametrize("change", [{"seed": 1}, {"settings": replace(QUICK, epochs=5)}])
def test_the_folder_of_another_recipe_is_refused(bench, tmp_path, change):
    bench.train(tmp_path, replace(QUICK, epochs=1))
    with pytest.raises(UsageError, match="another recipe"):
        bench.train(tmp_path, **({"settings": replace(QUICK, epochs=1)} | change))


def test_two_batches_of_four_are_a_batch_of_eight(tmp_path):
    bench = Bench(tmp_path, **STILL)
    rows = [*bench.ids[:10:2], *bench.ids[1:6:2]]  # five of one class, three of the other
    ids = [*rows, *bench.ids[10:40:2]]
    found = {}
    for name, batches in (("8", [rows]), ("4+4", [rows[:4], rows[4:]]), ("4", [rows[:4]])):
        bench.encoder.load()
        torch.manual_seed(0)
        coding = Coding.of(bench.labels, ids, class_weights=True)
        classifier = Classifier(bench.encoder, coding, replace(QUICK, dropout=0.0))
        learner = Learner(classifier, bench.inputs, bench.labels, replace(QUICK, dropout=0.0, clip=1e9))
        bench.inputs.look(rows)
        loss, norm = learner.step(batches, learner.packed(batches))
        gradient = torch.cat([one.grad.flatten() for one in learner.trainable.values()])
        found[name] = (loss, norm, gradient)
    assert found["4+4"][:2] == pytest.approx(found["8"][:2], rel=1e-5)
    torch.testing.assert_close(found["4+4"][2], found["8"][2], rtol=1e-3, atol=1e-6)
    assert (found["4"][2] - found["8"][2]).abs().max() > 1e-3


def test_a_run_that_accumulates_takes_the_same_steps(tmp_path):
    bench = Bench(tmp_path, **STILL)
    settings = replace(QUICK, epochs=2, dropout=0.0)
    bench.train(tmp_path / "8", settings)
    bench.train(tmp_path / "4+4", replace(settings, batch_size=4, accumulate=2))
    losses = [
        [one["loss"] for one in written_metrics(tmp_path / run) if "step" in one] for run in ("8", "4+4")
    ]
    assert len(losses[0]) == 6
    np.testing.assert_allclose(*losses, rtol=5e-3)


def test_each_class_counts_alike():
    values = {f"u{i}": "warm" if i < 2 else "calm" for i in range(10)}
    labels = Labels("nominal", (*CLASSES, "cold"), values)
    coding = Coding.of(labels, list(values), class_weights=True)
    assert coding.weights[:2] == (10 / 16, 10 / 4)
    assert coding.weights[0] * 8 == coding.weights[1] * 2
    assert Coding.of(labels, list(values), class_weights=False).weights == (1.0, 1.0, 1.0)


def test_the_loss_weighs_rows_by_class(bench, tmp_path):
    rare = Training("t", (*bench.ids[0:16:2], bench.ids[1]), ())
    first = {}
    for weighted in (True, False):
        settings = replace(QUICK, epochs=1, batch_size=16, class_weights=weighted)
        trained = bench.train(tmp_path / str(weighted), settings, rare)
        (first[weighted],) = [
            one["gradient_norm"] for one in written_metrics(tmp_path / str(weighted)) if "step" in one
        ]
        assert trained.classifier.coding.weights == ((9 / 16, 9 / 2) if weighted else (1.0, 1.0))
    assert first[True] != first[False]


def test_the_best_epoch_is_kept_and_not_the_last(bench, tmp_path, monkeypatch):
    scores, after = iter([0.3, 0.9, 0.9, 0.1]), []

    def score(self, ids):
        after.append({name: one.detach().clone() for name, one in self.trainable.items()})
        return next(scores), 1.0

    monkeypatch.setattr(Learner, "score", score)
    trained = bench.train(tmp_path)
    assert (trained.epoch, trained.score, trained.epochs) == (2, 0.9, 4)
    kept = dict(trained.classifier.named_parameters())
    assert all(torch.equal(kept[name], value) for name, value in after[1].items())
    assert not all(torch.equal(kept[name], value) for name, value in after[3].items())
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == [
        "best-0002.safetensors",
        "last.safetensors",
    ]


def test_it_stops_when_nothing_gets_better(bench, tmp_path, monkeypatch):
    scores = iter([0.3, 0.9, 0.8, 0.9, 0.7, 0.6])
    monkeypatch.setattr(Learner, "score", lambda self, ids: (next(scores), 1.0))
    trained = bench.train(tmp_path, replace(QUICK, epochs=6, patience=2))
    assert trained.scores == (0.3, 0.9, 0.8, 0.9)
    assert trained.epoch == 2


def test_without_validation_rows_the_last_epoch_is_kept(bench, tmp_path):
    trained = bench.train(tmp_path, training=Training("t", tuple(bench.ids[:16]), ()))
    assert (trained.score, trained.epoch, trained.scores) == (None, 4, (None,) * 4)


def test_a_loss_that_is_no_number_stops_the_training(bench, tmp_path):
    settings = replace(QUICK, learning_rate=1e30, head_learning_rate=1e30, warmup=0.0)
    with pytest.raises(
        MixedSignalsError, match=r"planted: the .* in step \d of epoch 1: lower --learning-rate"
    ) as caught:
        bench.train(tmp_path, settings)
    assert "\n" not in str(caught.value)


def test_a_number_is_learnt_too(bench, tmp_path):
    values = {one: 3.0 + (name == "warm") for one, name in zip(bench.ids, labels_of(48), strict=True)}
    trained = bench.train(tmp_path, replace(QUICK, epochs=15), labels=Labels("interval", (), values))
    assert trained.measure == "concordance"
    assert trained.score > 0.5
    assert trained.classifier.coding.mean == pytest.approx(3.5)


def test_several_labels_at_once_are_refused():
    with pytest.raises(UsageError, match="--target: a multilabel target cannot train an encoder"):
        Labels("multilabel", CLASSES, {})


def test_rows_of_one_class_are_refused(bench, tmp_path):
    with pytest.raises(MixedSignalsError, match="nothing to tell apart"):
        bench.train(tmp_path, training=Training("t", tuple(bench.ids[0:8:2]), ()))


def test_where_a_class_cannot_be_read_the_rows_are_named(tmp_path):
    bench = Bench(tmp_path, n=24)
    bench.inputs.look(bench.ids)
    bench.inputs.reasons |= dict.fromkeys(bench.ids[1::2], "empty transcript")
    with pytest.raises(MixedSignalsError) as caught:
        bench.train(tmp_path / "run")
    assert "only 'calm', without 12 rows that cannot be read (u001: empty transcript); mend" in str(
        caught.value
    )


MASKING = {
    **{"mask_time_prob": 0.9, "mask_time_length": 500, "mask_feature_prob": 0.9, "mask_feature_length": 4},
    **{"layerdrop": 0.9},
}


def test_what_speech_networks_mask_and_skip_in_training_is_off_and_nothing_is_drawn_from_numpy(tmp_path):
    """A mask of 500 frames is longer than the sounds: transformers would refuse it."""
    bench, learned = Bench(tmp_path, "audio", n=16, **MASKING), []
    masking = tmp_path / "tiny-audio"
    plain = shutil.copytree(masking, tmp_path / "plain")
    config = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps(config | {"apply_spec_augment": False, "layerdrop": 0.0}))
    settings = replace(QUICK, epochs=2, batch_size=4, layers="all")
    np.random.seed(7)  # noqa: NPY002 - transformers draws from this generator
    before = np.random.get_state()  # noqa: NPY002
    for folder in (masking, plain):
        bench.encoder = make_encoder("audio", str(folder), device="cpu")
        learned.append(weights(bench.train(folder / "whole", settings).classifier))
    after = np.random.get_state()  # noqa: NPY002
    assert (before[1] == after[1]).all()
    assert before[2] == after[2]
    assert same(*learned)


def test_nothing_is_pickled(bench, tmp_path):
    trained = bench.train(tmp_path)
    trained.classifier.save(tmp_path / "saved")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json", ".jsonl"}
    for path in files:
        assert not is_pickle(path.read_bytes()), path
        if path.suffix == ".safetensors":
            load_file(path)


def is_pickle(content):
    """Return whether bytes are a pickle, or an archive such as torch.save writes."""
    if content.startswith(b"PK\x03\x04"):
        return True
    try:
        return any(code.name == "STOP" for code, *_ in pickletools.genops(content))
    except Exception:
        return False


def test_what_says_it_is_a_pickle_is_found(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "a")
    assert is_pickle((tmp_path / "a").read_bytes())
    torch.save({"a": torch.ones(1)}, tmp_path / "b", _use_new_zipfile_serialization=False)
    assert is_pickle((tmp_path / "b").read_bytes())


def test_torch_draws_as_if_nothing_had_been_trained(bench, tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    bench.train(tmp_path, replace(QUICK, epochs=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_progress_and_metrics_tell_of_every_step_and_epoch(bench, tmp_path):
    told = []
    bench.train(tmp_path, replace(QUICK, epochs=2, batch_size=4, accumulate=2), on_progress=told.append)
    assert [(one.epoch, one.step) for one in told] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    assert told[-1].seconds_left == 0.0
    assert told[0].seconds_left > 0.0
    assert told[0].score is None
    assert told[2].score is not None
    steps = [one for one in written_metrics(tmp_path) if "step" in one]
    assert [one["step"] for one in steps] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "learning_rate", "gradient_norm"} <= steps[0].keys()
    assert [one["epoch"] for one in written_metrics(tmp_path) if "score" in one] == [1, 2]


def test_rows_that_cannot_be_read_are_left_out_and_named(tmp_path):
    bench = Bench(tmp_path)
    bench.inputs.reasons["u001"] = "cannot be read"
    trained = bench.train(tmp_path / "run", replace(QUICK, epochs=1))
    assert trained.left_out == {"u001": "cannot be read"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_trains_and_keeps_weights_whole(bench, tmp_path, dtype):
    whole = bench.train(tmp_path / "whole", replace(QUICK, dtype=dtype))
    expected = weights(whole.classifier)
    assert all(one.dtype == torch.float32 for one in whole.classifier.parameters())
    with pytest.raises(BrokenOffError):
        bench.train(tmp_path / "broken", replace(QUICK, dtype=dtype), on_progress=breaking(2, 3))
    assert same(weights(bench.train(tmp_path / "broken", replace(QUICK, dtype=dtype)).classifier), expected)
    exact = weights(bench.train(tmp_path / "exact").classifier)
    assert not same(exact, expected)


def test_learning_rates_rise_and_fall():
    settings = Settings(warmup=0.2)
    rates = [settings.rate_factor(step, 20) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert np.all(np.diff(rates[3:]) < 0)
    assert 0 < rates[-1] < 0.1
    cosine = [replace(settings, schedule="cosine").rate_factor(step, 20) for step in range(20)]
    assert np.all(np.diff(cosine[3:]) < 0)
    assert cosine[5] > rates[5]
    assert {PRESETS["study"].rate_factor(step, 20) for step in range(20)} == {1.0}


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        ({"layers": "first:2"}, "--layers"),
        ({"layers": "last:0"}, "--layers"),
        ({"schedule": "up"}, "--schedule"),
        ({"epochs": 0}, "--epochs"),
        ({"learning_rate": 0.0}, "--learning-rate"),
        ({"warmup": 1.5}, "--warmup"),
        ({"dtype": "int8"}, "--dtype"),
        ({"patience": -1}, "--patience"),
        ({"max_seconds": 0.0}, "--max-seconds"),
    ],
)
def test_settings_out_of_their_range_are_refused(given, flag):
    with pytest.raises(UsageError, match=flag):
        Settings(**given)
