"""Facial expression and head pose over time, from MediaPipe's face landmarker."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from mixed_signals.extract import preflight, weights
from mixed_signals.extract.encoders.base import Output, PictureReader, WorkerEncoder
from mixed_signals.extract.media import Absent
from mixed_signals.store import Recipe, UsageError
from mixed_signals.store.terminal import counted

FACES = 5
"""How many faces of a picture are compared at most; more cost about 8 ms each, and only where they are in view."""

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

_TICK = 1e-3  # seconds by which time stamps may be rounded


class FaceReader(PictureReader):
    """Finds the face in each picture, and describes an utterance by functionals over its pictures."""

    def __init__(self, frame_rate: float) -> None:
        self.frame_rate = frame_rate

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
                    num_faces=FACES,
                    output_face_blendshapes=True,
                    output_facial_transformation_matrixes=True,
                )
            )
            self.look(np.zeros((64, 64, 3), np.uint8))

    def close(self) -> None:
        """Close the landmarker, which MediaPipe wants done before Python ends."""
        with _quiet():
            self._landmarker.close()

    def times(self, start: float, stop: float) -> np.ndarray:
        """Return start, start + 1/frame_rate, ... before `stop`; at least one."""
        steps = max(1, math.ceil((stop - start - _TICK) * self.frame_rate))
        return start + np.arange(steps) / self.frame_rate

    def look(self, picture: np.ndarray) -> np.ndarray | None:
        """Return the signals (58,) of the largest face, or None without a face."""
        whole = np.ascontiguousarray(picture)  # the landmarker takes any other memory for another picture
        found = self._landmarker.detect(self._image(image_format=self._format, data=whole))
        if not found.face_landmarks:
            return None
        largest = int(np.argmax([_area(face) for face in found.face_landmarks]))
        scores = {category.category_name: category.score for category in found.face_blendshapes[largest]}
        values = [scores[name] for name in BLENDSHAPES]
        return np.array([*values, *pose(found.facial_transformation_matrixes[largest])])

    def read(self, looks: list[np.ndarray | None]) -> tuple[np.ndarray]:
        """Return the functionals (233,), float32, of the signals of neighbouring pictures.

        Raises
        ------
        Absent
            If there is no face in any of them.
        """
        if all(signals is None for signals in looks):
            raise Absent(f"no face in {counted(len(looks), 'frame')}")
        return (functionals(looks, self.frame_rate),)


class Blendshapes(WorkerEncoder):
    """52 blendshapes and the head's pose at a steady rate, each as mean, std, max and speed over time.

    Blendshapes are activations from 0 to 1, ``Left`` and ``Right`` those of the person; pose is as `pose` says, in
    degrees, and the head's place in the landmarker's metric space, in centimetres. `speed` is the mean absolute
    change per second between neighbouring frames that show a face, 0 where no two are neighbours; the landmarks'
    jitter counts in it, the more, the higher the frame rate. The last dimension, ``face_share``, is the share of
    frames with a face. Frames without one are left out of the functionals; an utterance without any is missing.

    Every picture is looked at on its own (no tracking), so no vector depends on another utterance. Where several faces
    are in view, the largest is taken, by the box around its landmarks, of the five that the landmarker is surest of:
    in each picture anew, so where two people are about as large, the signals may go from one to the other.

    Parameters
    ----------
    frame_rate : float
        How many pictures a second are looked at.

    Raises
    ------
    UsageError
        If the frame rate is not a number above 0.

    Notes
    -----
    Source: MediaPipe Face Landmarker (Apache-2.0), model bundle float16/1.
    """

    libraries = ("mediapipe", "av")
    reader: FaceReader

    def __init__(self, frame_rate: float = 10) -> None:
        if not 0 < frame_rate < math.inf:
            raise UsageError(f"--frame-rate {frame_rate:g}: use a number of pictures a second above 0")
        self.reader = FaceReader(float(frame_rate))
        recipe = Recipe(
            encoder="blendshapes",
            modality="video",
            weights=weights.fingerprint("face-landmarker"),
            preprocessing={
                "frames_per_second": self.reader.frame_rate,
                "mode": "image",
                "faces": f"largest of {FACES}",
            },
            layer="blendshapes, pose",
            pooling=", ".join(FUNCTIONALS),
        )
        names = (f"{signal}.{functional}" for signal in SIGNALS for functional in FUNCTIONALS)
        self.outputs = (Output(recipe, (*names, "face_share")),)

    def prepare(self) -> None:
        """Check for the graphics libraries that MediaPipe needs, and fetch the pinned weights."""
        preflight.require_system()
        weights.fetch("face-landmarker")


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


def _area(landmarks: Sequence[Any]) -> float:
    """Return the area of the box around a face, as a share of the picture."""
    places = np.array([(landmark.x, landmark.y) for landmark in landmarks])
    return float(np.prod(np.ptp(places, axis=0)))


def pose(matrix: np.ndarray) -> list[float]:
    """Return pitch, yaw, roll (degrees; rotation R = Rz(roll) Ry(yaw) Rx(pitch)) and x, y, z of a head.

    As seen in the picture: pitch is positive where the head looks down, yaw where it turns to the right, roll where it
    leans to the left; x grows to the right, y upwards, and z is negative, the more the farther the head is away.

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
