"""The processes that train one encoder together, each on a device: what each does of it, and what all of them know.

Every process (rank) holds the whole network and goes through the same steps. Of each batch it takes its share, and
gradients are added up once a step, whatever the number of its batches: so every rank takes the step that one device
alone would take, but for rounding and for what dropout draws. The first leads: it alone writes and tells.

Between processors this is gloo, between GPUs NCCL, both as accelerate sets them up. The tests run it between processes
of one processor.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from mixed_signals.extract.encoders.passes import is_no_memory

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")

_LONGEST_WAIT = timedelta(days=7)  # for one that decodes; of one that died the parent process knows


class Ranks:
    """One process that does all of it.

    Attributes
    ----------
    number : int
        Which process this is, from 0.
    n : int
        How many there are.
    """

    number = 0
    n = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and tells."""
        return self.number == 0

    def share(self, rows: Sequence[T]) -> Sequence[T]:
        """Return which rows this process takes; shares differ by one at most, and may be empty."""
        return rows[self.number :: self.n]

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Return the sum of the processes' tensors."""
        return tensor

    def all_reduce_gradients(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Give each parameter the sum of its gradients in all processes; return the sum of the losses."""
        return loss

    def all_gather(self, value: T) -> list[T]:
        """Return each process's value, in their order, as soon as all have got here."""
        return [value]


ALONE = Ranks()


class LeftAloneError(Exception):
    """Another process is gone; why, its parent knows."""


@dataclass(frozen=True)
class Place:
    """Where a process stands among those that train together.

    Attributes
    ----------
    number, n : int
        Which it is, of how many.
    port : int
        Of this machine, where they find one another.
    """

    number: int
    n: int
    port: int


class Spread(Ranks):
    """One of several processes, with accelerate's state; made by `joined`."""

    def __init__(self, place: Place) -> None:
        self.number, self.n = place.number, place.n

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Return the sum of the processes' tensors; the same bits in all of them."""
        from accelerate.utils import reduce

        return _collective(reduce, tensor, "sum")

    def all_reduce_gradients(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Add up in one go, for which there are two more copies of the gradients for a moment.

        Where none of the processes has a gradient, there is none after it either.
        """
        there = loss.new_tensor([one.grad is not None for one in parameters])
        own = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
        summed = self.all_reduce(torch.cat([loss[None], there, *(one.flatten() for one in own)]))
        loss, there, *gradients = summed.split([1, len(own), *(one.numel() for one in own)])
        for parameter, n_there, gradient in zip(parameters, there.tolist(), gradients, strict=True):
            parameter.grad = gradient.view_as(parameter) if n_there else None
        return loss[0]

    def all_gather(self, value: T) -> list[T]:
        """Return each process's value, in their order, as soon as all have got here."""
        from accelerate.utils import gather_object

        return _collective(gather_object, [value])


@contextmanager
def joined(place: Place, device: str) -> Iterator[Spread]:
    """Join the processes that train together, in a process that does nothing else; they part where all went well.

    Parameters
    ----------
    place : Place
    device : str
    """
    os.environ.update(
        RANK=str(place.number),
        LOCAL_RANK=str(place.number),
        WORLD_SIZE=str(place.n),
        LOCAL_WORLD_SIZE=str(place.n),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(place.port),
        TORCHELASTIC_USE_AGENT_STORE="True",  # their meeting place is the parent's, as with torchrun
        TORCHELASTIC_RESTART_COUNT="0",
        ACCELERATE_TORCH_DEVICE=device,  # else the one of the rank's number
        OMP_NUM_THREADS=str(torch.get_num_threads()),  # else accelerate sets it
    )
    from accelerate import PartialState

    if device.startswith("cuda"):
        torch.cuda.set_device(torch.device(device).index or 0)
    state = _collective(lambda: PartialState(cpu=device == "cpu", timeout=_LONGEST_WAIT))
    yield Spread(place)
    state.destroy_process_group()


def _collective(operation: Callable[..., Any], *arguments: Any) -> Any:
    """Do what only all processes can do together."""
    try:
        return operation(*arguments)
    except RuntimeError as error:
        if is_no_memory(error) or isinstance(error, torch.AcceleratorError):
            raise
        raise LeftAloneError from error
