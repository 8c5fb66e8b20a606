"""The face of the demo corpus: one public-domain portrait, moved by a handful of controls.

The portrait is Eileen Collins by NASA, which scikit-image ships as ``skimage.data.astronaut()``. A control (a
smile, an open jaw) is a few *pushes*: skin around a point is displaced, less so with distance. The displacement
of a frame is linear in its controls, so each control's field is computed once for a speaker and a frame is one
weighted sum and one remapping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE = 256  # pixels, width and height of a frame


class _Push(NamedTuple):
    """A displacement ``(dx, dy)`` at ``(x, y)`` that falls off as a Gaussian; pixels of the portrait."""

    x: float
    y: float
    dx: float
    dy: float
    sigma_x: float
    sigma_y: float


_PUSHES = {
    "smile": (_Push(202, 140, -2, -5, 11, 11), _Push(245, 141, 2, -5, 11, 11)),
    "close": (_Push(223, 139, 0, 2.5, 12, 5), _Push(223, 156, 0, -2.5, 12, 5)),
    "jaw": (_Push(223, 161, 0, 5, 20, 10), _Push(223, 175, 0, 3, 22, 10)),
    "raise": (_Push(212, 92, 0, -4, 9, 6), _Push(238, 93, 0, -4, 9, 6)),
    "furrow": (_Push(213, 92, 3, 4, 8, 6), _Push(237, 93, -3, 4, 8, 6)),
    "blink": (_Push(204, 98, 0, 5, 9, 3.6), _Push(246, 100, 0, 5, 9, 3.6)),
    "shift": (_Push(224, 105, 1, 0, 48, 55),),
    "nod": (_Push(224, 105, 0, 1, 48, 55),),
}
CONTROLS = tuple(_PUSHES)
_CENTRE = (224.0, 122.0)  # of the face, in the portrait


@dataclass(frozen=True)
class Look:
    """What tells one speaker's face from another's.

    Parameters
    ----------
    mirrored
        Whether left and right are exchanged.
    reach
        Half the side of the square cut from the portrait, in its pixels.
    turn
        Rotation of the picture in degrees.
    offset
        Where the face is, from the middle of the frame, in the portrait's pixels.
    tint
        Gain of red, green and blue.
    """

    mirrored: bool
    reach: float
    turn: float
    offset: tuple[float, float]
    tint: tuple[float, float, float]


def draw_frames(look: Look, controls: Mapping[str, NDArray[np.float64]]) -> NDArray[np.uint8]:
    """Return the frames that a course of controls gives.

    Parameters
    ----------
    look
        The speaker's look.
    controls
        For each of :data:`CONTROLS`, its value in each frame, shape ``(n_frames,)``. The portrait as it was
        taken (a broad smile) is all zeros.

    Returns
    -------
    ndarray
        Red, green and blue, shape ``(n_frames, SIZE, SIZE, 3)``.
    """
    import cv2

    portrait, places, fields = _prepare(look)
    weights = np.stack([controls[name] for name in CONTROLS], axis=1).astype(np.float32)
    frames = np.empty((len(weights), SIZE, SIZE, 3), np.uint8)
    for frame, weight in zip(frames, weights, strict=True):
        source = places - np.einsum("k,kchw->chw", weight, fields)  # no BLAS, whose threads change the sums
        cv2.remap(portrait, source[0], source[1], cv2.INTER_LINEAR, dst=frame, borderMode=cv2.BORDER_REFLECT)
    return frames


@lru_cache(maxsize=2)
def _prepare(look: Look) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Return the tinted portrait, the place in it of each pixel (2, S, S), and each control's field (K, 2, S, S)."""
    import skimage.data

    portrait = np.clip(skimage.data.astronaut() * np.array(look.tint), 0, 255).astype(np.uint8)
    steps = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
    across, down = np.meshgrid(steps * look.reach - look.offset[0], steps * look.reach - look.offset[1])
    angle = np.deg2rad(look.turn)
    x = np.cos(angle) * across - np.sin(angle) * down
    y = np.sin(angle) * across + np.cos(angle) * down
    places = np.stack([_CENTRE[0] + (-x if look.mirrored else x), _CENTRE[1] + y])
    fields = np.stack([sum(_field(push, places) for push in _PUSHES[name]) for name in CONTROLS])
    return portrait, places.astype(np.float32), fields.astype(np.float32)


def _field(push: _Push, places: NDArray[np.float64]) -> NDArray[np.float64]:
    far = ((places[0] - push.x) / push.sigma_x) ** 2 + ((places[1] - push.y) / push.sigma_y) ** 2
    return np.exp(-far / 2) * np.array([push.dx, push.dy])[:, None, None]
