"""The demo corpus: media rendered from a plan, so that every extractor has something real to read.

No published corpus may be shipped, so this one is made: replies to somebody's story, spoken by eSpeak NG and
acted by the face of a public-domain portrait. In some utterances one modality contradicts the other two; the
plan is written beside the corpus (``planted.csv``), for comparison with what an analysis finds.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mixed_signals.extract.demo.acting import FPS, act_face, act_line, cast_speaker
from mixed_signals.extract.demo.face import SIZE, Look, draw_frames
from mixed_signals.extract.demo.plan import (
    Draw,
    PlannedUtterance,
    plan_utterances,
    rate_utterances,
    speaker_name,
)
from mixed_signals.extract.demo.voice import speak
from mixed_signals.extract.demo.words import reply
from mixed_signals.store.corpus import MODALITIES
from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.files import replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WORTH_A_WORKER = 20  # utterances, below which another process costs more than it saves


@dataclass(frozen=True)
class DemoCorpus:
    """Where the parts of a demo corpus are.

    Parameters
    ----------
    folder
        The corpus.
    utterances
        CSV: ``utterance_id, media`` (relative to ``media_root``), ``text, label, speaker``.
    ratings
        CSV: ``utterance_id, rater, shown, value, count``.
    planted
        CSV: ``utterance_id, conflict`` (the contradicting modality, or nothing), ``affect_text, affect_audio,
        affect_video`` (warm, neutral or cold), ``label``.
    media_root
        The folder that ``media`` is relative to.
    """

    folder: Path
    utterances: Path
    ratings: Path
    planted: Path
    media_root: Path


def make_demo_corpus(
    folder: Path,
    *,
    n_utterances: int = 240,
    n_speakers: int = 12,
    conflict_share: float = 0.2,
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
    workers: int | None = None,
) -> DemoCorpus:
    """Make a corpus of short videos with speech, labels and ratings.

    Parameters
    ----------
    folder
        Where it is written; files of an earlier corpus there are replaced.
    n_utterances, n_speakers
        Its size. Each speaker has at least two utterances.
    conflict_share
        Share of the utterances, from 0 to 1, in which one modality contradicts the other two.
    seed
        The same seed gives the same tables and the same media, whatever the number of workers.
    on_progress
        Called with 1 after each rendered utterance.
    workers
        Processes that render; by default as many as there are processors, fewer for a small corpus.

    Returns
    -------
    DemoCorpus
        The paths of what was written.

    Raises
    ------
    UsageError
        If a size or share is impossible.
    MixedSignalsError
        If the ``demo`` extra is not installed, or the speech synthesiser fails.
    """
    _check_call(n_utterances, n_speakers, conflict_share, seed)
    _check_extra()
    from joblib import Parallel, delayed

    corpus = DemoCorpus(
        folder, folder / "utterances.csv", folder / "ratings.csv", folder / "planted.csv", folder
    )
    (folder / "media").mkdir(parents=True, exist_ok=True)
    utterances = plan_utterances(n_utterances, n_speakers, conflict_share, seed)
    speakers = [cast_speaker(index, seed) for index in range(n_speakers)]
    streams = [Draw.UTTERANCE.rng(seed, index) for index in range(n_utterances)]
    texts = [
        reply(u.affect["text"], u.strength["text"], rng) for u, rng in zip(utterances, streams, strict=True)
    ]
    rate, sounds = speak(
        [
            act_line(text, speakers[utterance.speaker], utterance.warmth("audio"), rng)
            for utterance, text, rng in zip(utterances, texts, streams, strict=True)
        ]
    )
    tasks = []
    for utterance, samples, rng in zip(utterances, sounds, streams, strict=True):
        speaker = speakers[utterance.speaker]
        controls = act_face(speaker, utterance.warmth("video"), _loudness(samples, rate), rng)
        tasks.append(delayed(_render)(folder / _media(utterance), speaker.look, controls, samples, rate))
    n_jobs = workers or min(os.cpu_count() or 1, -(-n_utterances // _WORTH_A_WORKER))
    for _ in Parallel(n_jobs=n_jobs, return_as="generator")(tasks):
        if on_progress:
            on_progress(1)
    _write_tables(corpus, utterances, texts, seed)
    return corpus


def _check_call(n_utterances: int, n_speakers: int, conflict_share: float, seed: int) -> None:
    if n_speakers < 1:
        raise UsageError(f"n_speakers: {n_speakers} is too few; give 1 or more")
    if n_utterances < 2 * n_speakers:
        raise UsageError(
            f"n_utterances: {n_utterances} is too few for {n_speakers} speakers; give {2 * n_speakers} or more"
        )
    if not 0 <= conflict_share <= 1:
        raise UsageError(f"conflict_share: {conflict_share} is not a share; give a number from 0 to 1")
    if seed < 0:
        raise UsageError(f"seed: {seed} is negative; give 0 or more")


def _check_extra() -> None:
    for module in ("cv2", "espeakng_loader", "skimage"):
        try:
            import_module(module)
        except ImportError as error:
            raise MixedSignalsError(
                f'the demo needs {module} ({error}); mend: pip install "mixed-signals[demo]"'
            ) from error


def _media(utterance: PlannedUtterance) -> str:
    return f"media/{utterance.utterance_id}.mp4"


def _loudness(samples: NDArray[np.int16], rate: int) -> NDArray[np.float64]:
    """Return the root mean square of each frame's samples, the loudest frame being 1, shape ``(n_frames,)``."""
    n_frames = -(-len(samples) * FPS // rate)
    edges = np.arange(n_frames + 1) * rate // FPS
    power = np.square(samples, dtype=np.float64)
    levels = np.sqrt([power[start:end].mean() for start, end in pairwise(edges)])
    return levels / levels.max()


def _render(
    path: Path,
    look: Look,
    controls: Mapping[str, NDArray[np.float64]],
    samples: NDArray[np.int16],
    rate: int,
) -> None:
    """Write one utterance as H.264 (MPEG-4 where no such encoder was built in) and AAC."""
    import av

    with replacing(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        video = container.add_stream(codec, rate=FPS, width=SIZE, height=SIZE, pix_fmt="yuv420p")
        video.thread_count = 1  # the picture depends on how it is cut into threads
        if codec == "libx264":
            video.options = {"preset": "veryfast", "crf": "21"}
        else:
            video.bit_rate = 600_000
        audio = container.add_stream("aac", rate=rate, layout="mono")
        sound = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        sound.sample_rate = rate
        for image in draw_frames(look, controls):
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode())
        container.mux(audio.encode(sound))
        container.mux(audio.encode())


def _write_tables(
    corpus: DemoCorpus, utterances: Sequence[PlannedUtterance], texts: Sequence[str], seed: int
) -> None:
    _write_csv(corpus.ratings, rate_utterances(utterances, seed))
    _write_csv(
        corpus.planted,
        [
            {"utterance_id": utterance.utterance_id, "conflict": utterance.conflict}
            | {f"affect_{modality}": utterance.affect[modality] for modality in MODALITIES}
            | {"label": utterance.label}
            for utterance in utterances
        ],
    )
    _write_csv(
        corpus.utterances,
        [
            {
                "utterance_id": utterance.utterance_id,
                "media": _media(utterance),
                "text": text,
                "label": utterance.label,
                "speaker": speaker_name(utterance.speaker),
            }
            for utterance, text in zip(utterances, texts, strict=True)
        ],
    )


def _write_csv(path: Path, rows: Sequence[Mapping[str, str | int]]) -> None:
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
