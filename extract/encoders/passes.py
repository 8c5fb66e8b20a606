"""Encoding in passes: windows of neighbouring lengths at once, within a budget, and what to do when memory runs out.

A pass is what a network encodes at once: windows padded to the longest. How many, a budget says (the longest times
their number), not a batch size. Where memory runs out the budget is halved and stays so; a fault in a pass is looked
for window by window, so that one utterance's fault is its own.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mixed_signals.extract.encoders.base import Encoded, NetworkEncoder
from mixed_signals.store import MixedSignalsError, Status

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)

_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


@dataclass(frozen=True)
class Pass:
    """Windows that the network encodes at once.

    Attributes
    ----------
    windows : list of int
        Which windows of the planned batch, longest first.
    cost : int
        The longest window's length times their number.
    tensors : dict of Tensor, optional
        What the network takes, on the host; made when it is encoded where it is not made yet.
    """

    windows: list[int]
    cost: int
    tensors: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Packed:
    """One planned batch, ready for the device.

    Attributes
    ----------
    windows : list
        Of all its utterances.
    owners : ndarray of int, shape (W,)
        Whose each window is.
    passes : list of Pass
    failed : dict of Encoded
        The utterances that have no windows.
    n : int
        How many utterances.
    """

    windows: list[Any]
    owners: np.ndarray
    passes: list[Pass]
    failed: dict[int, Encoded]
    n: int


class PassEncoder(NetworkEncoder):
    """A network that encodes in passes.

    Parameters
    ----------
    device : str
        As torch names it: cpu, cuda, cuda:1.

    Attributes
    ----------
    budget : int
        The most that a pass may cost now; halved whenever memory runs out.
    budgets : dict of str to int
        What it begins with, by kind of device, in units of `length`.
    most_rows : int
        The most utterances of a planned batch.
    passes_a_batch : int
        How many full passes a planned batch makes, roughly.
    cost_of_one : float
        What one unit of the lengths that `batches` gets (a byte of text, a second of media) costs, roughly.
    least_cost : float
        What the shortest utterance costs, roughly.
    """

    budgets: ClassVar[dict[str, int]] = {"cpu": 1024, "cuda": 32_768}
    most_rows: ClassVar[int] = 1024
    passes_a_batch: ClassVar[int] = 4
    cost_of_one: ClassVar[float] = 1.0
    least_cost: ClassVar[float] = 1.0

    def __init__(self, device: str) -> None:
        self.device = device
        self.budget = self.budgets.get(device.partition(":")[0], self.budgets["cuda"])

    @property
    def padding_changes(self) -> bool:
        """Whether padding changes a result beyond rounding, so that only equal lengths share a pass."""
        return False

    @abstractmethod
    def windows(self, one: Any) -> list[Any]:
        """Split what the reader gave of one utterance into windows, none longer than the network accepts.

        None at all means that there is nothing in it that the network takes.
        """

    @abstractmethod
    def length(self, window: Any) -> int:
        """Return how long a window is, in units of the budget; windows of equal length need no padding."""

    @abstractmethod
    def collate(self, windows: Sequence[Any]) -> dict[str, Tensor]:
        """Return the windows of a pass as tensors on the host, padded to the longest.

        Where all have one length there need be no mask, and networks are faster without.
        """

    @abstractmethod
    def pooled(self, tensors: dict[str, Tensor]) -> Tensor:
        """Run the network on what `collate` gave, and return a row for each window, (B, C) float32, on the device."""

    @abstractmethod
    def combined(self, rows: np.ndarray) -> Encoded:
        """Return what becomes of an utterance whose windows gave these rows, shape (W, C)."""

    def batches(self, lengths: np.ndarray) -> list[np.ndarray]:
        """Plan batches of neighbouring lengths, longest first, each worth a few passes."""
        costs = np.maximum(np.asarray(lengths, dtype=float) * self.cost_of_one, self.least_cost)
        order = np.argsort(-costs, kind="stable")
        most = self.budget * self.passes_a_batch
        planned, start = [], 0
        while start < len(order):
            n = int(most // costs[order[start]])
            stop = start + min(max(n, 1), self.most_rows)
            planned.append(order[start:stop])
            start = stop
        return planned

    def pack(self, inputs: Sequence[Any]) -> Packed:
        """Split into windows, and cut those into passes."""
        windows: list[Any] = []
        owners: list[int] = []
        failed: dict[int, Encoded] = {}
        for number, one in enumerate(inputs):
            try:
                of_one = self.windows(one)
            except Exception as error:
                failed[number] = Encoded(Status.FAILED, reason=_said(error))
                continue
            if not of_one:
                failed[number] = Encoded(Status.FAILED, reason="nothing in it that the network takes")
            windows += of_one
            owners += [number] * len(of_one)
        packed = Packed(windows, np.array(owners, dtype=int), [], failed, len(inputs))
        for planned in self._passes(packed, range(len(windows))):
            try:
                tensors = self._tensors(packed, planned)
            except Exception:
                tensors = None  # tried again when it is encoded, where each fault finds its utterance
            packed.passes.append(replace(planned, tensors=tensors))
        return packed

    def encode(self, packed: Packed) -> list[Encoded]:
        """Run the passes, and combine windows into utterances."""
        done: list[int] = []
        pooled: list[Tensor] = []
        failed = dict(packed.failed)
        todo = deque(packed.passes)
        packed.passes.clear()  # so that each pass's tensors go when it is done
        while todo:
            one = todo.popleft()
            if len(one.windows) > 1 and one.cost > self.budget:  # packed before memory ran out
                todo.extendleft(reversed(self._passes(packed, one.windows)))
                continue
            found = self._run(packed, one)
            if not isinstance(found, Exception):
                done += one.windows
                pooled.append(found)
                continue
            no_memory = is_no_memory(found)
            if no_memory:
                self._empty_cache()
            elif _is_device_lost(found):
                raise self._lost(found) from found
            if len(one.windows) == 1:
                reason = (
                    f"not enough memory on {self.device} for it alone (length {one.cost:,})"
                    if no_memory
                    else _said(found)
                )
                failed[int(packed.owners[one.windows[0]])] = Encoded(Status.FAILED, reason=reason)
            elif no_memory:
                self._lower_budget(one.cost)
                todo.appendleft(one)
            else:
                todo.extendleft(reversed([self._pass(packed, [window]) for window in one.windows]))
        rows, owners = self._fetched(pooled), packed.owners[np.array(done, dtype=int)]
        return [failed.get(number) or self.combined(rows[owners == number]) for number in range(packed.n)]

    def _passes(self, packed: Packed, windows: Collection[int]) -> list[Pass]:
        """Cut windows into passes within the budget, longest first."""
        passes: list[Pass] = []
        group: list[int] = []
        longest = 0
        lengths = {window: self.length(packed.windows[window]) for window in windows}
        for window in sorted(lengths, key=lambda window: -lengths[window]):
            full = longest * (len(group) + 1) > self.budget
            if group and (full or (self.padding_changes and lengths[window] != longest)):
                passes.append(Pass(group, longest * len(group)))
                group = []
            longest = longest if group else lengths[window]
            group.append(window)
        return [*passes, Pass(group, longest * len(group))] if group else passes

    def _pass(self, packed: Packed, windows: list[int]) -> Pass:
        return Pass(windows, len(windows) * max(self.length(packed.windows[window]) for window in windows))

    def _tensors(self, packed: Packed, one: Pass) -> dict[str, Tensor]:
        tensors = self.collate([packed.windows[window] for window in one.windows])
        if self.device.startswith("cuda"):
            return {name: tensor.pin_memory() for name, tensor in tensors.items()}
        return tensors

    def _run(self, packed: Packed, one: Pass) -> Tensor | Exception:
        """Run one pass, and return what its windows pool to, or what went wrong without what it held on to."""
        try:
            return self.pooled(one.tensors if one.tensors is not None else self._tensors(packed, one))
        except Exception as error:
            return error.with_traceback(None)

    def _fetched(self, pooled: list[Tensor]) -> np.ndarray:
        """Bring what passes pooled to, once for a planned batch: until then the device need not wait for anything."""
        import torch

        try:
            return torch.cat(pooled).cpu().numpy() if pooled else np.empty((0, 0), dtype=np.float32)
        except torch.AcceleratorError as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> MixedSignalsError:
        return MixedSignalsError(f"{self.name}: {self.device} gave up: {_said(error)}")

    def _lower_budget(self, cost: int) -> None:
        self.budget = max(cost // 2, 1)
        _log.warning(
            "%s: memory ran out on %s at %d units at once; from here on half as much",
            self.name,
            self.device,
            cost,
        )

    def _empty_cache(self) -> None:
        import torch

        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()


def is_no_memory(error: Exception) -> bool:
    """Return whether memory ran out: torch has a class for some of these errors only."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY)


def _is_device_lost(error: Exception) -> bool:
    """Return whether the device is in a state in which nothing else will work either."""
    import torch

    return isinstance(error, torch.AcceleratorError)


def _said(error: Exception) -> str:
    """Return an error as one line."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
