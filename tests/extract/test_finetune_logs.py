"""What a training says of itself: lines, and TensorBoard beside them."""

import json

import pytest
from tunable import Bench, BrokenOffError, breaking

from mixed_signals.extract.finetune.logs import METRICS, Log
from mixed_signals.extract.finetune.settings import Settings


def scalars(folder):
    """Return what TensorBoard would show: by name, step and value."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = events.EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    board.Reload()
    return {tag: [(one.step, one.value) for one in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


def logged(folder):
    """Return the same of the lines."""
    found = {}
    for line in (folder / METRICS).read_text().splitlines():
        said = json.loads(line)
        what = "step" if "step" in said else "epoch"
        for name, value in said.items():
            if isinstance(value, float):
                found.setdefault(f"{what}/{name}", []).append((said[what], pytest.approx(value, rel=1e-6)))
    return found


def test_tensorboard_shows_the_metrics_also_of_a_training_that_was_broken_off(tmp_path):
    bench, folder = Bench(tmp_path, n=24), tmp_path / "run"
    settings = Settings(epochs=3, batch_size=4, patience=0)
    with pytest.raises(BrokenOffError):
        bench.train(folder, settings, on_progress=breaking(2, 1), tensorboard=True)
    assert len(scalars(folder)["step/loss"]) == 4
    bench.train(folder, settings, tensorboard=True)
    shown = scalars(folder)
    assert [step for step, _ in shown["step/loss"]] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [epoch for epoch, _ in shown["epoch/score"]] == [1, 2, 3]
    assert shown == logged(folder)


def test_a_log_without_tensorboard_writes_lines_alone(tmp_path):
    with Log(tmp_path, 0) as log:
        log.say({"epoch": 1, "step": 1, "loss": float("inf")})
    assert [path.name for path in tmp_path.iterdir()] == [METRICS]
    assert json.loads((tmp_path / METRICS).read_text()) == {"epoch": 1, "step": 1, "loss": None}
