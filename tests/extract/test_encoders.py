"""Real weights on real input. They come with the pinned weights; without a network and a cache these tests skip."""

import numpy as np
import pytest
from outside_data import outside_data

from mixed_signals.extract import PRESETS, Clip, make_encoder, weights
from mixed_signals.extract.encoders.mediapipe import BLENDSHAPES, SIGNALS, functionals, pose
from mixed_signals.store import MixedSignalsError, Status, UsageError


def loaded(modality, name):
    encoder = make_encoder(modality, name)
    try:
        encoder.prepare()
    except MixedSignalsError as error:
        if "SHA-256" in str(error):  # a wrong hash is a failure wherever it happens
            raise
        pytest.skip(f"weights or system libraries are not to be had here: {error}")
    encoder.load()
    return encoder


@pytest.fixture(scope="module")
def minilm():
    return loaded("text", "minilm")


@pytest.fixture(scope="module")
def blendshapes():
    encoder = loaded("video", "blendshapes")
    yield encoder
    encoder.close()


def texts(*said):
    return [Clip(f"u{i}", text=text) for i, text in enumerate(said)]


def test_minilm_gives_the_published_similarities(minilm):
    said = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
    a, b, c = (encoded.vector for encoded in minilm.encode(texts(*said)))
    assert [round(float(x), 4) for x in (a @ b, a @ c, b @ c)] == [0.6660, 0.1046, 0.1411]


def test_padding_does_not_change_a_sentence(minilm):
    long = "and then " * 100
    together = minilm.encode(texts("I am so sorry.", long))
    alone = [minilm.encode([clip])[0] for clip in texts("I am so sorry.", long)]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.vector, other.vector, atol=1e-5)


def test_an_empty_transcript_is_missing_and_harms_no_other(minilm):
    encoded = minilm.encode(texts("hello", "  ", "there"))
    assert [e.status for e in encoded] == [Status.OK, Status.MISSING, Status.OK]
    assert encoded[1].reason == "empty transcript"


@pytest.mark.parametrize("name", PRESETS)
def test_what_the_registry_says_is_so(name):
    preset = PRESETS[name]
    encoder = make_encoder(preset.modality, name)
    assert len(encoder.dimensions) == len(set(encoder.dimensions)) == preset.dimensions
    assert encoder.recipe.encoder == name
    assert encoder.recipe.modality == preset.modality
    assert not preset.weights or encoder.recipe.weights == weights.fingerprint(preset.weights)
    others = {p.modality for p in PRESETS.values()} - {preset.modality}
    with pytest.raises(UsageError, match="unknown encoder"):
        make_encoder(others.pop(), name)


def test_egemaps_hears_pitch():
    encoder = loaded("audio", "egemaps")
    column = encoder.dimensions.index("F0semitoneFrom27.5Hz_sma3nz_amean")

    class Tone(Clip):
        def waveform(self, rate):
            time = np.arange(2 * rate) / rate
            return sum(np.sin(2 * np.pi * k * hertz * time) / k for k in range(1, 8)).astype(np.float32) / 4

    for hertz in (110.0, 220.0):
        (encoded,) = encoder.encode([Tone("u")])
        assert encoded.vector[column] == pytest.approx(12 * np.log2(hertz / 27.5), abs=0.3)


def test_whisper_tells_speech_from_speech_and_averages_over_windows():
    encoder = loaded("audio", "whisper-tiny.en")
    files = sorted((outside_data("ravdess") / "audio").glob("*.flac"))[:2]
    one, other = (e.vector for e in encoder.encode([Clip(f.stem, media=f) for f in files]))
    assert one.shape == (384,)
    assert np.isfinite(one).all()
    assert not np.allclose(one, other, atol=1e-2)
    sound = Clip("u", media=files[0]).waveform(16_000)

    class Long(Clip):
        def waveform(self, rate):
            window = np.zeros(30 * rate, np.float32)
            window[: len(sound)] = sound
            return np.concatenate([window, window])

    class Once(Long):
        def waveform(self, rate):
            return super().waveform(rate)[: 30 * rate]

    twice, once = (e.vector for e in encoder.encode([Long("u"), Once("u")]))
    np.testing.assert_allclose(twice, once, atol=1e-4)


def test_faces_are_found_where_there_are_some(blendshapes):
    folder = outside_data("clips")
    face = outside_data("grid") / "bbaf2n.mpg"
    clips = [Clip("a", media=face), Clip("b", media=folder / "no_face.mp4", end=1.0)]
    found, none = blendshapes.encode(clips)
    assert found.status == Status.OK
    values = dict(zip(blendshapes.dimensions, found.vector, strict=True))
    assert values["face_share"] == 1
    assert values["jawOpen.max"] > values["jawOpen.mean"] > 0
    assert abs(values["head_yaw.mean"]) < 20
    assert none.status == Status.MISSING
    assert none.reason == "no face in 10 frames"


def test_a_vector_does_not_depend_on_what_came_before(blendshapes):
    folder = outside_data("clips")
    clip = Clip("a", media=folder / "single_face.mp4", end=0.5)
    other = Clip("b", media=folder / "WolfgangLanger_Pexels.mp4", end=0.5)
    first = blendshapes.encode([clip])[0].vector
    after = blendshapes.encode([other, clip])[1].vector
    np.testing.assert_array_equal(first, after)


def test_there_are_52_blendshapes():
    assert len(BLENDSHAPES) == len(set(BLENDSHAPES)) == 52
    assert len(SIGNALS) == 58


def test_functionals_leave_out_frames_without_a_face():
    rows = [np.array([0.0, 1.0]), np.array([1.0, 1.0]), None, np.array([5.0, 1.0])]
    found = functionals(rows, 10)
    values = [0.0, 1.0, 5.0]
    np.testing.assert_allclose(
        found[:4], [2, np.std(values), 5, 10], rtol=1e-6
    )  # the jump over the gap is no speed
    np.testing.assert_allclose(found[4:8], [1, 0, 1, 0])
    assert found[8] == 0.75


def test_pose_reads_the_rotation_that_was_put_in():
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = 1.7 * Rotation.from_euler("xyz", [10, -25, 40], degrees=True).as_matrix()
    matrix[:3, 3] = [1, 2, -30]
    np.testing.assert_allclose(pose(matrix), [10, -25, 40, 1, 2, -30], atol=1e-9)
