"""What the benchmarks share: rows with both sides of every ratio, sides that take turns, the command line."""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np


class Rows:
    """The rows of the benchmark, printed as they are found."""

    def __init__(self, *, full: bool) -> None:
        self.found: list[dict[str, object]] = []
        self._full = full

    def add(
        self,
        name: str,
        ours: float,
        peer: float,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        reach: float | None = None,
        share: bool = False,
        when_small: bool = False,
        unit: str = "s",
    ) -> None:
        """Add a row; its ratio is peer / ours (how often we are faster), for a goal `at_least` or for none.

        It is ours / peer for the goals `at_most` and `reach` (at least as much), and where it is a `share`. Where fixed
        costs rule, the small size is not judged by a goal.
        """
        share = share or at_most is not None or reach is not None
        ratio = ours / peer if share else peer / ours
        goal, met, not_judged = "-", True, ""
        if at_most is not None:
            goal, met = f"at most {at_most:g}", ratio <= at_most
        elif at_least is not None or reach is not None:
            least = at_least if reach is None else reach
            goal, met = f"at least {least:g}", ratio >= least
        if goal != "-" and not (self._full or when_small):
            goal, met, not_judged = "-", True, f"  [{goal} at full size: not judged]"
        direction = "ours / peer" if share else "peer / ours"
        self._keep(name, ours, peer, ratio, goal, met, unit, f"{direction} {ratio:.2f}{not_judged}")

    def add_equal(
        self, name: str, ours: float, peer: float, interval: tuple[float, float], allowance: float
    ) -> None:
        """Add a row of two losses, with the interval of ours - peer, which is to begin at `allowance` or below."""
        low, high = interval
        said = f"ours - peer {ours - peer:.2g}, {low:.2g} to {high:.2g}"
        self._keep(name, ours, peer, ours / peer, "not above the peer's", low <= allowance, "", said)

    def _keep(
        self,
        name: str,
        ours: float,
        peer: float,
        ratio: float,
        goal: str,
        met: bool,
        unit: str,
        said: str,
    ) -> None:
        values = {"ours": float(ours), "peer": float(peer), "ratio": float(ratio)}
        self.found.append({"name": name, **values, "goal": goal, "met": bool(met)})
        verdict = "" if goal == "-" else f"  [{goal}: {'met' if met else 'NOT MET'}]"
        unit = unit and f" {unit}"
        print(f"{name}\n    {ours:.4g}{unit}, {peer:.4g}{unit}: {said}{verdict}", flush=True)

    def end(self, path: Path | None) -> int:
        """Write the rows as JSON where a path is given; return the exit code."""
        if path is not None:
            path.write_text(json.dumps(self.found, indent=2) + "\n")
        return 0 if all(found["met"] for found in self.found) else 1


def arguments_of(described: str | None, *, small: str, device: bool = False) -> argparse.Namespace:
    """Return what every benchmark's command line says, `small` and `json`, and `device` where there is a choice."""
    parser = argparse.ArgumentParser(
        description=described, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help=small)
    parser.add_argument("--json", type=Path, help="write the rows there as JSON")
    if device:
        parser.add_argument("--device", default="cpu", help="where heads are trained, e.g. cuda")
    return parser.parse_args()


def take_turns(
    sides: dict[str, Callable[[], object]],
    repeats: int,
    *,
    touched: int = 0,
    made_anew: dict[str, Path] | None = None,
) -> dict[str, float]:
    """Return the median seconds of each side; sides take turns, after one round that does not count.

    Parameters
    ----------
    sides : dict of str to callable
    repeats : int
    touched : int
        Bytes of memory that are touched and given back before each side: on a virtual machine, memory that was free for
        a while is slow to get, which would count against whoever comes first.
    made_anew : dict of str to Path, optional
        The file that each side makes; removed before and after.
    """
    spent: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(repeats + 1):
        for side, work in sides.items():
            gc.collect()
            np.ones(touched, np.uint8)
            begin = time.perf_counter()
            result = work()
            seconds = time.perf_counter() - begin
            del result
            if made_anew:
                made_anew[side].unlink()
            if turn:
                spent[side].append(seconds)
    return {side: median(all_of_it) for side, all_of_it in spent.items()}
