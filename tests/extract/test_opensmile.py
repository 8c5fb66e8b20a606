"""openSMILE's numbers against sounds whose pitch and level are known, and against openSMILE itself."""

import os
import pickle
import warnings

import numpy as np
import pytest

from mixed_signals.extract.encoders.opensmile import VOICE_SETS, OpenSmile
from mixed_signals.extract.media import Unreadable

RATE = 16_000
SETS = {
    "egemaps": ("eGeMAPSv02", 88),
    "gemaps": ("GeMAPSv01b", 62),
    "compare": ("ComParE_2016", 6373),
    "emobase": ("emobase", 988),
}


@pytest.fixture(scope="module")
def encoders():
    """Return every feature set, its reader loaded after the way to a worker process."""
    made = {}
    for name in SETS:
        made[name] = OpenSmile(name)
        made[name].reader = pickle.loads(pickle.dumps(made[name].reader))
        made[name].reader.load()
    return made


def tone(hertz, seconds=2.0, harmonics=20, level=0.25):
    time = np.arange(round(seconds * RATE)) / RATE
    partials = (np.sin(2 * np.pi * k * hertz * time) / k for k in range(1, harmonics + 1))
    return (level * sum(partials)).astype(np.float32)


def speech_like(seconds=1.0):
    """Return a tone that comes and goes, and noise: all of the descriptors have something to describe."""
    sound = tone(150, seconds)
    swell = np.sin(2 * np.pi * 3 * np.arange(len(sound)) / RATE) > -0.5
    noise = np.random.default_rng(0).normal(0, 0.01, len(sound))
    return (sound * swell + noise).astype(np.float32)


def named(encoder, samples):
    (vector,) = encoder.reader.read(samples)
    return dict(zip(encoder.outputs[0].dimensions, vector, strict=True))


@pytest.mark.parametrize("name", SETS)
def test_a_feature_set_is_what_opensmile_gives(encoders, name):
    import opensmile

    encoder = encoders[name]
    (output,) = encoder.outputs
    configuration, width = SETS[name]
    assert (encoder.name, encoder.modality, output.recipe.weights) == (name, "audio", configuration)
    plain = opensmile.Smile(opensmile.FeatureSet[configuration], "func")
    table = plain.process_signal(speech_like(), RATE)
    assert output.dimensions == tuple(table.columns)
    assert len(set(output.dimensions)) == VOICE_SETS[name].width == width
    (vector,) = encoder.reader.read(speech_like())
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector, table.to_numpy()[0])
    assert np.isfinite(vector).all()


def test_constructing_needs_no_native_library():
    assert "_smile" not in vars(OpenSmile("compare").reader)
    assert "outputs" not in vars(OpenSmile("compare"))


@pytest.mark.parametrize("hertz", [110.0, 220.0])
def test_pitch_is_heard(encoders, hertz):
    semitones = 12 * np.log2(hertz / 27.5)
    for name in ("egemaps", "gemaps"):
        found = named(encoders[name], tone(hertz))["F0semitoneFrom27.5Hz_sma3nz_amean"]
        assert found == pytest.approx(semitones, abs=0.3)
    assert named(encoders["compare"], tone(hertz))["F0final_sma_quartile2"] == pytest.approx(hertz, rel=0.02)
    assert named(encoders["emobase"], tone(hertz))["F0_sma_quartile2"] == pytest.approx(hertz, rel=0.02)


def test_level_is_heard(encoders):
    for level in (0.5, 0.05):
        found = named(encoders["egemaps"], tone(440, harmonics=1, level=level))["equivalentSoundLevel_dBp"]
        assert found == pytest.approx(20 * np.log10(level / np.sqrt(2)), abs=0.05)


def test_sound_beyond_full_scale_is_clipped_not_wrapped_round(encoders):
    within, beyond = (
        named(encoders["egemaps"], tone(220, harmonics=1, level=level)) for level in (0.99, 1.05)
    )
    assert beyond["loudness_sma3_amean"] == pytest.approx(within["loudness_sma3_amean"], rel=0.2)
    assert beyond["HNRdBACF_sma3nz_amean"] == pytest.approx(within["HNRdBACF_sma3nz_amean"], rel=0.01)


@pytest.mark.parametrize("name", SETS)
def test_sound_too_short_for_a_window_is_a_reason_and_no_vector(encoders, name):
    reader = encoders[name].reader
    window = 40 if name == "emobase" else 60
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for milliseconds in (20, window - 1):
            with pytest.raises(Unreadable, match=f"^only {milliseconds} ms of sound, too short for "):
                reader.read(tone(200, milliseconds / 1000))
        (vector,) = reader.read(tone(200, window / 1000))
    assert np.isfinite(vector).all()


def test_a_vector_does_not_depend_on_what_came_before(encoders):
    reader = encoders["egemaps"].reader
    (first,) = reader.read(speech_like())
    reader.read(tone(300))
    np.testing.assert_array_equal(reader.read(speech_like())[0], first)


def test_samples_are_left_as_they_were(encoders):
    samples = tone(200, level=2.0)
    kept = samples.copy()
    encoders["egemaps"].reader.read(samples)
    np.testing.assert_array_equal(samples, kept)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted where /proc is")
def test_a_reader_begins_no_threads(encoders):
    before = set(os.listdir("/proc/self/task"))
    encoders["compare"].reader.read(speech_like())
    assert set(os.listdir("/proc/self/task")) <= before
