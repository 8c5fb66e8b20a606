"""What a step costs in a process of its own, and how its costs grow with the number of rows."""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

Step = Callable[..., Iterator[None]]
_LOOKS = 0.003  # seconds between two looks at a process's memory
_APART = 1.25  # estimates that are told apart
_NEVER = 1000  # millions of rows
_FORK = multiprocessing.get_context("fork")  # what was imported is there at once, and counts as nobody's


@dataclass(frozen=True)
class Spent:
    """What a step took: seconds, bytes of the process's own memory at its highest, bytes of new files."""

    seconds: float
    memory: float
    disk: float


def spend(step: Step, *arguments: Any, folder: Path, repeats: int = 1) -> Spent:
    """Take a step, each time in a process of its own; return the medians.

    Parameters
    ----------
    step : generator function
        What it does before its one ``yield`` is preparation, and costs no seconds. The memory is that of both, beyond
        what the process began with, without what is mapped of files: a machine must have it.
    *arguments
        The step's.
    folder : Path
        Where new files are counted.
    repeats : int
    """
    spent = [_once(step, arguments, folder) for _ in range(repeats)]
    return Spent(*(median(getattr(one, name) for one in spent) for name in ("seconds", "memory", "disk")))


def _once(step: Step, arguments: Sequence[Any], folder: Path) -> Spent:
    here, there = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_take, args=(there, step, arguments, folder))
    process.start()
    there.close()
    highest = 0
    while not here.poll(_LOOKS):
        highest = max(highest, _own_memory(process.pid))
    try:
        began_with, ended_with, seconds, disk = here.recv()
    except EOFError:
        raise RuntimeError(f"{step.__name__} failed; see above") from None
    process.join()
    return Spent(seconds, max(highest, ended_with) - began_with, disk)


def _take(there: Connection, step: Step, arguments: Sequence[Any], folder: Path) -> None:
    gc.collect()
    began_with = _own_memory(os.getpid())
    working = step(*arguments)
    next(working)
    before = _files(folder)
    begin = time.perf_counter()
    next(working, None)
    seconds = time.perf_counter() - begin
    new = {path: size for path, (made, size) in _files(folder).items() if before.get(path) != (made, size)}
    there.send((began_with, _own_memory(os.getpid()), seconds, sum(new.values())))


def _own_memory(process: int | None) -> int:
    """Return the bytes that a process has, without what is mapped of files; 0 where it is gone."""
    try:
        said = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in said.splitlines() if line[:7] == "RssAnon"), 0)


def _files(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return when each file was written, and how large it is."""
    found = [(path, path.stat()) for path in folder.rglob("*") if path.is_file()]
    return {path: (said.st_mtime_ns, said.st_size) for path, said in found}


@dataclass(frozen=True)
class Growth:
    """How a cost grows with rows, by the two largest sizes at which it was measured.

    Attributes
    ----------
    sizes : sequence of int
        Ascending.
    costs : sequence of float
    """

    sizes: Sequence[int]
    costs: Sequence[float]

    @property
    def power(self) -> float:
        """The slope between the last two sizes, of logarithms: 1 is a cost for each row; NaN where there is no cost."""
        if min(self.costs[-2:]) <= 0:
            return math.nan
        return math.log(self.costs[-1] / self.costs[-2]) / math.log(self.sizes[-1] / self.sizes[-2])

    @property
    def per_row(self) -> float:
        """The cost at the largest size, divided by its rows."""
        return self.costs[-1] / self.sizes[-1]

    @property
    def further_row(self) -> float:
        """The cost of one more row: the slope between the last two sizes."""
        return max(0.0, (self.costs[-1] - self.costs[-2]) / (self.sizes[-1] - self.sizes[-2]))

    def at(self, n: float) -> float:
        """Return what more rows cost, if each further one costs what it did between the last two sizes."""
        return self.costs[-1] + self.further_row * (n - self.sizes[-1])

    def at_most(self, n: float) -> float:
        """Return what more rows cost, if a power above 1 goes on; else as `at` does."""
        if self.power > 1:
            return self.costs[-1] * (n / self.sizes[-1]) ** self.power
        return self.at(n)

    def rows_for(self, cost: float) -> float:
        """Return how many rows have this cost, as `at` says; infinity where it does not grow."""
        further = self.further_row
        return self.sizes[-1] + (cost - self.costs[-1]) / further if further else math.inf


def growth_of(spent: Sequence[Spent], sizes: Sequence[int]) -> dict[str, Growth]:
    """Return how seconds, memory and disk grow."""
    return {
        what: Growth(sizes, [getattr(one, what) for one in spent]) for what in ("seconds", "memory", "disk")
    }


def print_growth(grown: dict[str, dict[str, Growth]], sizes: Sequence[int]) -> None:
    """Print a table: what was measured, and how it grows."""
    print(
        f"\n| step | {' | '.join(f'{n:,}' for n in sizes)} | power | a row | memory a row | power | disk a row |"
    )
    print(f"| --- |{' ---: |' * (len(sizes) + 5)}")
    for name, of in grown.items():
        cells = [in_time(cost) for cost in of["seconds"].costs]
        seconds, memory, disk = of["seconds"], of["memory"], of["disk"]
        cells += [f"{seconds.power:.2f}", f"{seconds.per_row * 1e6:.2g} µs"]
        cells += [f"{memory.per_row:,.0f} B", f"{memory.power:.2f}", f"{disk.per_row:,.0f} B"]
        print(f"| {name} | {' | '.join(cells)} |")


def print_larger(grown: dict[str, dict[str, Growth]], sizes: Sequence[int]) -> None:
    """Print a table: what larger corpora take; of time a range, where a power above 1 makes much of a difference."""
    print(f"\n| step | {' | '.join(f'{n:,} rows: time | memory | disk' for n in sizes)} |")
    print(f"| --- |{' ---: |' * (3 * len(sizes))}")
    for name, of in grown.items():
        cells: list[str] = []
        for n in sizes:
            least, most = of["seconds"].at(n), of["seconds"].at_most(n)
            cells.append(in_time(least) + (f" to {in_time(most)}" if most > _APART * least else ""))
            cells += [in_bytes(of["memory"].at(n)), in_bytes(of["disk"].at(n))]
        print(f"| {name} | {' | '.join(cells)} |")


def print_room(grown: dict[str, dict[str, Growth]], memories: Sequence[int]) -> None:
    """Print a table: for how many rows a machine's memory has room, step by step; without steps that never fill it."""
    print(f"\n| millions of rows, with memory of | {' | '.join(map(in_bytes, memories))} |")
    print(f"| --- |{' ---: |' * len(memories)}")
    for name, of in grown.items():
        room = [of["memory"].rows_for(memory) / 1e6 for memory in memories]
        if room[0] < _NEVER:
            print(f"| {name} | {' | '.join(f'{n:,.3g}' for n in room)} |")


def in_time(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= 2 * size or (unit == "s" and seconds >= 1):
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds * 1e3:.3g} ms"


def in_bytes(n: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return "-" if n < 1 else f"{n:.0f} B"
