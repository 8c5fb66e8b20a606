"""How a speaker of the demo corpus acts: from the intended warmth to a manner of speaking and a moving face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mixed_signals.extract.demo.face import Look
from mixed_signals.extract.demo.plan import Draw
from mixed_signals.extract.demo.voice import VOICES, Line

if TYPE_CHECKING:
    from numpy.typing import NDArray

FPS = 15
_VOICE_NOISE, _FACE_NOISE = 0.25, 0.3  # spread of what is acted around what is intended, in warmth


@dataclass(frozen=True)
class Speaker:
    """A voice, a face, and the habits that go with them.

    Parameters
    ----------
    voice
        eSpeak NG's voice and variant.
    pitch, rate, volume
        What this speaker adds to eSpeak NG's settings, whatever the affect.
    look
        The face.
    smile
        What this speaker adds to the smile, whatever the affect.
    """

    voice: str
    pitch: float
    rate: float
    volume: float
    look: Look
    smile: float


def cast_speaker(index: int, seed: int) -> Speaker:
    """Return the speaker of an index; the first twelve have voices of their own."""
    rng = Draw.SPEAKER.rng(seed, index)
    light = rng.uniform(0.75, 1.0)
    red, green, blue = (light * rng.uniform(0.93, 1.07, 3)).tolist()
    return Speaker(
        voice=VOICES[index % len(VOICES)],
        pitch=rng.normal(0, 4),
        rate=rng.normal(0, 8),
        volume=rng.normal(0, 5),
        look=Look(
            mirrored=bool(index % 4 >= 2),
            reach=rng.uniform(76, 98),
            turn=rng.uniform(-7, 7),
            offset=(rng.uniform(-8, 8), rng.uniform(-6, 6)),
            tint=(red, green, blue),
        ),
        smile=rng.normal(0, 0.15),
    )


def act_line(text: str, speaker: Speaker, warmth: float, rng: np.random.Generator) -> Line:
    """Return how the words are spoken: warm is slow, soft and lively; cold is fast, loud and monotone."""
    shown = warmth + rng.normal(0, _VOICE_NOISE)
    return Line(
        text=text,
        voice=speaker.voice,
        rate=_setting(205 - 30 * shown + speaker.rate + rng.normal(0, 6), 140, 280),
        pitch=_setting(50 + 10 * shown + speaker.pitch + rng.normal(0, 3), 10, 90),
        pitch_range=_setting(45 + 40 * shown + rng.normal(0, 8), 0, 100),
        volume=_setting(85 - 18 * shown + speaker.volume + rng.normal(0, 4), 50, 115),
    )


def _setting(value: float, low: int, high: int) -> int:
    return round(min(max(value, low), high))


def act_face(
    speaker: Speaker, warmth: float, loudness: NDArray[np.float64], rng: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """Return the face's controls in each frame: warm smiles and lifts the brows, cold frowns.

    Parameters
    ----------
    speaker
        Who speaks.
    warmth
        The intended affect, from -1 to 1.
    loudness
        The voice in each frame, from 0 to 1, shape ``(n_frames,)``; it opens the jaw.
    rng
        Where blinks, sway and the imperfection of the acting come from.
    """
    seconds = np.arange(len(loudness)) / FPS
    shown = warmth + rng.normal(0, _FACE_NOISE)
    course = np.clip(0.4 + seconds / 0.6, 0, 1) * shown + _sway(seconds, rng, 0.08)
    warm, cold = np.clip(course, 0, 1.2), np.clip(-course, 0, 1.2)
    blink = rng.uniform(0.3, 3.5)
    return {
        "smile": -1.5 + 1.7 * warm - 0.7 * cold + speaker.smile,
        "close": 0.5 - 0.5 * warm + 0.5 * cold,
        "jaw": 1.3 * loudness,
        "raise": 0.8 * warm,
        "furrow": 0.9 * cold,
        "blink": np.exp(-(((seconds - blink) / 0.08) ** 2)),
        "shift": _sway(seconds, rng, 1.2),
        "nod": _sway(seconds, rng, 0.8),
    }


def _sway(seconds: NDArray[np.float64], rng: np.random.Generator, size: float) -> NDArray[np.float64]:
    """Return a slow, aperiodic movement around 0: two sines of unrelated frequency and phase."""
    (slow, fast), phases = rng.uniform((0.2, 0.6), (0.5, 1.1)), rng.uniform(0, 2 * np.pi, 2)
    return size * (
        np.sin(2 * np.pi * slow * seconds + phases[0]) + 0.5 * np.sin(2 * np.pi * fast * seconds + phases[1])
    )
