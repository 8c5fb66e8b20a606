"""An encoder's network with a linear layer on it, and what of the network is trained."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from mixed_signals.extract.checkpoints import quiet_transformers
from mixed_signals.extract.encoders.passes import is_no_memory
from mixed_signals.extract.encoders.pooling import pool
from mixed_signals.extract.finetune.labels import Coding
from mixed_signals.extract.finetune.settings import Settings
from mixed_signals.extract.reads import fault
from mixed_signals.store.disk import saved_or_error
from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.files import read_json, replacing, write_json

if TYPE_CHECKING:
    from mixed_signals.extract.encoders.passes import Packed
    from mixed_signals.extract.encoders.transformer import TransformerEncoder

POOLINGS = ("mean", "first", "last", "max")
HEAD, HEAD_SAID = "classifier.safetensors", "classifier.json"


class Classifier(nn.Module):
    """The vectors that extraction would give, before any scaling to length one, with dropout and a linear layer.

    Where it trains, only the blocks that learn are in training mode: dropout falls there and nowhere else, and what
    speech networks leave out or mask at random in training (LayerDrop, SpecAugment) is off. Batch norms keep the
    statistics that they came with, so that what is trained are parameters alone.

    Parameters
    ----------
    encoder : TransformerEncoder
        Loaded; its network is changed in place.
    coding : Coding
        Says how many outputs there are.
    settings : Settings

    Attributes
    ----------
    network : Module
        That of the encoder.
    head : Linear
        From its width to the outputs.
    pooling : str
        The encoder's own.

    Raises
    ------
    UsageError
        If the encoder reads another layer than the last, or pools in a way that is not trained; if its network has no
        blocks that can be told apart, or fewer; if peft is wanted and not installed.
    """

    def __init__(self, encoder: TransformerEncoder, coding: Coding, settings: Settings) -> None:
        super().__init__()
        check_trainable(encoder, settings)
        self.encoder, self.coding, self.settings = encoder, coding, settings
        self.pooling = _pooling(encoder)
        self.network: Any = encoder.network_
        self.dropout = nn.Dropout(settings.dropout)
        self._learning, adapters = let_learn(self.network, encoder, settings)
        self._lora = list(adapters)  # in a list, so that its weights are not counted twice
        if settings.checkpointing:
            self._checkpoint_blocks()
        self.head = nn.Linear(encoder.width, coding.width)
        nn.init.zeros_(self.head.bias)
        self.to(encoder.device)
        self.train(False)

    def forward(self, packed: Packed) -> Tensor:
        """Return the outputs of the utterances that the encoder packed, float32, (N, outputs), on its device.

        Classes: one for each, before the softmax. Interval: the standardised value.

        Raises
        ------
        MixedSignalsError
            If the network cannot compute them, for another reason than memory.
        """
        device = torch.device(self.encoder.device)
        vectors, counts = [], []
        for one in packed.passes:
            tensors = one.tensors or self.encoder.collate([packed.windows[number] for number in one.windows])
            here = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
            of_pass, mask = self._states(here, device)
            vectors.append(pool(of_pass, mask, (self.pooling,))[:, 0])
            every = torch.full((of_pass.shape[0],), of_pass.shape[1], device=device)
            counts.append(every if mask is None else mask.sum(dim=1))
        owners = packed.owners[[number for one in packed.passes for number in one.windows]]
        utterances = combine_windows(
            torch.cat(vectors),
            torch.cat(counts),
            torch.from_numpy(owners).to(device),
            packed.n,
            self.pooling,
        )
        outputs: Tensor = self.head(self.dropout(utterances))
        return outputs

    def _states(self, tensors: dict[str, Tensor], device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Run the network in the precision of the settings."""
        dtype = self.settings.dtype
        mixed = dtype != "float32"
        try:
            with torch.autocast(device.type, getattr(torch, dtype) if mixed else None, enabled=mixed):
                states, mask = self.encoder.states(tensors, ("last",))
        except Exception as error:
            if is_no_memory(error):
                raise
            reason = fault(error).reason.strip().partition("\n")[0]
            mend = "use --dtype float32" if mixed else "use another encoder"
            raise MixedSignalsError(
                f"--{self.encoder.modality} {self.encoder.name}: its network fails in {dtype} ({reason}): {mend}"
            ) from error
        return states["last"], mask

    def train(self, mode: bool = True) -> Self:
        """Put what learns into training mode, or all into that of evaluation."""
        super().train(False)
        self.training = mode
        for part in (*self._learning, self.dropout):
            part.train(mode)
        for part in self.network.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.train(False)
        return self

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that are trained, by name."""
        return {name: one for name, one in self.named_parameters() if one.requires_grad}

    def merge(self) -> None:
        """Add what LoRA learned to the weights that it was learned beside."""
        for adapter in self._lora:
            self.network = adapter.merge_and_unload()
        self._lora.clear()

    def save(self, folder: Path) -> None:
        """Write the network as `save_pretrained` does, so that it loads anywhere, and the linear layer beside it.

        ``config.json`` and ``model.safetensors``; ``classifier.safetensors`` (``weight``, ``bias``) and
        ``classifier.json``. Of a network that also decodes, its decoder is written too, as it was.
        """
        from safetensors.torch import save_file

        self.merge()
        with quiet_transformers(), saved_or_error(folder):
            self._whole().save_pretrained(folder, safe_serialization=True)
        head = {name: one.detach().cpu().contiguous() for name, one in self.head.state_dict().items()}
        with replacing(folder / HEAD) as temporary, saved_or_error(folder / HEAD):
            save_file(head, temporary)
        write_json(folder / HEAD_SAID, {**asdict(self.coding), "pooling": self.pooling})

    def _whole(self) -> Any:
        """Return the network as its checkpoint has it: of encoder and decoder both."""
        if not self.encoder.checkpoint.config.get("is_encoder_decoder", False):
            return self.network
        whole = self.encoder.checkpoint.model()
        whole.get_encoder().load_state_dict(self.network.state_dict())
        return whole

    def _checkpoint_blocks(self) -> None:
        network = self.network
        switch = getattr(network, "activation_checkpointing_enable", network.gradient_checkpointing_enable)
        try:
            switch({"use_reentrant": False})
        except ValueError as error:
            raise UsageError(
                f"--checkpointing: the network of {self.encoder.name} cannot compute blocks twice; leave it out"
            ) from error


def check_trainable(encoder: TransformerEncoder, settings: Settings) -> None:
    """Refuse an encoder that cannot be trained as is asked, as far as that shows before its network is loaded.

    Raises
    ------
    UsageError
        If it reads another layer than the last, pools in a way that is not trained, or has fewer blocks.
    """
    layer, pooling, n = encoder.outputs[0].recipe.layer, _pooling(encoder), encoder.n_layers
    if layer != "last" or pooling not in POOLINGS:
        raise UsageError(
            f"--{encoder.modality} {encoder.name}: layer {layer}, pooling {pooling}: an encoder is trained at its last "
            f"layer, pooled by {', '.join(POOLINGS)}: leave layer and pooling out"
        )
    if settings.last_blocks is not None and settings.last_blocks > n:
        raise UsageError(
            f"--layers {settings.layers}: {encoder.name}: has only {n} blocks; use last:{n} or all"
        )


def let_learn(
    network: Any, encoder: TransformerEncoder, settings: Settings
) -> tuple[list[nn.Module], tuple[Any, ...]]:
    """Let learn of an encoder's network what the settings say, in place.

    Returns
    -------
    list of Module
        What is in training mode where it learns.
    tuple
        The adapter that LoRA put beside it, if any.

    Raises
    ------
    UsageError
        If the network has no blocks that can be told apart, and some of them are to learn; if peft is wanted and not
        installed.
    """
    found = blocks(network, encoder.n_layers)
    network.requires_grad_(settings.layers == "all")
    adapters = (_with_lora(network, settings),) if settings.layers == "lora" else ()
    if settings.last_blocks is None:
        return [network] if found is None else list(found), adapters
    if found is None:
        raise UsageError(
            f"--layers {settings.layers}: {encoder.name}: has no blocks that can be told apart; use --layers all or "
            "lora"
        )
    chosen = list(found)[-settings.last_blocks :]
    for block in chosen:
        block.requires_grad_(True)
    return chosen, adapters


def _pooling(encoder: TransformerEncoder) -> str:
    return encoder.outputs[0].recipe.pooling.partition(",")[0]


def blocks(network: nn.Module, n: int) -> nn.ModuleList | None:
    """Return a network's blocks, first to last; None where it has no list of `n` that hold most of its weights.

    Of a network whose blocks are taken apart (attentions in one list, feed-forward layers in the next) there is none.
    """
    lists = {
        name: part
        for name, part in network.named_modules()
        if isinstance(part, nn.ModuleList) and len(part) == n
    }
    if not lists:
        return None
    sizes = {name: sum(one.numel() for one in part.parameters()) for name, part in lists.items()}
    largest = max(sizes, key=lambda name: sizes[name])
    parent = largest.rpartition(".")[0]
    beside = [name for name in lists if name.rpartition(".")[0] == parent]
    return lists[largest] if len(beside) == 1 else None


def combine_windows(windows: Tensor, counts: Tensor, owners: Tensor, n: int, pooling: str) -> Tensor:
    """Make one vector of each utterance's windows, as `pooling.combine` does.

    Parameters
    ----------
    windows : Tensor, shape (W, D)
        Each pooled on its own.
    counts : Tensor of int, shape (W,)
        How many real positions each has.
    owners : Tensor of int, shape (W,)
        Whose each is.
    n : int
        How many utterances, each with at least one window.
    pooling : str

    Returns
    -------
    Tensor, shape (n, D)
    """
    whole = windows.new_zeros(n, windows.shape[1])
    if pooling == "max":
        at = owners[:, None].expand_as(windows)
        return whole.scatter_reduce(0, at, windows, "amax", include_self=False)
    weights = (counts if pooling == "mean" else torch.ones_like(counts)).to(windows.dtype)
    sums = weights.new_zeros(n).index_add(0, owners, weights)
    return whole.index_add(0, owners, windows * (weights / sums[owners])[:, None])


def load_head(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a saved linear layer (``weight``, ``bias``, as arrays), and what is said of it.

    Raises
    ------
    MixedSignalsError
        If there is none that can be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(folder / HEAD), read_json(folder / HEAD_SAID)
    except (OSError, SafetensorError) as error:
        raise MixedSignalsError(f"{folder}: has no linear layer that can be read ({error})") from error


def lora_library() -> Any:
    """Return peft.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    try:
        import peft
    except ImportError:
        raise UsageError(
            "--layers lora: peft is not installed: pip install 'mixed-signals[finetune]', or use --layers last:2"
        ) from None
    return peft


def _with_lora(network: Any, settings: Settings) -> Any:
    """Put low-rank layers beside all linear ones of a network, in place.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685.
    """
    peft = lora_library()
    config = peft.LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
    )
    with warnings.catch_warnings():  # of settings that are none of ours, and of what it puts right itself
        warnings.simplefilter("ignore")
        return peft.get_peft_model(network, config)
