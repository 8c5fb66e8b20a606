"""Real weights on real input. They come with the pinned weights; without a network and a cache these tests skip."""

import numpy as np
import pytest
from outside_data import outside_data

from mixed_signals.extract import Clip, make_encoder
from mixed_signals.store import MixedSignalsError, Status


def loaded(modality, name):
    try:
        encoder = make_encoder(modality, name, device="cpu")
    except MixedSignalsError as error:
        if "SHA-256" in str(error):  # a wrong hash is a failure wherever it happens
            raise
        pytest.skip(f"weights are not to be had here: {error}")
    encoder.load()
    encoder.reader.load()
    return encoder


def encode(encoder, *said):
    encoded = encoder.encode(encoder.pack(encoder.reader.read(list(said))))
    assert all(one.status == Status.OK for one in encoded)
    return [one.vectors[0] for one in encoded]


@pytest.fixture(scope="module")
def minilm():
    return loaded("text", "minilm")


def test_minilm_gives_the_published_similarities(minilm):
    said = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
    a, b, c = encode(minilm, *said)
    assert [round(float(x), 4) for x in (a @ b, a @ c, b @ c)] == [0.6660, 0.1046, 0.1411]


def test_padding_does_not_change_a_sentence(minilm):
    said = ("I am so sorry.", "and then " * 100)
    for one, text in zip(encode(minilm, *said), said, strict=True):
        np.testing.assert_allclose(one, encode(minilm, text)[0], atol=1e-5)


def test_whisper_tells_speech_from_speech_and_averages_over_windows():
    encoder = loaded("audio", "whisper-tiny.en")
    files = sorted((outside_data("ravdess") / "audio").glob("*.flac"))[:2]
    sounds = [Clip(file.stem, media=file).waveform(16_000) for file in files]

    def vectors(*samples):
        inputs = [encoder.reader.read(one) for one in samples]
        return [one.vectors[0] for one in encoder.encode(encoder.pack(inputs))]

    one, other = vectors(*sounds)
    assert one.shape == (384,)
    assert np.isfinite(one).all()
    assert not np.allclose(one, other, atol=1e-2)
    window = np.zeros(30 * 16_000, np.float32)
    window[: len(sounds[0])] = sounds[0]
    twice, once = vectors(np.concatenate([window, window]), window)
    np.testing.assert_allclose(twice, once, atol=1e-4)
