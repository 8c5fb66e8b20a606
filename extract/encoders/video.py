"""Networks from transformers that look at video: clip encoders, and encoders of single pictures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mixed_signals.extract.encoders.passes import is_no_memory
from mixed_signals.extract.encoders.pictures import pictures_of
from mixed_signals.extract.encoders.transformer import Readout, TransformerEncoder
from mixed_signals.extract.encoders.windows import WindowReader, trained_rate
from mixed_signals.store import MixedSignalsError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from mixed_signals.extract.checkpoints import Checkpoint

_VIT_BASE: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "image_size": 224,
    "patch_size": 16,
    "tubelet_size": 1,
}

CLIP_NETWORKS: dict[str, dict[str, Any]] = {
    "videomae": {**_VIT_BASE, "num_frames": 16, "tubelet_size": 2},
    "timesformer": {**_VIT_BASE, "num_frames": 8},
    "vivit": {**_VIT_BASE, "num_frames": 32, "tubelet_size": (2, 16, 16)},
    "vjepa2": {**_VIT_BASE, "hidden_size": 1024, "num_hidden_layers": 24, "tubelet_size": 2}
    | {"frames_per_clip": 64},
}
"""Model types of clip encoders, and what holds where a configuration leaves it out, as in transformers."""

FRAME_NETWORKS: dict[str, dict[str, Any]] = {
    "clip_vision_model": {**_VIT_BASE, "patch_size": 32},
    "siglip_vision_model": _VIT_BASE,
    "dinov2": {**_VIT_BASE, "patch_size": 14},
    "dinov2_with_registers": {**_VIT_BASE, "patch_size": 14},
    "dinov3_vit": {**_VIT_BASE, "hidden_size": 384},
    "vit": _VIT_BASE,
}
"""The same of encoders of single pictures; `clip` and `siglip` stand for their vision towers."""

TOWERS = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}
"""Model types of text and pictures together, by whose vision tower is used."""

_TOWER_CLASSES = {"clip_vision_model": "CLIPVisionModel", "siglip_vision_model": "SiglipVisionModel"}
_ANY_SIZE = ("vjepa2", "dinov2", "dinov2_with_registers", "dinov3_vit")  # the others take one size of picture


class VideoEncoder(TransformerEncoder):
    """What both kinds share: pictures made ready as the checkpoint says, and windows of them.

    Parameters
    ----------
    checkpoint, readouts, device, dtype
        As `TransformerEncoder` has them.
    frame_rate : float, optional
        Pictures per second; the rate of training, or that of the class, if not given.

    Raises
    ------
    UsageError
        If the frame rate is not a number above 0, or there is no such layer, pooling or precision.
    MixedSignalsError
        If the checkpoint does not say how pictures are made ready, or says a size that its network does not take.
    """

    modality = "video"
    reader: WindowReader
    libraries = (*TransformerEncoder.libraries, "av", "pillow")
    networks: Mapping[str, dict[str, Any]]

    def __init__(
        self,
        checkpoint: Checkpoint,
        readouts: Sequence[Readout] = (),
        *,
        device: str = "cpu",
        dtype: str = "float32",
        frame_rate: float | None = None,
    ) -> None:
        if frame_rate is not None and not 0 < frame_rate < np.inf:
            raise UsageError(f"--frame-rate {frame_rate:g}: use a number of pictures per second above 0")
        given = checkpoint.config
        self._type = TOWERS.get(given["model_type"], given["model_type"])
        given = given.get("vision_config", {}) if self._type != given["model_type"] else given
        self.config = {**self.networks[self._type], **given}
        self._pictures = pictures_of(checkpoint, self._type)
        self._check_shape(checkpoint)
        self._asked_rate = frame_rate
        super().__init__(checkpoint, readouts, device=device, dtype=dtype)

    @property
    def n_layers(self) -> int:
        """How many blocks the network has."""
        return int(self.config["num_hidden_layers"])

    @property
    def width(self) -> int:
        """How many numbers a position has."""
        return int(self.config["hidden_size"])

    def batches(self, lengths: np.ndarray) -> list[np.ndarray]:
        """Plan batches of neighbouring numbers of windows."""
        return super().batches(self.reader.count(lengths) * self._tokens)

    @property
    def _tokens(self) -> int:
        """What a window costs: its patches, each of some pictures where these are put together."""
        tubelet, patch = self.config["tubelet_size"], _sides(self.config["patch_size"])
        if not isinstance(tubelet, int):
            tubelet, *patch = tubelet
        height, width = (side // of_patch for side, of_patch in zip(self._pictures.shape, patch, strict=True))
        return max(int(self.reader.frames // tubelet * height * width), 1)

    def _check_shape(self, checkpoint: Checkpoint) -> None:
        taken = tuple(_sides(self.config["image_size"]))
        if self._type not in _ANY_SIZE and self._pictures.shape != taken:
            prepared, wanted = ("x".join(map(str, shape)) for shape in (self._pictures.shape, taken))
            raise MixedSignalsError(
                f"{checkpoint.folder}: pictures are prepared to {prepared}, its network takes {wanted}: "
                "make preprocessor_config.json agree with config.json"
            )


class ClipEncoder(VideoEncoder):
    """VideoMAE, TimeSformer, ViViT, V-JEPA 2: their tokens (patches of space and time), pooled.

    The pooling `first` is the class token for TimeSformer and ViViT; VideoMAE and V-JEPA 2 have none, and their
    first position is the patch in the upper left corner of the first pictures. `mean` is over the class token too,
    as over every position. Of V-JEPA 2 the encoder is read, not the predictor.

    A window lasts as long as a clip did in training (`trained_rate`); with a `frame_rate`, as many seconds as its
    pictures take at that rate. No padding changes anything: all windows have the same number of pictures.
    """

    networks = CLIP_NETWORKS

    def make_reader(self) -> WindowReader:
        """Return what takes windows of pictures, as long as those of training."""
        frames = int(self.config["frames_per_clip" if self._type == "vjepa2" else "num_frames"])
        rate = self._asked_rate or trained_rate(self._type, frames)
        return WindowReader(self._pictures, frames, frames / rate)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Pictures and seconds of a window, and how pictures are made ready."""
        return {
            "frames": self.reader.frames,
            "window_seconds": round(self.reader.seconds, 6),
            "pictures": self._pictures.said,
        }

    def windows(self, one: np.ndarray) -> list[np.ndarray]:
        """Return the windows that the reader cut."""
        return list(one)

    def length(self, window: np.ndarray) -> int:
        """Return how many tokens a window has."""
        return self._tokens

    def collate(self, windows: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Return the pictures, (B, frames, height, width, 3), uint8."""
        import torch

        return {"pictures": torch.from_numpy(np.stack(windows))}

    def states(
        self, tensors: dict[str, Tensor], layers: Collection[str]
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Run the network."""
        pixels = self._pictures.normalise(tensors["pictures"])
        if self._type == "vjepa2":
            return self.read(layers, pixel_values_videos=pixels, skip_predictor=True), None
        return self.read(layers, pixel_values=pixels), None


class FrameEncoder(VideoEncoder):
    """CLIP, SigLIP, DINOv2 (with registers), DINOv3, ViT: one vector a picture, pooled over pictures.

    The vector of the layer `last` is the one that the network was trained to sum a picture up in: the class token
    after the final norm, for SigLIP its attention pooling head. That of a numbered layer is the class token there,
    for SigLIP, which has none, the mean over patches. ViT's own `pooler`, often not trained, is never used.

    Pictures are looked at `frame_rate` times a second (4 if not given): the span is cut into equal parts, none
    longer than one over the rate, and the middle of each is looked at. Positions are pictures, so `first` is the
    first picture.
    """

    networks = FRAME_NETWORKS
    frame_rate = 4.0

    def make_reader(self) -> WindowReader:
        """Return what takes single pictures."""
        self._has_class_token = self._type != "siglip_vision_model"
        if not self._has_class_token and not self.config.get("vision_use_head", True):
            folder = self.checkpoint.folder
            raise MixedSignalsError(f"{folder}: its network has no pooling head: use one that has")
        self.frame_rate = float(self._asked_rate or self.frame_rate)
        return WindowReader(self._pictures, 1, 1 / self.frame_rate)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Pictures per second, and how they are made ready."""
        return {"frames_per_second": self.frame_rate, "pictures": self._pictures.said}

    def network(self) -> Any:
        """Return the network, of a model of text and pictures the vision tower."""
        import transformers

        name = _TOWER_CLASSES.get(self._type)
        return self.checkpoint.model(getattr(transformers, name) if name else None)

    def windows(self, one: np.ndarray) -> list[np.ndarray]:
        """Return all pictures as one window, (frames, height, width, 3), however many."""
        return [one[:, 0]]

    def length(self, window: np.ndarray) -> int:
        """Return how many tokens the pictures have together."""
        return len(window) * self._tokens

    def collate(self, windows: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Return all pictures one after the other, and which positions they are at where numbers differ."""
        import torch

        counts = torch.tensor([len(window) for window in windows])
        tensors = {"pictures": torch.from_numpy(np.concatenate(windows))}
        if len(counts.unique()) > 1:
            tensors["mask"] = torch.arange(int(counts.max())) < counts[:, None]
        else:
            tensors["pictures"] = tensors["pictures"].unflatten(0, (len(windows), -1))
        return tensors

    def states(
        self, tensors: dict[str, Tensor], layers: Collection[str]
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Run the network on all pictures, some at a time; each picture is on its own."""
        import torch

        mask, pictures = tensors.get("mask"), tensors["pictures"]
        shape = pictures.shape[:-3] if mask is None else mask.shape
        pictures = pictures.reshape(-1, *pictures.shape[-3:])
        found: list[list[Tensor]] = []
        done = 0
        while done < len(pictures):
            part = pictures[done : done + max(self.budget // self._tokens, 1)]
            try:
                found.append(self._vectors(part, layers))
            except Exception as error:
                if len(part) == 1 or not is_no_memory(error):
                    raise
            else:
                done += len(part)
                continue
            self._empty_cache()
            self._lower_budget(len(part) * self._tokens)
        states = {}
        for layer, vectors in zip(layers, map(torch.cat, zip(*found, strict=True)), strict=True):
            if mask is not None:
                padded = vectors.new_zeros(*shape, vectors.shape[-1])
                padded[mask] = vectors
                vectors = padded
            states[layer] = vectors.view(*shape, -1)
        return states, mask

    def _vectors(self, pictures: Tensor, layers: Collection[str]) -> list[Tensor]:
        """Return a vector for each picture, (F, D) for each layer."""
        numbered = [int(layer) for layer in layers if layer != "last"]
        output = self._network(
            pixel_values=self._pictures.normalise(pictures), output_hidden_states=numbered or None
        )
        return [
            self._last(output) if layer == "last" else self._inner(output.hidden_states[int(layer)])
            for layer in layers
        ]

    def _last(self, output: Any) -> Tensor:
        """Return what sums a picture up; ViT's pooler is something else than that of the others."""
        return output.last_hidden_state[:, 0] if self._type == "vit" else output.pooler_output

    def _inner(self, state: Tensor) -> Tensor:
        return state[:, 0] if self._has_class_token else state.mean(dim=1)


def _sides(size: int | Sequence[int]) -> Sequence[int]:
    """Return height and width of a size that may be one number."""
    return (size, size) if isinstance(size, int) else size
