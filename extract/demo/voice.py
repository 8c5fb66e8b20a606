"""The voices of the demo corpus: sentences spoken by eSpeak NG.

eSpeak NG keeps state from one sentence to the next (noise, flutter, the phase of the wave), so the same words
sound a little different the second time. :func:`speak` therefore runs a fresh process that speaks all its
sentences in order: the same list gives the same samples, whatever was spoken before.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from mixed_signals.store.errors import MixedSignalsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Variants of eSpeak NG's voices, women's and men's in turn.
VOICES = (
    "en-us+f2", "en-us+m3", "en+f3", "en+m1", "en-us+f4", "en-us+m7",
    "en+f1", "en-us+m2", "en-us+f5", "en+m4", "en-us+Annie", "en-us",
)  # fmt: skip

# Values of eSpeak NG's C interface (speak_lib.h).
_SYNCHRONOUS, _DONT_EXIT = 2, 0x8000
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_POSITION_CHARACTER, _UTF8 = 1, 1


@dataclass(frozen=True)
class Line:
    """One sentence and how it is spoken.

    Parameters
    ----------
    text
        The words.
    voice
        A voice and variant of eSpeak NG, such as ``en-us+f2``.
    rate
        Words per minute, 80 to 450.
    pitch
        0 to 100; 50 is the voice's own.
    pitch_range
        0 (monotone) to 100; 50 is the voice's own.
    volume
        0 to 200; 100 is the voice's own.
    """

    text: str
    voice: str
    rate: int
    pitch: int
    pitch_range: int
    volume: int


def speak(lines: Sequence[Line]) -> tuple[int, list[NDArray[np.int16]]]:
    """Return the sampling rate in Hz and, for each line, its samples (mono, 16 bit).

    Raises
    ------
    MixedSignalsError
        If the synthesiser fails; the message has its last words.
    """
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps([asdict(line) for line in lines]).encode(),
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise MixedSignalsError(f"eSpeak NG could not speak the demo's sentences: {words[-1]}")
    with np.load(io.BytesIO(done.stdout)) as archive:
        return int(archive["rate"]), [archive[str(index)] for index in range(len(lines))]


class _Synthesizer:
    """eSpeak NG's library, loaded into this process; its samples come back through a callback."""

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path()
        self.rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(data), _DONT_EXIT)
        if self.rate <= 0:
            raise RuntimeError(f"no voices could be loaded from {data}")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(0))  # else the clock seeds the breath of a voice
        self._chunks: list[NDArray[np.int16]] = []
        callback = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )
        self._callback = callback(self._receive)  # kept: the library calls it for as long as it speaks
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples, count, events):  # type: ignore[no-untyped-def]
        if samples and count:
            self._chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0

    def say(self, line: Line) -> NDArray[np.int16]:
        """Return the samples of one line, without the silence at its end."""
        if self._library.espeak_SetVoiceByName(line.voice.encode()):
            raise RuntimeError(f"no voice {line.voice}")
        settings = {_RATE: line.rate, _VOLUME: line.volume, _PITCH: line.pitch, _RANGE: line.pitch_range}
        for parameter, value in settings.items():
            self._library.espeak_SetParameter(parameter, value, 0)
        self._chunks.clear()
        words = ctypes.create_string_buffer(line.text.encode())
        size = ctypes.c_size_t(len(words))
        failed = self._library.espeak_Synth(words, size, 0, _POSITION_CHARACTER, 0, _UTF8, None, None)
        if failed or not self._chunks:
            raise RuntimeError(f"no sound for {line.text!r}")
        samples = np.concatenate(self._chunks)
        return samples[: np.flatnonzero(samples)[-1] + 1]


def main() -> None:
    """Speak the lines given as JSON on standard input; write them as ``.npz`` to standard output."""
    lines = [Line(**fields) for fields in json.load(sys.stdin)]
    synthesizer = _Synthesizer()
    sounds = {str(index): synthesizer.say(line) for index, line in enumerate(lines)}
    archive = io.BytesIO()
    np.savez(archive, rate=synthesizer.rate, **sounds)  # type: ignore[arg-type]
    sys.stdout.buffer.write(archive.getvalue())


if __name__ == "__main__":
    main()
