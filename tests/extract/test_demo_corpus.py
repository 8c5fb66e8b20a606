from __future__ import annotations

import sys
import time
from collections import Counter

import av
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixed_signals.extract.demo import words as demo_words
from mixed_signals.extract.demo.acting import FPS, act_face, act_line, cast_speaker
from mixed_signals.extract.demo.corpus import DemoCorpus, make_demo_corpus
from mixed_signals.extract.demo.face import CONTROLS, SIZE, Look, draw_frames
from mixed_signals.extract.demo.plan import plan_utterances, rate_utterances
from mixed_signals.extract.demo.voice import Line, speak
from mixed_signals.store.corpus import MODALITIES
from mixed_signals.store.errors import MixedSignalsError, UsageError

SMALL = {"n_utterances": 5, "n_speakers": 2, "conflict_share": 0.4, "seed": 3}
PLAIN_LOOK = Look(mirrored=False, reach=88, turn=0, offset=(0, 0), tint=(1, 1, 1))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> DemoCorpus:
    return make_demo_corpus(tmp_path_factory.mktemp("demo"), workers=1, **SMALL)


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def decode(path):
    with av.open(str(path)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        fps = container.streams.video[0].average_rate
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    return frames, fps, samples, rate


def test_tables_join_and_name_existing_media(corpus):
    utterances = pd.read_csv(corpus.utterances)
    ratings = pd.read_csv(corpus.ratings)
    planted = pd.read_csv(corpus.planted, keep_default_na=False)
    assert list(utterances.columns) == ["utterance_id", "media", "text", "label", "speaker"]
    assert list(ratings.columns) == ["utterance_id", "rater", "shown", "value", "count"]
    assert list(planted.columns) == [
        "utterance_id", "conflict", "affect_text", "affect_audio", "affect_video", "label",
    ]  # fmt: skip
    assert utterances["utterance_id"].is_unique
    assert list(planted["utterance_id"]) == list(utterances["utterance_id"])
    assert list(planted["label"]) == list(utterances["label"])
    assert (ratings.groupby("utterance_id").size() == 6).all()
    assert not ratings.duplicated(["utterance_id", "rater"]).any()
    media = sorted(path.relative_to(corpus.media_root).as_posix() for path in corpus.folder.rglob("*.mp4"))
    assert media == sorted(utterances["media"])


def test_media_are_ordinary_videos_with_speech_of_the_same_length(corpus):
    for path in pd.read_csv(corpus.utterances)["media"]:
        frames, fps, samples, rate = decode(corpus.media_root / path)
        assert fps == FPS
        assert frames.shape[1:] == (SIZE, SIZE, 3)
        assert len(samples) / rate == pytest.approx(len(frames) / fps, abs=0.15)
        assert 1 < len(samples) / rate < 8
        assert 0.01 < np.sqrt(np.mean(samples**2)) < 0.3
        assert np.abs(samples).max() < 1
        assert np.abs(np.diff(frames.astype(float), axis=0)).mean(axis=(1, 2, 3)).min() > 0


def test_same_seed_gives_the_same_bytes_whatever_the_workers(corpus, tmp_path):
    seen = []
    make_demo_corpus(tmp_path, workers=2, on_progress=seen.append, **SMALL)
    assert contents(tmp_path) == contents(corpus.folder)
    assert seen == [1] * SMALL["n_utterances"]


def test_another_seed_gives_another_corpus_and_replaces_the_files(corpus, tmp_path):
    make_demo_corpus(tmp_path, workers=1, **SMALL)
    make_demo_corpus(tmp_path, workers=1, **SMALL | {"seed": 4})
    old, new = contents(corpus.folder), contents(tmp_path)
    assert old.keys() == new.keys()
    assert all(old[name] != new[name] for name in old)


def test_interrupted_run_leaves_only_whole_videos_and_no_tables(tmp_path):
    def interrupt(n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_demo_corpus(tmp_path, workers=1, on_progress=interrupt, **SMALL)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert 1 <= len(left) < SMALL["n_utterances"]
    for path in left:
        assert path.suffix == ".mp4"
        assert len(decode(path)[0]) > FPS


def test_failed_video_keeps_the_one_before(tmp_path, monkeypatch):
    make_demo_corpus(tmp_path, workers=1, **SMALL)
    before = contents(tmp_path)

    def fail(look, controls):
        yield np.zeros((SIZE, SIZE, 3), np.uint8)
        raise OSError("No space left on device")

    monkeypatch.setattr("mixed_signals.extract.demo.corpus.draw_frames", fail)
    with pytest.raises(OSError, match="No space left"):
        make_demo_corpus(tmp_path, workers=1, **SMALL | {"seed": 4})
    assert contents(tmp_path) == before


@pytest.mark.parametrize("module", ["cv2", "espeakng_loader", "skimage"])
def test_missing_extra_is_named_with_its_mend(module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MixedSignalsError, match=rf'{module}.*pip install "mixed-signals\[demo\]"') as raised:
        make_demo_corpus(tmp_path / "demo")
    assert raised.value.exit_code == 1
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ({"n_speakers": 0}, "n_speakers"),
        ({"n_utterances": 3, "n_speakers": 2}, "n_utterances"),
        ({"conflict_share": 1.2}, "conflict_share"),
        ({"conflict_share": float("nan")}, "conflict_share"),
        ({"seed": -1}, "seed"),
    ],
)
def test_impossible_calls_name_the_argument(call, named, tmp_path):
    with pytest.raises(UsageError, match=f"^{named}: "):
        make_demo_corpus(tmp_path, **call)


@settings(max_examples=30)
@given(
    n_speakers=st.integers(1, 8),
    per_speaker=st.integers(2, 12),
    extra=st.integers(0, 7),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_plan_keeps_its_promises(n_speakers, per_speaker, extra, share, seed):
    n_utterances = n_speakers * per_speaker + extra % n_speakers
    plan = plan_utterances(n_utterances, n_speakers, share, seed)
    assert len({utterance.utterance_id for utterance in plan}) == n_utterances
    for utterance in plan:
        warm = {modality for modality in MODALITIES if utterance.affect[modality] == "warm"}
        assert (utterance.label == "empathetic") == (len(warm) >= 2)
        minority = warm if len(warm) == 1 else set(MODALITIES) - warm if len(warm) == 2 else set()
        assert minority == ({utterance.conflict} if utterance.conflict else set())
        assert all(0 <= strength <= 1 for strength in utterance.strength.values())
    assert sum(bool(utterance.conflict) for utterance in plan) == round(share * n_utterances)
    for speaker in range(n_speakers):
        labels = Counter(utterance.label for utterance in plan if utterance.speaker == speaker)
        assert abs(labels["empathetic"] - labels["neutral"]) <= 1
        assert len(labels) == 2


def test_conflicts_are_spread_over_modalities_and_labels():
    plan = plan_utterances(240, 12, 0.2, seed=0)
    cells = Counter((utterance.conflict, utterance.label) for utterance in plan if utterance.conflict)
    assert cells == {(modality, label): 8 for modality in MODALITIES for label in ("empathetic", "neutral")}


def test_raters_agree_less_where_a_conflict_is_planted():
    plan = plan_utterances(600, 12, 0.5, seed=1)
    ratings = pd.DataFrame(rate_utterances(plan, seed=1))
    share = (ratings["value"] == "empathetic").groupby(ratings["utterance_id"], sort=False).mean()
    certainty = (share - 0.5).abs().to_numpy()
    planted = np.array([bool(utterance.conflict) for utterance in plan])
    assert certainty[planted].mean() < certainty[~planted].mean() - 0.1
    empathetic = np.array([utterance.label == "empathetic" for utterance in plan])
    assert np.mean((share > 0.5).to_numpy() == empathetic) > 0.85


def test_phrases_are_many_and_none_belongs_to_two_affects():
    for bank in (demo_words.OPENINGS, demo_words.CLOSINGS):
        phrases = [phrase for affect in bank.values() for phrase in affect]
        assert len(phrases) == len(set(phrases)) >= 30


def test_strength_decides_how_often_the_words_show_the_affect():
    def shared_halves(strength):
        rng = np.random.default_rng(0)
        replies = [demo_words.reply("cold", strength, rng) for _ in range(200)]
        shared = [
            phrase.format(topic=topic)
            for bank in (demo_words.OPENINGS, demo_words.CLOSINGS)
            for phrase in bank["shared"]
            for topic in demo_words.TOPICS
        ]
        return np.mean([sum(text.startswith(p) or text.endswith(p) for p in set(shared)) for text in replies])

    assert shared_halves(1) == 0
    assert shared_halves(0) == 2
    assert shared_halves(0.7) == pytest.approx(0.6, abs=0.15)


def test_voice_obeys_its_settings_and_repeats_itself():
    plain = Line("I am here if you need me.", "en-us+f2", rate=170, pitch=50, pitch_range=50, volume=80)
    fast = Line(plain.text, plain.voice, rate=240, pitch=50, pitch_range=50, volume=80)
    loud = Line(plain.text, plain.voice, rate=170, pitch=50, pitch_range=50, volume=110)
    rate, sounds = speak([plain, fast, loud])
    time.sleep(1.1)  # eSpeak NG left to itself seeds its noise with the clock's second
    again_rate, again = speak([plain, fast, loud])
    assert rate == again_rate == 22050
    assert all(np.array_equal(one, two) for one, two in zip(sounds, again, strict=True))
    assert len(sounds[1]) < 0.85 * len(sounds[0])
    power = [np.square(sound, dtype=float).mean() for sound in sounds]
    assert power[2] > 1.5 * power[0]


def test_failing_synthesiser_is_reported_in_its_own_words():
    with pytest.raises(MixedSignalsError, match="no voice klingon-nobody"):
        speak([Line("Hello.", "klingon-nobody", rate=170, pitch=50, pitch_range=50, volume=80)])


def test_warm_and_cold_are_acted_apart():
    rng = np.random.default_rng(0)
    speaker = cast_speaker(0, seed=0)
    lines = {warmth: [act_line("Yes.", speaker, warmth, rng) for _ in range(50)] for warmth in (-1, 1)}
    mean = {
        warmth: {name: np.mean([getattr(line, name) for line in some]) for name in ("rate", "pitch_range")}
        for warmth, some in lines.items()
    }
    assert mean[1]["rate"] < mean[-1]["rate"] - 30
    assert mean[1]["pitch_range"] > mean[-1]["pitch_range"] + 30
    smiles = {
        warmth: np.mean([act_face(speaker, warmth, np.ones(30), rng)["smile"] for _ in range(50)])
        for warmth in (-1, 0, 1)
    }
    assert smiles[-1] < smiles[0] - 0.3 < smiles[1] - 1.2


def test_each_control_moves_its_own_part_of_the_face():
    still = draw_frames(PLAIN_LOOK, {name: np.zeros(1) for name in CONTROLS})[0].astype(int)
    parts = {
        "smile": (150, 190),
        "jaw": (150, 230),
        "close": (140, 200),
        "raise": (50, 110),
        "blink": (70, 120),
    }
    for name, (top, bottom) in parts.items():
        moved = draw_frames(PLAIN_LOOK, {other: np.array([float(other == name)]) for other in CONTROLS})[0]
        rows = np.abs(moved - still).sum(axis=(1, 2))
        assert top < np.average(np.arange(SIZE), weights=rows) < bottom, name


def test_mirrored_look_is_the_mirror_image():
    controls = {name: np.array([0.5]) for name in CONTROLS}
    mirrored = Look(mirrored=True, reach=88, turn=0, offset=(0, 0), tint=(1, 1, 1))
    there, back = draw_frames(PLAIN_LOOK, controls)[0], draw_frames(mirrored, controls)[0][:, ::-1]
    assert np.abs(there.astype(int) - back).mean() < 1
