"""``finetune-encoders`` as a person calls it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from finetune_store import make_store, make_text_encoder
from typer.testing import CliRunner

from mixed_signals.extract.finetune.cli import app
from mixed_signals.store import Store, UsageError

QUICK = ("--epochs", "1", "--folds", "2", "--device", "cpu", "--layers", "last:1", "--validation", "0")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return make_text_encoder(tmp_path_factory.mktemp("encoders") / "tiny")


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path, n=32)


def call(store, *flags):
    return CliRunner().invoke(app, [str(store.path), *map(str, flags)])


def words(result):
    return " ".join(result.output.split())


def files(store):
    return {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()}


def test_a_call_trains_makes_and_says_what_comes_next_and_a_second_does_nothing(store, encoder):
    result = call(store, "--text", encoder, *QUICK)
    assert result.exit_code == 0, result.output
    said = words(result)
    for part in ("text p0f0 (1 of 4)", "epoch 1 of 1, loss 0.", "left", "text/tiny.tuned.p1f1", "rows/s"):
        assert part in said
    assert f"next: fit-heads {store.path} --features text=tiny.tuned" in said
    assert len(Store.open(store.path).feature_sets()) == 4
    before = files(store)
    again = call(store, "--text", encoder, *QUICK)
    assert again.exit_code == 0, again.output
    assert "loss" not in again.output
    assert {path: at for path, at in files(store).items() if before.get(path) != at} == {}


def test_plan_says_what_would_be_trained_and_writes_nothing(store, encoder):
    before = files(store)
    result = call(store, "--text", encoder, "--folds", "3", "--design", "nested", "--plan", "--device", "cpu")
    assert result.exit_code == 0, result.output
    said = words(result)
    assert said.count("to be trained") == 6
    assert "text/tiny.tuned.f0f2" in said
    assert "text: 3 feature sets of tiny.tuned (0 there)" in said
    assert files(store) == before


def test_settings_come_from_preset_and_flags(store, encoder, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "mixed_signals.extract.finetune.job.plan", lambda request, *_, **__: seen.append(request) or 1 / 0
    )
    flags = [
        "--preset",
        "study",
        "--epochs",
        "3",
        "--no-class-weights",
        "--split",
        "train",
        "--target",
        "label",
    ]
    more = ["--seed", "42", "--name", "mine", "--layers", "all", "--dtype", "bfloat16", "--max-seconds", "4"]
    call(store, "--text", encoder, *flags, *more, "--device", "cpu", "--group", "speaker")
    (request,) = seen
    settings = request.settings
    assert (settings.epochs, settings.learning_rate, settings.batch_size) == (3, 5e-6, 8)
    assert (settings.layers, settings.dtype, settings.max_seconds) == ("all", "bfloat16", 4.0)
    assert not settings.class_weights
    assert (request.split, request.seed, request.name, request.group) == ("train", 42, "mine", "speaker")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "name at least one encoder: --text, --audio or --video"),
        (["--text", "egemaps"], "egemaps"),
        (["--audio", "egemaps"], "has no network that could be trained"),
        (["--text", "TINY", "--split", "train", "--folds", "3"], "leave out --folds and --design"),
        (["--text", "TINY", "--split", "train"], "--split train: no labelled utterance"),
        (["--text", "TINY", "--design", "plain"], "--design 'plain'"),
        (["--text", "TINY", "--design", "nested", "--folds", "2"], "make 3 or more (--folds)"),
        (["--text", "TINY", "--folds", "9"], "8 groups cannot make 9 folds"),
        (["--text", "TINY", "--group", "dialog"], "no column 'dialog'"),
        (["--text", "TINY", "--target", "mood"], "mood"),
        (["--text", "TINY", "--preset", "best"], "--preset 'best': use default or study"),
        (["--text", "TINY", "--layers", "first:2"], "--layers 'first:2'"),
        (["--text", "TINY", "--epochs", "0"], "--epochs 0"),
        (["--text", "TINY", "--schedule", "steps"], "--schedule 'steps'"),
        (["--text", "TINY", "--memory", "much"], "--memory 'much': write e.g. 500M or 4G"),
        (["--text", "TINY", "--name", "a b"], "--name 'a b'"),
        (
            ["--text", "TINY", "--device", "cpu", "--devices", "cpu"],
            "--device and --devices: use one of them",
        ),
        (["--text", "TINY", "--device", "tpu"], "--device 'tpu'"),
        (["--text", "TINY", "--revision", "x=1"], "no encoder of that name"),
        (["--text", "nowhere/at/all"], "nowhere/at/all"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_calls_are_refused_in_a_line_before_anything_is_written(store, encoder, flags, said):
    before = files(store)
    given = [str(encoder) if one == "TINY" else one for one in flags]
    result = call(
        store, *given, *([] if "--device" in flags or "--devices" in flags else ["--device", "cpu"])
    )
    assert isinstance(result.exception, UsageError), (result.output, result.exception)
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)
    assert files(store) == before


def test_two_devices_share_the_trainings(store, encoder):
    flags = [one for one in QUICK if one not in ("--device", "cpu")]
    result = call(store, "--text", encoder, *flags, "--devices", "cpu,cpu")
    assert result.exit_code == 0, (result.output, result.exception)
    alone = make_store(store.path.parent / "alone", n=32)
    assert call(alone, "--text", encoder, *QUICK).exit_code == 0
    for key in alone.feature_sets():
        np.testing.assert_allclose(store[key].stored, alone[key].stored, atol=1e-5)
    for number in range(4):
        assert f"({number + 1} of 4)" in words(result)


def test_ctrl_c_ends_in_a_line_and_the_same_call_goes_on(store, encoder):
    code = "import sys; from mixed_signals.extract.finetune.cli import main; sys.argv[0] = 'finetune-encoders'; main()"
    flags = ["--text", str(encoder), "--folds", "2", "--device", "cpu", "--epochs", "500", "--patience", "0"]
    command = [sys.executable, "-c", code, str(store.path), *flags]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    part = store.path / "encoders" / "text" / ".tiny.tuned.p0f0.part"
    until = time.monotonic() + 100
    while not (part / "state" / "last.safetensors").exists() and time.monotonic() < until:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.strip().splitlines()[-1] == (
        "error: interrupted; finished encoders and epochs are kept, and the same command goes on from there"
    )
    assert "Traceback" not in said
    result = call(store, *flags, "--plan")
    assert words(result).count("begun") == 1
    assert words(result).count("to be trained") == 3
