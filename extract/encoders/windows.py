"""At which times video networks look: windows of pictures.

An utterance is cut into equal windows, none longer than what a network was trained on, and each window into as many
equal parts as the network takes pictures; a picture is the one on screen in the middle of its part. So nothing is
left out and nothing is padded, and short utterances are looked at more densely. An encoder of single pictures takes
one picture a window.
"""

from __future__ import annotations

import numpy as np

from mixed_signals.extract.encoders.base import PictureReader
from mixed_signals.extract.encoders.pictures import Pictures

_KINETICS = 30  # frames per second of most of its videos; published strides count its frames
_STRIDES = {"videomae": 4, "vivit": 2}
_TIMESFORMER_STRIDES = {8: 32, 16: 16, 96: 4}  # by number of frames
_VJEPA2_RATE = 4


def trained_rate(model_type: str, frames: int) -> float:
    """Return at how many pictures per second a clip encoder was trained.

    Sources: VideoMAE, 16 frames of stride 4 (Tong et al., arXiv 2203.12602); ViViT, 32 frames of stride 2 (Arnab et
    al., arXiv 2103.15691); TimeSformer, 8 frames of stride 32, HR 16 of 16, L 96 of 4 (Bertasius et al., arXiv
    2102.05095), all of Kinetics, taken as 30 frames per second; V-JEPA 2, 4 frames per second (Assran et al., arXiv
    2506.09985, and its training configurations).
    """
    if model_type == "vjepa2":
        return _VJEPA2_RATE
    stride = _STRIDES.get(model_type) or _TIMESFORMER_STRIDES.get(frames, 32)
    return _KINETICS / stride


class WindowReader(PictureReader):
    """Reads windows of pictures.

    Parameters
    ----------
    pictures : Pictures
        How each is made ready.
    frames : int
        Pictures in a window.
    seconds : float
        The longest a window may be.
    """

    def __init__(self, pictures: Pictures, frames: int, seconds: float) -> None:
        self.pictures = pictures
        self.frames = frames
        self.seconds = seconds

    def count(self, spans: np.ndarray | float) -> np.ndarray:
        """Return how many windows there are in spans of so many seconds, at least one in each."""
        whole = np.ceil(np.asarray(spans) / self.seconds - 1e-6)  # what rounding adds makes no window
        return np.maximum(whole, 1).astype(int)

    def times(self, start: float, stop: float) -> np.ndarray:
        """Return the middles of the equal parts of all windows."""
        n = int(self.count(stop - start)) * self.frames
        return start + (np.arange(n) + 0.5) * ((stop - start) / n)

    def look(self, picture: np.ndarray) -> np.ndarray:
        """Return a picture resized and cropped."""
        return self.pictures.fit(picture)

    def read(self, looks: list[np.ndarray]) -> np.ndarray:
        """Return the windows, uint8 (windows, frames, height, width, 3)."""
        return np.stack(looks).reshape(-1, self.frames, *looks[0].shape)
