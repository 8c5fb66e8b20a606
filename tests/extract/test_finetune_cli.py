"""``finetune-encoders`` as a person calls it."""

from __future__ import annotations

import re
import shutil
import signal
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import tunable
from other_processes import started, until
from rich.console import Console
from tunable import planted_store, said_in, save_wav2vec2

from mixed_signals.extract.finetune.cli import app
from mixed_signals.extract.finetune.in_turn import Step
from mixed_signals.extract.finetune.inputs import Inputs
from mixed_signals.extract.finetune.settings import PRESETS
from mixed_signals.extract.finetune.shown import _Bar, _Shown
from mixed_signals.extract.finetune.training import Progress
from mixed_signals.store import Store, UsageError

QUICK = ("--epochs", "1", "--folds", "2", "--device", "cpu", "--layers", "last:1", "--validation", "0")


@pytest.fixture
def store(tmp_path):
    return planted_store(tmp_path / "y[b]", n=32)


def call(store, *flags):
    return tunable.call(app, store.path, *flags)


def files(store):
    return {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()}


def test_a_call_trains_makes_and_says_what_comes_next_and_a_second_does_nothing(store, encoder):
    result = call(store, "--text", encoder, *QUICK)
    assert result.exit_code == 0, result.output
    said = said_in(result)
    for part in (
        "text p0f0 (1 of 4)",
        "epoch 1 of 1, loss ",
        "text/tiny.tuned.p1f1",
        "rows/s; left: 0:00:00 of this",
    ):
        assert part in said
    next_ = f"next: fit-heads {store.path} --features text=tiny.tuned"
    made = f"4 feature sets of text/tiny.tuned are in {store.path / 'features'}"
    assert re.search(rf"4 encoders trained; {re.escape(made)}; 0:\d\d:\d\d in all {re.escape(next_)}", said)
    assert "nothing to do" not in said
    assert len(Store.open(store.path).feature_sets()) == 4
    before = files(store)
    again = call(store, "--text", encoder, *QUICK)
    assert again.exit_code == 0, again.output
    assert "loss" not in again.output
    assert f"nothing to do: {made}" in again.output
    assert next_ in again.output
    assert "in all" not in again.output
    assert {path: at for path, at in files(store).items() if before.get(path) != at} == {}


def test_plan_says_what_would_be_trained_and_writes_nothing(store, encoder):
    before = files(store)
    result = call(store, "--text", encoder, "--folds", "3", "--design", "nested", "--plan", "--device", "cpu")
    assert result.exit_code == 0, result.output
    said = said_in(result)
    assert said.count("to be trained") == 6
    assert "text/tiny.tuned" in said
    assert " f0f2 " in said
    assert "text: 3 feature sets of tiny.tuned (0 there)" in said
    assert files(store) == before


@pytest.mark.parametrize("of_one_class", [True, False])
def test_rows_to_stop_on_that_are_all_of_one_class_are_noted(tmp_path, encoder, of_one_class):
    per_class = {"group": [f"g{i % 12}" for i in range(48)]}  # labels alternate: six groups of either
    store = planted_store(tmp_path, n=48, **(per_class if of_one_class else {}))
    result = call(
        store, "--text", encoder, "--folds", "2", "--validation", "0.1", "--plan", "--device", "cpu"
    )
    assert result.exit_code == 0, result.output
    assert ("the rows to stop on are all of one class" in said_in(result)) == of_one_class


def test_help_shows_what_each_setting_is_in_both_recipes():
    said = " ".join(tunable.call(app, "--help", columns=400).output.split())
    default, study = PRESETS["default"], PRESETS["study"]
    for field in fields(default):
        flag = "--" + field.name.replace("_", "-")
        shown = re.search(rf"{flag} .*?\(default: (.*?)(?:; study: (.*?))?\)", said)
        for text, recipe in ((shown[1], default), (shown[2] or shown[1], study)):
            value = getattr(recipe, field.name)
            read = {"on": True, "off": False, "all of it": None}.get(text, text)
            assert (type(value)(read) if isinstance(read, str) else read) == value, flag


def test_a_score_is_named_and_a_remaining_time_says_of_what():
    def line(shown, number, score=0.5, **more):
        progress = Progress("p0f0", 2, 9, 1, 4, 0.7, score, "macro F1", 12.0, 60.0)
        return shown.line(Step("text", number, 5, replace(progress, **more)))

    shown = _Shown(at_once=2)
    assert line(shown, 1) == (
        "epoch 2 of 9, loss 0.700, best validation macro F1 0.500, 12 rows/s; left: 0:01:00 of this encoder, 0:03:00 "
        "of all 5"
    )
    assert line(shown, 2).endswith(
        "0:01:00 of this encoder, 0:03:00 of all 5"
    )  # three to come, two at a time
    assert line(shown, 3).endswith("0:01:00 of this encoder, 0:02:00 of all 5")
    assert "validation" not in line(shown, 3, score=None)
    alone = Step("text", 1, 1, Progress("train", 1, 1, 1, 1, 0.7, 0.5, "concordance", 1.0, 2.0))
    assert _Shown(1).line(alone).endswith("concordance 0.500, 1 rows/s; left: 0:00:02 of this encoder")


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_no_number_and_no_name_is_cut_off_however_narrow_the_terminal(store, encoder, columns, tmp_path):
    long = tmp_path / "timesformer-base-finetuned-k400-and-more"
    shutil.copytree(encoder, long)
    bar, family = _Bar(console=Console(width=columns)), f"text/{long.name}.tuned"
    bar.add_task("video f12f13 (100 of 120)", total=5)
    bar.told = (
        "epoch 2 of 9, loss 0.700, best validation macro F1 0.500, 12 rows/s; left: 0:01:00 of this encoder"
    )
    with bar.console.capture() as captured:
        bar.console.print(bar.get_renderable())
    printed = [captured.get()]
    printed += [
        tunable.call(app, store.path, "--text", long, *QUICK, *flag, columns=columns).output
        for flag in (["--plan"], [])
    ]
    for one in printed:
        assert "…" not in one
    whole = "".join("".join(printed).split())
    for part in ("videof12f13(100of120)", "0:01:00ofthisencoder", f"{family}encoder", "tobetrained"):
        assert part in whole
    (row,) = re.findall(r"^.* 16 +\d+ +\d+ +0 +0 *$", printed[2], re.MULTILINE)[:1]
    assert len(row) <= columns


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
        (["--text", "TINY", "--layers", "last:9"], "--layers last:9: tiny: has only 3 blocks"),
        (["--text", "TINY", "--epochs", "0"], "--epochs 0"),
        (["--text", "TINY", "--schedule", "steps"], "--schedule 'steps'"),
        (["--text", "TINY", "--memory", "much"], "--memory 'much': write e.g. 500M or 4G"),
        (["--text", "TINY", "--name", "a b"], "--name 'a b'"),
        (
            ["--text", "TINY", "--device", "cpu", "--devices", "cpu"],
            "--device and --devices: use one of them",
        ),
        (["--text", "TINY", "--device", "cpu", "--spread"], "--spread: trains on several devices together"),
        (["--text", "TINY", "--device", "tpu"], "--device 'tpu'"),
        (["--text", "TINY", "--revision", "x=1"], "no encoder of that name"),
        (
            ["--text", "nowhere/at/all"],
            "nowhere/at/all: there is no such folder here, and no name on the hub looks",
        ),
        (["--text", "./chekpoint"], "./chekpoint: there is no such folder here"),
        (
            ["--audio", "EARS"],
            "--audio ears: of 32 labelled utterances none has media: import the corpus with its",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_calls_are_refused_in_a_line_before_anything_is_written(store, encoder, flags, said):
    before = files(store)
    ears = encoder.with_name("ears")
    if "EARS" in flags and not ears.exists():
        save_wav2vec2(ears)
    given = [{"TINY": str(encoder), "EARS": str(ears)}.get(one, one) for one in flags]
    result = call(
        store, *given, *([] if "--device" in flags or "--devices" in flags else ["--device", "cpu"])
    )
    assert isinstance(result.exception, UsageError), (result.output, result.exception)
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)
    assert files(store) == before


def test_a_name_that_is_neither_folder_here_nor_model_is_refused_as_both(store, encoder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, plan in (("chekpoint", "--plan"), ("models/chekpoint", "--plan"), ("chekpoint", "--debug")):
        said = str(call(store, "--text", name, "--device", "cpu", plan).exception)
        assert said.startswith(
            f"{name}: not on this machine, neither as a folder here nor as a model of the hub"
        )
        assert "correct the path, or run 'mixed-signals weights fetch" in said
        assert "\n" not in said


def test_tensorboard_that_is_not_installed_is_said_before_anything_is_read(store, encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setattr(Inputs, "look", lambda *_: pytest.fail("read"))
    result = call(store, "--text", encoder, *QUICK, "--tensorboard")
    assert "--tensorboard: TensorBoard is not installed: pip install" in str(result.exception)
    assert not (store.path / "encoders").exists()


def test_two_devices_share_the_trainings(store, encoder):
    flags = [one for one in QUICK if one not in ("--device", "cpu")]
    result = call(store, "--text", encoder, *flags, "--devices", "cpu,cpu")
    assert result.exit_code == 0, (result.output, result.exception)
    alone = planted_store(store.path.parent / "alone", n=32)
    assert call(alone, "--text", encoder, *QUICK).exit_code == 0
    for key in alone.feature_sets():
        np.testing.assert_array_equal(store[key].stored, alone[key].stored)
    for number in range(4):
        assert f"({number + 1} of 4)" in said_in(result)


def test_ctrl_c_ends_in_a_line_and_the_same_call_goes_on(store, encoder):
    code = "import sys; from mixed_signals.extract.finetune.cli import main; sys.argv[0] = 'finetune-encoders'; main()"
    flags = ["--text", str(encoder), "--folds", "2", "--device", "cpu", "--epochs", "500", "--patience", "0"]
    part = store.path / "encoders" / "text" / ".tiny.tuned.p0f0.part"
    with started(code, store.path, *flags, HF_HUB_OFFLINE="1", COLUMNS="200") as process:
        until((part / "state" / "last.safetensors").exists, 100, alive=process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.strip().splitlines()[-1] == (
        "error: interrupted; finished encoders and epochs are kept, and the same command goes on from there"
    )
    assert "Traceback" not in said
    result = call(store, *flags, "--plan")
    assert said_in(result).count("begun") == 1
    assert said_in(result).count("to be trained") == 3
