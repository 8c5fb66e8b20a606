"""The work of a sweep: blocks of heads, fitted in worker processes of one thread each, and kept when they are done."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mixed_signals.models.base import MEMORY, BaseHead, Fit
from mixed_signals.models.choosing import choose_features
from mixed_signals.models.material import Choice, Material
from mixed_signals.models.plan import Block, Member
from mixed_signals.models.threads import one_thread
from mixed_signals.store import MixedSignalsError, UsageError
from mixed_signals.store.disk import room_or_error
from mixed_signals.store.files import replacing

LIBRARIES = ("mixed-signals", "numpy", "scikit-learn", "torch", "xgboost")
"""Whose versions the numbers of a head depend on."""


@dataclass(frozen=True)
class Fitted:
    """A fitted head and what it says of its fold's test rows.

    Attributes
    ----------
    member : Member
    rows : ndarray of int, shape (n,)
        The test rows that have some of the head's modalities.
    P : ndarray of float64, shape (n, K) or (n,)
        Probabilities of all the target's classes (0 for one that the training rows lack), or values.
    gates, contributions : ndarray, shape (n, M), or None
        Where the head has them.
    inner_loss : float
    head : BaseHead or None
        None where the head was written to a file at once.
    """

    member: Member
    rows: np.ndarray
    P: np.ndarray
    gates: np.ndarray | None
    contributions: np.ndarray | None
    inner_loss: float
    head: BaseHead | None


@dataclass(frozen=True)
class Done:
    """A finished block: its heads, the candidates that its fold chose, and the seconds it took."""

    block: Block
    choice: Choice
    fitted: list[Fitted]
    seconds: float


def run_blocks(
    material: Material,
    blocks: Sequence[Block],
    *,
    n_jobs: int,
    device: str = "cpu",
    memory: int = MEMORY,
    keep: Path | None = None,
    on_ray: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> list[Done]:
    """Fit the heads of all blocks; those that are kept already are read instead.

    Parameters
    ----------
    material : Material
    blocks : sequence of Block
    n_jobs : int
        Worker processes of one thread each. With 1, or on another device than the CPU, the work is done here.
    device : str
    memory : int
        Bytes that all workers together may take for what they compute.
    keep : Path, optional
        A folder for finished blocks and their heads.
    on_ray : bool
        Whether the work is done on the Ray cluster that this process is connected to, instead of in `n_jobs` workers;
        `memory` is then that of each node.
    on_progress : callable, optional
        Called with the number of heads just finished.

    Returns
    -------
    list of Done
        In the order of `blocks`.
    """
    done: dict[str, Done] = {}
    if keep is not None:
        (keep / "heads").mkdir(parents=True, exist_ok=True)
        done = {block.key: kept for block in blocks if (kept := _read(keep, block)) is not None}
    open_blocks = [block for block in blocks if block.key not in done]
    tell = on_progress or (lambda n: None)
    tell(sum(len(finished.fitted) for finished in done.values()))
    if on_ray:
        from mixed_signals.models.on_ray import fit_blocks

        finishing = fit_blocks(material, open_blocks, device, memory)
    else:
        workers = min(n_jobs, len(open_blocks)) if device == "cpu" else 1
        share = memory // max(workers, 1)
        finishing = _in_any_order(material, open_blocks, workers, device, share, keep)
    with closing(finishing):
        for finished in finishing:
            # What comes from a cluster is written here: its nodes need not see the folder.
            kept_here = _write(keep, finished) if on_ray and keep is not None else finished
            done[finished.block.key] = kept_here
            tell(len(finished.fitted))
    return [done[block.key] for block in blocks]


def _in_any_order(
    material: Material, blocks: Sequence[Block], workers: int, device: str, memory: int, keep: Path | None
) -> Generator[Done, None, None]:
    if workers <= 1:
        with one_thread():
            for block in blocks:
                yield fit_block(material, block, device, memory, keep)
        return
    from joblib import Parallel, delayed, parallel_config

    # One thread a worker: parallel fits that each take every core are many times slower.
    with parallel_config("loky", n_jobs=workers, inner_max_num_threads=1):
        tasks = (delayed(fit_block)(material, block, device, memory, keep) for block in blocks)
        yield from Parallel(return_as="generator_unordered", pre_dispatch=2 * workers)(tasks)


def fit_block(
    material: Material, block: Block, device: str = "cpu", memory: int = MEMORY, keep: Path | None = None
) -> Done:
    """Fit the heads of one block on its training rows, and predict its test rows."""
    began = time.perf_counter()
    weights = None
    if block.weights is not None:
        weights = np.zeros(len(material.X))
        weights[block.train] = block.weights
    try:
        choice = choose_features(material, block.train, weights) if block.choice is None else block.choice
    except ValueError as error:
        raise UsageError(f"{block.place}: {error}") from error
    problem = material.problem(choice, weights)
    fits = []
    for member in block.members:
        widths = [problem.blocks[m][1] - problem.blocks[m][0] for m in member.subset]
        stops = np.cumsum(widths).tolist()
        own = {m: (stop - width, stop) for m, stop, width in zip(member.subset, stops, widths, strict=True)}
        head = member.spec.make(material.kind, material.classes, own, member.seed, member.order)
        fits.append(Fit(head, member.subset, block.train))
    try:
        type(fits[0].head).fit_many(problem, fits, device=device, memory=memory)
    except ValueError as error:  # what an estimator says of its training rows
        raise UsageError(f"{block.place}: {error}") from error
    fitted = []
    for member, fit in zip(block.members, fits, strict=True):
        seen = np.logical_or.reduce([problem.present[m] for m in member.subset])
        rows = block.test[seen[block.test]]
        fitted.append(
            _predicted(material, member, fit.head, rows, problem.X[np.ix_(rows, fit.columns(problem))])
        )
        fit.head.features_ = material.features(member.subset, choice)
    finished = Done(block, choice, fitted, time.perf_counter() - began)
    return finished if keep is None else _write(keep, finished)


def _predicted(material: Material, member: Member, head: BaseHead, rows: np.ndarray, X: np.ndarray) -> Fitted:
    gates = contributions = None
    if not len(rows):
        P = np.zeros((0, len(material.classes)) if material.classes else 0)
    elif material.kind == "interval":
        P = head.predict(X)
    else:
        own = head.predict_proba(X)
        P = np.zeros((len(rows), len(material.classes)))
        P[:, [material.classes.index(label) for label in head.coding_.classes]] = own
    if len(rows) and hasattr(head, "explain"):
        gates, contributions = head.explain(X)
    return Fitted(member, rows, P, gates, contributions, head.inner_loss_, head)


def _write(keep: Path, done: Done) -> Done:
    """Keep a finished block: its heads' files first, then, at once, what they predicted."""
    arrays: dict[str, np.ndarray] = {}
    for number, each in enumerate(done.fitted):
        if each.head is not None:
            stem = keep / "heads" / each.member.stem(done.block.fold)
            with room_or_error(stem, kept=True):
                each.head.save(str(stem))
        arrays |= {
            f"{number}.{name}": value
            for name in ("rows", "P", "gates", "contributions")
            if (value := getattr(each, name)) is not None
        }
    about = {
        "choice": dict(done.choice),
        "seconds": done.seconds,
        "members": [_named(member) for member in done.block.members],
        "inner_loss": [each.inner_loss for each in done.fitted],
    }
    with replacing(keep / f"{done.block.key}.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, **{"about": np.array(json.dumps(about)), **arrays})  # type: ignore[arg-type]
    return replace(done, fitted=[replace(each, head=None) for each in done.fitted])


def _read(keep: Path, block: Block) -> Done | None:
    """Return a block that was kept, or None where it was not, or holds other heads."""
    path = keep / f"{block.key}.npz"
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about: dict[str, Any] = json.loads(str(arrays["about"]))
            stems = [keep / "heads" / member.stem(block.fold) for member in block.members]
            whole = all(head_file(stem) is not None for stem in stems)
            if not whole or about["members"] != [_named(member) for member in block.members]:
                return None
            fitted = [
                Fitted(
                    member,
                    arrays[f"{number}.rows"],
                    arrays[f"{number}.P"],
                    arrays.get(f"{number}.gates"),
                    arrays.get(f"{number}.contributions"),
                    about["inner_loss"][number],
                    None,
                )
                for number, member in enumerate(block.members)
            ]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise MixedSignalsError(
            f"{path}: not readable ({error}); remove it to fit its heads again"
        ) from error
    return Done(block, about["choice"], fitted, about["seconds"])


def head_file(stem: Path) -> Path | None:
    """Return the head's file of this stem, whatever its ending; None where there is none."""
    endings = (".safetensors", ".json")
    return next((path for end in endings if (path := stem.with_name(stem.name + end)).exists()), None)


def _named(member: Member) -> str:
    return f"{member.spec.name}:{'+'.join(member.subset)}:{member.order}:{member.seed}"
