"""Pictures as a network takes them: resized, cropped, rescaled and normalised as its checkpoint says.

A checkpoint's JSON names a processor class of transformers and its settings; what it leaves out, that class's
defaults say. Two steps: where media are decoded, Pillow resizes and numpy crops, to uint8, which is small to send;
on the device, float32, one multiplication and one addition rescale and normalise.

The results are those of transformers' own Pillow processors: pixels bit for bit, normalised values up to the
rounding of float32. V-JEPA 2 and DINOv3 have a processor for torchvision only: pixels differ from it by at most
one of 255 levels, since Pillow and torch round the same antialiased filter differently (torch's resizing of uint8
follows Pillow's), and since DINOv3's resizes what is rescaled already, which nothing rounds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mixed_signals.store import MixedSignalsError

if TYPE_CHECKING:
    from torch import Tensor

    from mixed_signals.extract.checkpoints import Checkpoint

FILES = ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json")
"""Where a checkpoint's settings may be; the first one found counts, as in transformers."""

_NEAREST, _LANCZOS, _BILINEAR, _BICUBIC, _BOX, _HAMMING = range(6)
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers

_STANDARD = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
_IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
_OPENAI = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}
_ALL = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
_CROPPED = {
    "do_center_crop": True,
    "crop_size": 224,
    "size": {"shortest_edge": 224},
    "default_to_square": False,
}
_SQUARE = {"do_center_crop": False, "size": {"height": 224, "width": 224}, "default_to_square": True}

PROCESSORS: dict[str, dict[str, Any]] = {
    "bit": {**_ALL, **_CROPPED, **_OPENAI, "resample": _BICUBIC},
    "clip": {**_ALL, **_CROPPED, **_OPENAI, "resample": _BICUBIC},
    "deit": {**_ALL, **_SQUARE, **_STANDARD, "resample": _BICUBIC, "do_center_crop": True}
    | {"size": {"height": 256, "width": 256}, "crop_size": 224},
    "dinov3vit": {**_ALL, **_SQUARE, **_IMAGENET, "resample": _BILINEAR},
    "siglip": {**_ALL, **_SQUARE, **_STANDARD, "resample": _BICUBIC, "default_to_square": False},
    "timesformer": {**_ALL, **_CROPPED, **_IMAGENET, "resample": _BILINEAR},
    "videomae": {**_ALL, **_CROPPED, **_STANDARD, "resample": _BILINEAR},
    "vit": {**_ALL, **_SQUARE, **_STANDARD, "resample": _BILINEAR},
    "vivit": {**_ALL, **_CROPPED, **_STANDARD, "resample": _BILINEAR}
    | {"size": {"shortest_edge": 256}, "rescale_factor": 1 / 127.5, "offset": True},
    "vjepa2": {**_ALL, **_CROPPED, **_IMAGENET, "resample": _BILINEAR, "crop_size": 256},
}
"""Defaults of transformers' processor classes, by what their names begin with, in lower case."""

_OF_TYPE = {
    "clip": "clip",
    "clip_vision_model": "clip",
    "dinov2": "bit",
    "dinov2_with_registers": "bit",
    "dinov3_vit": "dinov3vit",
    "siglip": "siglip",
    "siglip_vision_model": "siglip",
    "timesformer": "videomae",
    "videomae": "videomae",
    "vit": "vit",
    "vivit": "vivit",
    "vjepa2": "vjepa2",
}
"""The processor of a checkpoint that names none, by model type, as transformers' auto classes have it."""

_STEPS = {"do_resize", "do_center_crop", "do_rescale", "do_normalize"}
_IDLE = {"do_convert_rgb", "do_sample_frames"}  # pictures are RGB, and the times are chosen by the reader


@dataclass(frozen=True)
class Pictures:
    """How pictures are made ready for a network.

    Attributes
    ----------
    shape : tuple of int
        Height and width of what comes out: the middle of the resized picture, black around it where it is smaller.
    resize : int or tuple of int, optional
        The shorter side in pixels, the longer in proportion; or height and width.
    resample : int
        Pillow's number of the filter.
    scale, offset : float
        A level of 0 to 255 becomes ``level * scale - offset`` ...
    mean, std : tuple of float, length 3
        ... and this, less the mean, over the standard deviation, is what the network takes.
    """

    shape: tuple[int, int]
    resize: int | tuple[int, int] | None
    resample: int
    scale: float
    offset: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, settings: Mapping[str, Any], model_type: str, source: str) -> Pictures:
        """Read a processor's settings.

        Parameters
        ----------
        settings : mapping
            What ``preprocessor_config.json`` or ``video_preprocessor_config.json`` holds.
        model_type : str
            Of the checkpoint; says which processor where the settings do not.
        source : str
            The file, for messages.

        Raises
        ------
        MixedSignalsError
            If it names a processor or a step that is not known here, a value is of no use, or pictures would not
            all come out in one size.
        """
        family = _family(settings, model_type, source)
        given = {name: value for name, value in settings.items() if value is not None}
        steps = {name for name, value in given.items() if name.startswith("do_") and value}
        idle = _IDLE | ({"do_zero_centering"} if family == "vivit" else set())  # an old name for its offset
        if unknown := sorted(steps - _STEPS - idle):
            raise MixedSignalsError(
                f"{source}: {unknown[0]} is a step of preparing pictures that is not known here: "
                "use another checkpoint, or set it to false if its network does without"
            )
        known = PROCESSORS[family] | given
        try:
            crop = _pair(known.get("crop_size")) if known["do_center_crop"] else None
            resize = _size(known["size"], square=known["default_to_square"]) if known["do_resize"] else None
            if family == "vjepa2" and resize and crop:  # its class reckons the size from the crop's height
                resize = int(crop[0] * 256 / 224)
            shape = crop or resize
            if not isinstance(shape, tuple):
                raise ValueError("pictures would come out in different sizes")
            if known["resample"] not in range(len(_FILTERS)):
                raise ValueError(f"resample {known['resample']}")
            return cls(
                shape=shape,
                resize=resize,
                resample=known["resample"],
                scale=float(known["rescale_factor"]) if known["do_rescale"] else 1.0,
                offset=1.0 if known["do_rescale"] and known.get("offset") else 0.0,
                mean=_three(known["image_mean"]) if known["do_normalize"] else (0.0,) * 3,
                std=_three(known["image_std"]) if known["do_normalize"] else (1.0,) * 3,
            )
        except (ValueError, TypeError) as error:
            raise MixedSignalsError(
                f"{source}: not usable ({error}): take the checkpoint's own file"
            ) from error

    @property
    def said(self) -> dict[str, Any]:
        """All of it by name, as a recipe has it."""
        return {
            "shape": list(self.shape),
            "resize": list(self.resize) if isinstance(self.resize, tuple) else self.resize,
            "resample": _FILTERS[self.resample],
            "scale": self.scale,
            "offset": self.offset,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def fit(self, picture: np.ndarray) -> np.ndarray:
        """Resize and crop one picture.

        Parameters
        ----------
        picture : ndarray of uint8, shape (height, width, 3)
            RGB.

        Returns
        -------
        ndarray of uint8, shape (*self.shape, 3)
        """
        if self.resize is not None:
            from PIL import Image

            height, width = _resized(picture.shape[0], picture.shape[1], self.resize)
            whole = Image.fromarray(picture).resize((width, height), Image.Resampling(self.resample))
            picture = np.asarray(whole)
        return np.ascontiguousarray(_middle(_middle(picture, 0, self.shape[0]), 1, self.shape[1]))

    def normalise(self, pictures: Tensor) -> Tensor:
        """Rescale and normalise pictures, where they are.

        Parameters
        ----------
        pictures : Tensor of uint8, shape (..., height, width, 3)

        Returns
        -------
        Tensor of float32, shape (..., 3, height, width)
        """
        import torch

        std = np.array(self.std)
        shift = (-self.offset - np.array(self.mean)) / std
        factors, shifts = (
            torch.tensor(values[:, None, None], dtype=torch.float32, device=pictures.device)
            for values in (self.scale / std, shift)
        )
        return pictures.movedim(-1, -3).contiguous().float().mul_(factors).add_(shifts)


def pictures_of(checkpoint: Checkpoint, model_type: str) -> Pictures:
    """Return how pictures are made ready for a checkpoint's network.

    Raises
    ------
    MixedSignalsError
        If the checkpoint does not say (means and sizes differ between checkpoints of one architecture), or says
        something that is not known here.
    """
    for name in FILES:
        settings = checkpoint.json(name)
        if name == FILES[0]:
            settings = settings.get("video_processor") or settings.get("image_processor") or {}
        if settings:
            return Pictures.of(settings, model_type, str(checkpoint.folder / name))
    raise MixedSignalsError(
        f"{checkpoint.folder} has no {FILES[2]}: copy it from the checkpoint that this one was made from"
    )


def _family(settings: Mapping[str, Any], model_type: str, source: str) -> str:
    """Return which of `PROCESSORS` the settings are for."""
    named = ("video_processor_type", "image_processor_type", "feature_extractor_type")
    name = next((str(settings[key]) for key in named if settings.get(key)), "")
    if not name:
        return _OF_TYPE[model_type]
    family = re.sub(r"(Image|Video)?(Processor|FeatureExtractor)(Fast|Pil)?$", "", name).lower()
    if family not in PROCESSORS:
        raise MixedSignalsError(
            f"{source}: pictures are prepared by {name}, which is not known here: use another checkpoint"
        )
    return family


def _size(size: Any, *, square: bool) -> int | tuple[int, int]:
    """Return (height, width), or the length of the shorter side, of one of the ways to write a size."""
    if isinstance(size, int):
        return (size, size) if square else size
    if isinstance(size, (list, tuple)) and len(size) == 2:
        return int(size[0]), int(size[1])
    if isinstance(size, dict):
        sides = {name: int(side) for name, side in size.items() if side is not None}
        if set(sides) == {"height", "width"}:
            return sides["height"], sides["width"]
        if set(sides) == {"shortest_edge"}:
            return sides["shortest_edge"]
    raise ValueError(f"size {size}")


def _pair(size: Any) -> tuple[int, int]:
    """Return (height, width) of a crop."""
    pair = _size(size, square=True)
    if isinstance(pair, int):
        raise ValueError(f"crop size {size}")
    return pair


def _three(values: Any) -> tuple[float, ...]:
    """Return a mean or standard deviation by channel."""
    each = [values] * 3 if isinstance(values, (int, float)) else values
    if len(each) != 3:
        raise ValueError(f"{len(each)} means or deviations for 3 channels")
    return tuple(float(value) for value in each)


def _resized(height: int, width: int, size: int | tuple[int, int]) -> tuple[int, int]:
    """Return height and width after resizing; a longer side in proportion is rounded down."""
    if isinstance(size, tuple):
        return size
    longer = int(size * max(height, width) / min(height, width))
    return (size, longer) if height < width else (longer, size)


def _middle(picture: np.ndarray, axis: int, length: int) -> np.ndarray:
    """Cut the middle out along an axis, or put zeros around it; an odd pixel is cut off after, or put before."""
    spare = picture.shape[axis] - length
    if spare >= 0:
        return picture[(slice(None),) * axis + (slice(spare // 2, spare // 2 + length),)]
    around = [(0, 0)] * picture.ndim
    around[axis] = ((1 - spare) // 2, -spare // 2)
    return np.pad(picture, around)
