"""The blocks of a sweep as tasks of a Ray cluster.

A block is one task of one core, and of one GPU where heads are trained there. Where a task runs, when it is tried again
and what becomes of a node that is lost is Ray's work. The arrays that blocks share are put into its object store once
and mapped by every task of a node; what a block gives comes back to the process that asked, which alone writes: the
nodes need not see the store. They need the same libraries, for heads are compared number by number. Ray is told of so
many blocks at a time that no core waits for work, and no more.
"""

from __future__ import annotations

import platform
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from mixed_signals.models.blocks import LIBRARIES, Done, Fitted, fit_block
from mixed_signals.models.heads import HEADS
from mixed_signals.models.material import Choice, Material
from mixed_signals.models.plan import Block
from mixed_signals.models.threads import one_thread
from mixed_signals.store import MixedSignalsError, UsageError
from mixed_signals.store.provenance import library_versions

_LEAST_WAITING = 100  # tasks at a time: to look which of ten thousand is done takes longer than a small one
_WAITING_PER_CORE = 4

_Result = tuple[Choice, list[Fitted], float]


def check_device(device: str) -> None:
    """Refuse a device that the cluster this process is connected to does not have.

    Raises
    ------
    UsageError
    """
    import ray

    if device not in ("cpu", "cuda"):
        raise UsageError(f"device {device!r}: on Ray, cpu or cuda; Ray says which GPU a task gets")
    if device == "cuda" and not ray.cluster_resources().get("GPU"):
        raise UsageError(
            "device 'cuda': the Ray cluster has no GPU (ray status); use cpu, or add such a node"
        )


def fit_blocks(
    material: Material, blocks: Sequence[Block], device: str, memory: int
) -> Generator[Done, None, None]:
    """Fit blocks on the Ray cluster that this process is connected to; yield each when it is done.

    Parameters
    ----------
    material : Material
    blocks : sequence of Block
    device : str
    memory : int
        Bytes that the tasks of one node together may take for what they compute.

    Raises
    ------
    UsageError
        If a block cannot be fitted: what fitting it here would raise.
    MixedSignalsError
        If a node has other libraries, or a block's process was lost as often as Ray tries again.
    """
    import ray

    cores = max((node["Resources"].get("CPU", 1) for node in ray.nodes() if node["Alive"]), default=1)
    given = (device, int(memory // max(cores, 1)), library_versions(LIBRARIES))
    on_cpu = ray.remote(num_cpus=1)(_fit)
    on_device = on_cpu if device == "cpu" else ray.remote(num_cpus=1, num_gpus=1)(_fit)
    shared = ray.put(replace(material, ids=material.ids[:0]))
    rows: dict[int, Any] = {}
    waiting: dict[Any, Block] = {}

    def begin(block: Block) -> Any:
        if id(block.train) not in rows:
            rows[id(block.train)] = ray.put((block.train, block.test, block.weights))
        task = on_cpu if HEADS[block.base].cpu_only else on_device
        begun = task.remote(shared, rows[id(block.train)], _without_rows(block), *given)
        waiting[begun] = block
        return begun

    most = max(_LEAST_WAITING, int(_WAITING_PER_CORE * ray.cluster_resources().get("CPU", 1)))
    done = ray.util.map_unordered(
        SimpleNamespace(remote=begin), blocks, backpressure_size=most, chunk_size=1, yield_obj_refs=True
    )
    try:
        for ready in done:
            block = waiting.pop(ready)
            yield Done(block, *_result(ready, block))
    finally:
        for left in waiting:
            ray.cancel(left)


def _without_rows(block: Block) -> Block:
    """Return a block without its arrays, which it shares with others, and the ids, which only tables need."""
    none = np.arange(0)
    fold = replace(block.fold, train_ids=none, test_ids=none)
    return replace(block, fold=fold, train=none, test=none, weights=None)


def _fit(
    material: Material,
    rows: tuple[np.ndarray, np.ndarray, np.ndarray | None],
    block: Block,
    device: str,
    memory: int,
    versions: Mapping[str, str],
) -> _Result:
    """Fit one block; this runs on a node of the cluster."""
    here = library_versions(versions)
    for name in sorted(versions.keys() & here.keys()):
        if here[name] != versions[name]:
            raise MixedSignalsError(
                f"{name} is {here[name]} on node {platform.node()}, and {versions[name]} where the command runs; "
                "install the same on all of them"
            )
    train, test, weights = rows
    with one_thread():
        done = fit_block(material, replace(block, train=train, test=test, weights=weights), device, memory)
    return done.choice, done.fitted, done.seconds


def _result(task: Any, block: Block) -> _Result:
    """Return what a task gave, or raise what it raised."""
    import ray

    try:
        result: _Result = ray.get(task)
        return result
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MixedSignalsError(
            f"{block.base}, {block.place}: its process was lost again and again ({first}); finished parts are kept: "
            "look at the cluster (ray status), and run the same command again"
        ) from error
