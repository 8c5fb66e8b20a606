"""The room that a job needs on the disk, told before and measured after."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from dataclasses import replace

import pytest
import tunable
from tunable import SAVE, encoder_of, planted_store, said_in, save_bert

from mixed_signals.extract.finetune.cli import app
from mixed_signals.extract.finetune.in_turn import train_encoders
from mixed_signals.extract.finetune.job import plan
from mixed_signals.extract.finetune.labels import Coding
from mixed_signals.extract.finetune.request import Request
from mixed_signals.extract.finetune.room import room_for, sizes
from mixed_signals.extract.finetune.settings import Settings
from mixed_signals.extract.finetune.vectors import make_features

LARGE = {"hidden_size": 128, "intermediate_size": 512}
QUICK = Settings(epochs=1, layers="last:1", patience=0, batch_size=16)
RISING = replace(QUICK, epochs=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("room")
    planted_store(folder, n=32)
    save_bert(folder / "tiny", **LARGE)
    return folder


def request_in(folder, **more):
    return Request(folder / "store", (("text", str(folder / "tiny")),), QUICK, **{"folds": 2, **more})


def bytes_in(folder, suffix):
    return sum(path.stat().st_size for path in folder.rglob(f"*{suffix}"))


@pytest.mark.parametrize("more", [{}, {"design": "nested", "folds": 3}, {"align": True}], ids=str)
def test_what_is_told_before_is_what_is_taken_in_the_end(tmp_path, folder, more):
    shutil.copytree(folder / "store", tmp_path / "store")
    shutil.copytree(folder / "tiny", tmp_path / "tiny")
    job = plan(request_in(tmp_path, **more), "cpu")
    told = room_for(job)
    assert told.n_checkpoints == len(job.design.trainings)
    train_encoders(job)
    assert room_for(job).checkpoints == room_for(job).at_work == 0
    encoders = tmp_path / "store" / "encoders"
    assert told.checkpoints == pytest.approx(bytes_in(encoders, ""), rel=0.05)
    make_features(job)
    made = bytes_in(tmp_path / "store", ".h5")
    assert told.features == pytest.approx(made, rel=0.6)  # of so few rows a file's own pages are half
    assert room_for(job).to_stay == 0


@pytest.mark.parametrize("layers", ["last:1", "all", "lora"])
def test_while_it_trains_it_takes_as_much_more_as_was_told(tmp_path, folder, layers, monkeypatch):
    shutil.copytree(folder / "store", tmp_path / "store")
    shutil.copytree(folder / "tiny", tmp_path / "tiny")
    job = plan(replace(request_in(tmp_path), settings=replace(RISING, layers=layers)), "cpu")
    checkpoint, at_work = sizes(job.families[0].encoder, job.request.settings)
    assert [room_for(job, n).at_work for n in (1, 3, 9)] == [at_work, 3 * at_work, 4 * at_work]
    taken, there = [], os.replace

    def look(*paths):
        taken.append(bytes_in(tmp_path / "store" / "encoders", ""))
        there(*paths)

    scores = iter((0.1, 0.2, 0.3))  # each epoch is the best
    monkeypatch.setattr(Coding, "score", lambda *_: next(scores))
    monkeypatch.setattr("os.replace", look)
    train_encoders(job, todo=job.todo[:1])
    assert max(taken) == pytest.approx(checkpoint + at_work, rel=0.05)


@pytest.mark.parametrize("modality", SAVE)
def test_a_network_is_counted_without_its_weights(tmp_path, modality):
    encoder = encoder_of(tmp_path, modality)
    (encoder.checkpoint.folder / "model.safetensors").write_bytes(b"none")
    for layers in ("last:1", "all", "lora"):
        checkpoint, at_work = sizes(encoder, Settings(layers=layers))
        assert checkpoint > 10_000
        assert at_work > 0


def test_the_plan_says_it_and_a_full_disk_is_warned_of(folder, monkeypatch):
    flags = [folder / "store", "--text", folder / "tiny", "--folds", "2", "--device", "cpu", "--plan"]
    said = said_in(tunable.call(app, *flags))
    assert (
        "disk: about 10.1 MB more (4 checkpoints 10.0 MB, feature sets 116.7 kB), and 10.2 MB while they are"
        in said
    )
    assert "are needed on this disk" not in said
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 12_500_000))
    said = said_in(tunable.call(app, *flags))
    assert f"note: {folder / 'store'}: about " in said
    assert (
        "are needed on this disk and 12.5 MB are free: make room, or put the store on a larger disk" in said
    )
