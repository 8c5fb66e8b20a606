"""Fine-tuning of speech and video networks, whole, on short clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import transformers
from media_files import pictures, sound, write
from tunable import (
    CLASSES,
    RATE,
    BrokenOffError,
    call,
    finetune,
    fit,
    planted_store,
    save_videomae,
    save_wav2vec2,
)

from mixed_signals.extract import job as extraction
from mixed_signals.extract import pipeline
from mixed_signals.extract.encoders import make_encoder
from mixed_signals.extract.finetune import card
from mixed_signals.extract.finetune.cli import app
from mixed_signals.extract.finetune.in_turn import train_encoders
from mixed_signals.extract.finetune.job import plan
from mixed_signals.extract.finetune.request import Request
from mixed_signals.extract.finetune.settings import Settings
from mixed_signals.extract.finetune.shown import print_trained
from mixed_signals.store import Corpus, Store, UsageError

QUICK = Settings(epochs=1, batch_size=8, learning_rate=1e-2, layers="last:1", patience=0)
NAMES = {"audio": "ears", "video": "eyes"}
N, BROKEN = 16, "u03"


def make_clips(folder, **columns):
    """Make a store of films with sound, 0.2 to 0.4 s long, one of them broken: warm ones are bright and high."""
    rng = np.random.default_rng(0)
    (folder / "media").mkdir(parents=True)
    ids = [f"u{k:02d}" for k in range(N)]
    for k, one in enumerate(ids):
        n_frames, warm = int(rng.integers(5, 10)), k % 2
        time = np.arange(RATE * n_frames // 25) / RATE
        tone = 0.3 * np.sin(2 * np.pi * (2500 if warm else 200) * time) + 0.02 * rng.normal(size=len(time))
        grey = np.full((64, 64, 3), 200 if warm else 50, np.uint8)
        film = pictures(n_frames, picture=grey), sound(tone.astype(np.float32), rate=RATE)
        path = write(folder / "media" / f"{one}.mkv", *film)
        if one == BROKEN:
            path.write_bytes(b"no film")
    table = pd.DataFrame(
        {
            "utterance_id": ids,
            "media": [f"{one}.mkv" for one in ids],
            "label": [CLASSES[k % 2] for k in range(N)],
            "group": [f"g{k // 2 % 4}" for k in range(N)],
            **columns,
        }
    )
    return Store.create(folder / "s", Corpus("clips", table, media_root=folder / "media"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store of clips, and what each design made of a speech and a video network."""
    folder = tmp_path_factory.mktemp("clips")
    store = make_clips(folder, split=["train"] * 12 + ["test"] * 4)
    ears = save_wav2vec2(folder / "ears")
    request = Request(
        store.path, (("audio", str(ears)), ("video", str(save_videomae(folder / "eyes")))), QUICK, folds=2
    )
    lora = replace(QUICK, layers="lora", checkpointing=True)
    jobs = {
        "tuned": finetune(request),
        "nested": finetune(
            replace(request, encoders=request.encoders[1:], design="nested", folds=3, name="nested")
        ),
        "once": finetune(
            replace(request, encoders=request.encoders[:1], split="train", settings=lora, name="once")
        ),
    }
    return store, jobs


@pytest.mark.parametrize(
    ("name", "modalities", "n"), [("tuned", "audio video", 4), ("nested", "video", 3), ("once", "audio", 1)]
)
def test_speech_and_video_networks_go_through_every_design(made, name, modalities, n):
    store, jobs = made
    sets = jobs[name][1]
    assert [one.modality for one in sets] == [one for one in modalities.split() for _ in range(n)]
    for features in sets:
        reasons = dict(zip(features.ids, features.reasons, strict=True))
        assert "not readable as media" in reasons[BROKEN] or reasons[BROKEN] == "trained its encoder"
        assert np.isfinite(features.stored[features.ok]).all()
        assert features.ok.sum() >= 7
    views = ",".join(f"{one}={NAMES[one]}.{name}" for one in modalities.split())
    flags = ["--split", "split", "--allow-shared-groups"] if name == "once" else []
    result = fit(store, "--features", views, "--run", name, *flags)
    assert result.exit_code == 0, result.output + str(result.exception)


def test_a_tuned_checkpoint_gives_extraction_the_vectors_of_its_feature_set(made):
    store, jobs = made
    sets = [jobs["tuned"][1][0], jobs["tuned"][1][4], jobs["once"][1][0]]
    folders = [store.path / features.provenance["checkpoint"] for features in sets]
    encoders = [
        make_encoder(features.modality, str(folder), device="cpu")
        for features, folder in zip(sets, folders, strict=True)
    ]
    outcomes = pipeline.run(
        store, extraction.plan(store, encoders, name="again"), pipeline.Options(workers=1)
    )
    for features, folder, outcome in zip(sets, folders, outcomes, strict=True):
        assert not (folder / "adapter_config.json").exists()
        transformers.AutoModel.from_pretrained(folder)
        found = outcome.features.stored[features.ok]
        np.testing.assert_allclose(found, features.stored[features.ok], atol=1e-6)


def test_rows_that_could_not_be_trained_on_are_told(made, capsys):
    _, jobs = made
    print_trained(jobs["once"][0])
    out, err = capsys.readouterr()
    assert "macro F1 of the rows that the epoch was chosen on, which is no result" in out
    assert f"note: audio: not trained on 1 ({BROKEN}): not readable as media" in err
    print_trained(jobs["tuned"][0])  # whose trainings had no group to spare
    out, err = capsys.readouterr()
    assert "chosen on" not in out
    assert "stopped" not in err


def test_where_no_score_was_measured_none_is_explained_and_the_reason_is_told(made, capsys, monkeypatch):
    _, jobs = made
    unread = {
        **{
            "name": "ears.once",
            "measure": "macro F1",
            "score": None,
            "epoch": 1,
            "epochs": 1,
            "seconds": 1.0,
        },
        **{"validation_ids": ["u09"], "left_out": {"u09": "the file is empty"}},
    }
    monkeypatch.setattr(card, "finished", lambda folder: unread)
    print_trained(jobs["once"][0])
    out, err = capsys.readouterr()
    assert "chosen on" not in out
    assert (
        "note: no early stopping, for none of their validation rows can be read: 1 (audio/ears.once)" in err
    )


def test_where_all_media_have_moved_the_flag_that_says_where_is_named(tmp_path):
    store = planted_store(tmp_path, "audio", n=24)
    for path in (tmp_path / "media").iterdir():
        path.rename(tmp_path / path.name)
    ears, first = save_wav2vec2(tmp_path / "ears"), tmp_path / "media" / "u000.wav"
    flags = ["--audio", ears, "--folds", "2", "--device", "cpu", "--workers", "1"]
    planned = call(app, store.path, *flags, "--plan")
    assert str(planned.exception) == (
        f"--audio ears: of 24 labelled utterances none has its media file there, e.g. {first}: if they have moved, say "
        "where they are (--media-root), or leave --audio out"
    )
    assert isinstance(planned.exception, UsageError)
    assert call(app, store.path, *flags, "--plan", "--media-root", tmp_path).exit_code == 0
    (tmp_path / "media" / "u001.wav").write_bytes(b"no sound")
    result = call(app, store.path, *flags)
    said = "audio: none of 24 utterances can be read (u000: the file does not exist); if the media have moved"
    assert str(result.exception).startswith(said), result.exception
    assert "--media-root" in str(result.exception)


def test_recordings_that_were_replaced_while_a_training_was_broken_off_are_noticed(tmp_path):
    store = planted_store(tmp_path, "audio", n=24)
    request = Request(store.path, (("audio", str(save_wav2vec2(tmp_path / "ears"))),), QUICK, folds=2)

    def stop(step):
        if step.number == 2:
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        train_encoders(plan(request, "cpu"), on_step=stop)
    job = plan(request, "cpu")
    begun = job.families[0].working(job.design.trainings[1])
    clip = tmp_path / "media" / "u000.wav"
    before = clip.read_bytes()
    clip.write_bytes((tmp_path / "media" / "u001.wav").read_bytes())
    with pytest.raises(UsageError, match="recordings have changed, or are gone, since") as caught:
        plan(request, "cpu")
    assert str(caught.value).startswith(f"{begun}: ")
    clip.write_bytes(before)
    assert len(plan(request, "cpu").todo) == 3
    train_encoders(plan(request, "cpu"))
    clip.write_bytes(b"gone")
    assert plan(request, "cpu").todo == []
