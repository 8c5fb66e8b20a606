"""Facial expression and head pose over time, from MediaPipe's face landmarker."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from mixed_signals.extract import preflight, weights
from mixed_signals.extract.encoders.base import Encoder
from mixed_signals.extract.media import Absent, Clip
from mixed_signals.store import Recipe

FRAMES_PER_SECOND = 10
FUNCTIONALS = ("mean", "std", "max", "speed")
POSE = ("pitch", "yaw", "roll", "x", "y", "z")
BLENDSHAPES = (
    "_neutral",
    *(f"browDown{side}" for side in ("Left", "Right")),
    "browInnerUp",
    *(f"browOuterUp{side}" for side in ("Left", "Right")),
    "cheekPuff",
    *(f"cheekSquint{side}" for side in ("Left", "Right")),
    *(
        f"eye{what}{side}"
        for what in ("Blink", "LookDown", "LookIn", "LookOut", "LookUp", "Squint", "Wide")
        for side in ("Left", "Right")
    ),
    "jawForward",
    "jawLeft",
    "jawOpen",
    "jawRight",
    "mouthClose",
    *(f"mouthDimple{side}" for side in ("Left", "Right")),
    *(f"mouthFrown{side}" for side in ("Left", "Right")),
    "mouthFunnel",
    "mouthLeft",
    *(f"mouthLowerDown{side}" for side in ("Left", "Right")),
    *(f"mouthPress{side}" for side in ("Left", "Right")),
    "mouthPucker",
    "mouthRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    *(f"mouth{what}{side}" for what in ("Smile", "Stretch", "UpperUp") for side in ("Left", "Right")),
    *(f"noseSneer{side}" for side in ("Left", "Right")),
)
SIGNALS = (*BLENDSHAPES, *(f"head_{name}" for name in POSE))


class Blendshapes(Encoder):
    """52 blendshapes and the head's pose, ten times a second, each as mean, std, max and speed over time.

    Blendshapes are activations from 0 to 1; pose is pitch, yaw and roll in degrees and the head's place in the
    landmarker's metric space, in centimetres. `speed` is the mean absolute change per second between
    neighbouring frames that show a face. The last dimension, ``face_share``, is the share of frames with a face.
    Frames without one are left out of the functionals; an utterance without any is missing. Every picture is
    looked at on its own (no tracking), so no vector depends on another utterance. Where several faces are in
    view, the landmarker's first is taken.

    Source: MediaPipe Face Landmarker (Apache-2.0), model bundle float16/1.
    """

    libraries = ("mediapipe", "av")
    in_processes = True

    def __init__(self) -> None:
        self.dimensions = [f"{signal}.{f}" for signal in SIGNALS for f in FUNCTIONALS] + ["face_share"]
        self.recipe = Recipe(
            encoder="blendshapes",
            modality="video",
            weights=weights.fingerprint("face-landmarker"),
            preprocessing={"frames_per_second": FRAMES_PER_SECOND, "mode": "image", "faces": "first"},
            layer="blendshapes, pose",
            pooling=", ".join(FUNCTIONALS),
        )

    def prepare(self) -> None:
        """Check for the graphics libraries that MediaPipe needs, and fetch the pinned weights."""
        preflight.require_system()
        weights.fetch("face-landmarker")

    def load(self) -> None:
        """Make the landmarker."""
        with _quiet():
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision

            self._image: Any = mediapipe.Image
            self._format: Any = mediapipe.ImageFormat.SRGB
            bundle = weights.path("face-landmarker") / "face_landmarker.task"
            self._landmarker: Any = vision.FaceLandmarker.create_from_options(
                vision.FaceLandmarkerOptions(
                    base_options=BaseOptions(model_asset_path=str(bundle)),
                    running_mode=vision.RunningMode.IMAGE,
                    num_faces=1,
                    output_face_blendshapes=True,
                    output_facial_transformation_matrixes=True,
                )
            )
            blank = np.zeros((64, 64, 3), np.uint8)
            self._landmarker.detect(self._image(image_format=self._format, data=blank))

    def close(self) -> None:
        """Close the landmarker, which MediaPipe wants done before Python ends."""
        with _quiet():
            self._landmarker.close()

    def vectors(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Return one vector (233,) per utterance."""
        return [self._vector(clip) for clip in clips]

    def _vector(self, clip: Clip) -> np.ndarray:
        rows = [self._face(picture) for picture in clip.frames(FRAMES_PER_SECOND)]
        if all(row is None for row in rows):
            raise Absent(f"no face in {len(rows)} frame{'s' if len(rows) > 1 else ''}")
        return functionals(rows, FRAMES_PER_SECOND)

    def _face(self, picture: np.ndarray) -> np.ndarray | None:
        """Return the signals of one picture, shape (58,), or None without a face."""
        found = self._landmarker.detect(self._image(image_format=self._format, data=picture))
        if not found.face_blendshapes:
            return None
        scores = {category.category_name: category.score for category in found.face_blendshapes[0]}
        values = [scores[name] for name in BLENDSHAPES]
        return np.array([*values, *pose(found.facial_transformation_matrixes[0])])


def functionals(rows: Sequence[np.ndarray | None], rate: float) -> np.ndarray:
    """Return mean, std, max and speed of every signal over the frames with a face, then the share of those.

    Parameters
    ----------
    rows : sequence of ndarray (S,) or None
        One entry per frame; None where no face was found. At least one is not None.
    rate : float
        Frames per second.

    Returns
    -------
    ndarray of float32, shape (4 S + 1,)
    """
    seen = np.array([row is not None for row in rows])
    values = np.stack([row for row in rows if row is not None])
    neighbours = np.diff(np.flatnonzero(seen)) == 1
    steps = np.abs(np.diff(values, axis=0))[neighbours]
    speed = steps.mean(axis=0) * rate if len(steps) else np.zeros(values.shape[1])
    table = np.stack([values.mean(axis=0), values.std(axis=0), values.max(axis=0), speed], axis=1)
    return np.append(table.ravel(), seen.mean()).astype(np.float32)


def pose(matrix: np.ndarray) -> list[float]:
    """Return pitch, yaw, roll (degrees; rotation R = Rz(roll) Ry(yaw) Rx(pitch)) and x, y, z of a head.

    Parameters
    ----------
    matrix : ndarray, shape (4, 4)
        The landmarker's facial transformation matrix.
    """
    rotation, place = np.asarray(matrix)[:3, :3], np.asarray(matrix)[:3, 3]
    rotation = rotation / np.linalg.norm(rotation, axis=0)
    pitch = np.arctan2(rotation[2, 1], rotation[2, 2])
    yaw = np.arcsin(np.clip(-rotation[2, 0], -1, 1))
    roll = np.arctan2(rotation[1, 0], rotation[0, 0])
    return [*np.degrees([pitch, yaw, roll]), *place]


@contextmanager
def _quiet() -> Iterator[None]:
    """Send what native code writes to standard error nowhere; its start-up notes are not for users."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
