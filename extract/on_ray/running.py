"""The driver of an extraction on a Ray cluster: hands shards to Ray Data's stages, and follows what becomes of them.

How many workers there are, where they run, what waits for what, and what is done again after a worker or a node was
lost, is Ray's. What is set here: a stage's workers grow from one to as many as there are shards, a shard is tried again
a few times, and an object on its way is never cut in two.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixed_signals.extract.job import Task
from mixed_signals.extract.on_ray.dealing import Dealt
from mixed_signals.extract.on_ray.parts import Broken, Job, Written, from_block
from mixed_signals.extract.on_ray.parts_file import written_parts
from mixed_signals.extract.on_ray.stages import Decode, Encode, needs_networks, write
from mixed_signals.extract.pipeline import Options, run
from mixed_signals.extract.request import Request
from mixed_signals.store import FeatureSet, MixedSignalsError, Store, UsageError
from mixed_signals.store.locks import remove_alone, sole_writer
from mixed_signals.store.merging import merge
from mixed_signals.store.pieces import FOLDER

if TYPE_CHECKING:
    from ray.data import Dataset

_STEPS = ("decoding", "packing", "encoding", "writing")
_TRIES_AGAIN = 16  # of a shard whose worker died; a node that is taken away in order does not count
_SHARE = (
    0.25  # of a node's memory, what one decoding process may take; Ray would end the whole worker for more
)
_LEAST_MEMORY = 2 << 30  # bytes that it may take on any node: what its libraries need, and a long film


@dataclass(frozen=True)
class Cluster:
    """What there is to work on: where, nodes alive, processors, graphics processors, bytes of the smallest node."""

    address: str
    nodes: int
    cpus: float
    gpus: float
    memory: float

    @classmethod
    def now(cls) -> Cluster:
        """Look at the cluster that this process is connected to."""
        import ray

        there, alive = ray.cluster_resources(), [node["Resources"] for node in ray.nodes() if node["Alive"]]
        memory = min((node["memory"] for node in alive if "memory" in node), default=0.0)
        return cls(
            ray.get_runtime_context().gcs_address,
            len(alive),
            there.get("CPU", 0.0),
            there.get("GPU", 0.0),
            memory,
        )

    def device(self, asked: str) -> str:
        """Return where networks run: on graphics processors, where there are any and nothing else is asked for.

        Raises
        ------
        UsageError
            If there is none, or a device of this machine is asked for.
        """
        if asked not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device {asked}: with --ray it is auto, cpu or cuda; Ray says which of them")
        if asked == "cuda" and not self.gpus:
            raise UsageError("--device cuda: no node of the Ray cluster has a GPU; use --device cpu")
        return "cuda" if self.gpus and asked != "cpu" else "cpu"


def run_on_cluster(
    request: Request,
    dealt: Dealt,
    cluster: Cluster,
    options: Options | None = None,
    *,
    device: str = "cpu",
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, dict[str, float]]:
    """Make the shards of one modality. What is published stays, whatever happens later.

    Files of shards that no utterance is in any more are removed.

    Parameters
    ----------
    request : Request
        By which workers make the encoders.
    dealt : Dealt
        From `deal_out`.
    cluster : Cluster
    options : Options, optional
        `workers` is the number of decoding processes of each worker that decodes: one by default.
    device : str
        cpu or cuda.
    on_progress : callable, optional
        Called with the number of rows just published, of any feature set.

    Returns
    -------
    dict of str to dict
        For each feature set how many rows were made in how many seconds, and seconds of work summed over the workers:
        decoding, packing, encoding, writing.

    Raises
    ------
    TooManyFailures
        If more rows fail than the options allow.
    MixedSignalsError
        If a node does not see the store, would make other vectors, or a shard was lost too often.
    """
    options, told = options or Options(), on_progress or (lambda rows: None)
    for path in dealt.empty:
        remove_alone(path)  # merging would look for utterances in it
    if not dealt.numbers:
        return {}
    rows, failed = dealt.rows, [0] * len(dealt.tasks)
    spent = [defaultdict[str, float](float) for _ in dealt.tasks]
    began = time.perf_counter()
    job = job_of(request, dealt, options, device, int(max(cluster.memory * _SHARE, _LEAST_MEMORY)))
    with ExitStack() as stack:
        for task in dealt.tasks:
            stack.enter_context(sole_writer(task.path))
        of_any_job = f"{job.parts.name.partition('@')[0]}@*"
        for left in job.parts.parent.glob(of_any_job):  # by one that was killed
            left.unlink()
        stack.enter_context(written_parts(dealt, job.parts))
        for made in _results(dataset(dealt, job, cluster)):
            if isinstance(made, Broken):
                raise MixedSignalsError(f"{made.what}; what was done is kept")
            told(sum(made.rows))
            for number, task in enumerate(dealt.tasks):
                for step in _STEPS:
                    spent[number][step] += made.spent[number].get(step, 0.0)
                if made.failed[number]:
                    failed[number] += made.failed[number]
                    utterance, reason = made.last[number]
                    options.stop_if_too_many(task.key, failed[number], rows[number], reason, utterance)
    wall = time.perf_counter() - began
    return {
        task.key: {"rows": n, "seconds": wall, **one}
        for task, n, one in zip(dealt.tasks, rows, spent, strict=True)
        if n
    }


def assemble(
    store: Store,
    tasks: Sequence[Task],
    *,
    keep_shards: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> list[FeatureSet]:
    """Make one feature set of the shards of each task, and bring the others in line with the corpus.

    Parameters
    ----------
    store : Store
    tasks : sequence of Task
    keep_shards : bool
        Whether the shards of a feature set that was not there before stay where they are, and it reads from them.
    on_progress : callable, optional
        As `merge` takes it.
    """
    sets = []
    shards, apart = store.shards(), store.unmerged()
    for task in tasks:
        if task.key in apart or (task.key in shards and not task.idle):
            virtual = keep_shards and may_stay_apart(task)
            sets.append(merge(store, task.key, virtual=virtual, on_progress=on_progress))
        else:
            sets += [outcome.features for outcome in run(store, [task])]
    return sets


def may_stay_apart(task: Task) -> bool:
    """Whether shards are all that a feature set is made of: one that was there before has vectors that no shard has."""
    return not task.path.exists() or FeatureSet(task.path).virtual


def job_of(request: Request, dealt: Dealt, options: Options, device: str, memory: int) -> Job:
    """Return what the workers of a modality have in common."""
    first = dealt.tasks[0].path
    here = f"{socket.gethostname()}-{os.getpid()}"  # nobody who still works for a killed job reads this one's
    return Job(
        # Each clip says where its media are.
        request=replace(request, store=dealt.store.path.resolve(), media_root=None),
        folder=str(Path.cwd()),
        tables=dealt.store.described["tables"],
        goals=dealt.goals,
        parts=first.resolve().with_name(FOLDER) / f".{first.name}.parts@{here}.tmp",
        before=tuple(dealt.before),
        of=dealt.of,
        device=device,
        workers=options.workers or 1,
        timeout=options.timeout,
        memory=memory,
    )


def dataset(dealt: Dealt, job: Job, cluster: Cluster) -> Dataset:
    """Return the stages that a modality's shards go through; what goes in is where each shard stands in `Job.parts`.

    Nothing is read or encoded before its results are asked for.
    """
    import ray
    from ray.data import DataContext

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of settings that are copied along
        context = DataContext.get_current().copy()
    context.target_max_block_size = None  # a shard stays whole
    context.execution_no_progress_timeout_s = -1  # a shard of films may take longer than any time-out
    context.max_consecutive_actor_init_deaths = _TRIES_AGAIN  # of workers that still load their networks
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    most = len(dealt.numbers)
    share = min(1.0, cluster.cpus / 2)  # on the smallest cluster both kinds of worker find room
    with DataContext.current(context), warnings.catch_warnings():
        # Deprecated in Ray 2.60 and gone in 2.64, but how often a task is tried again has no other name.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
        stages = ray.data.from_items(list(range(most)), override_num_blocks=most)
        stages = _through(stages, Decode, job, most, num_cpus=job.workers * share)
        if needs_networks(dealt.encoders):
            on_gpu = job.device == "cuda"
            needs: dict[str, float] = {"num_cpus": 0, "num_gpus": 1} if on_gpu else {"num_cpus": share}
            stages = _through(stages, Encode, job, most, **needs)
        return stages.map_batches(partial(write, job=job), batch_size=1, batch_format="pyarrow", num_cpus=0)


def _through(
    stages: Dataset, worker: type[Decode] | type[Encode], job: Job, most: int, **needs: float
) -> Dataset:
    """Add a stage: workers of a class, from one to so many as there are shards, that need so much each."""
    from ray.data import ActorPoolStrategy

    again: dict[str, Any] = {"max_task_retries": _TRIES_AGAIN}  # without it, for ever
    return stages.map_batches(
        worker,
        batch_size=1,
        batch_format="pyarrow",
        fn_constructor_args=(job,),
        compute=ActorPoolStrategy(min_size=1, max_size=most),
        **needs,
        **again,
    )


def _results(stages: Dataset) -> Iterator[Written | Broken]:
    import ray

    try:
        with _quiet_log():
            for block in stages.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                yield from_block(block)
    except ray.exceptions.RayActorError as error:
        raise MixedSignalsError(
            f"workers died again and again ({_cause(error)}); what was done is kept: if it was for want of memory, "
            "use fewer --workers or larger nodes, and run the same command again"
        ) from error
    except ray.exceptions.RayError as error:
        raise MixedSignalsError(f"the Ray cluster gave up: {_cause(error)}; what was done is kept") from error


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Keep Ray Data's log off the terminal: its own file has it all, and what ends the job is said by us."""
    terminals = [
        one for one in logging.getLogger("ray.data").handlers if isinstance(one, logging.StreamHandler)
    ]
    before = [one.level for one in terminals]
    for one in terminals:
        one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for one, level in zip(terminals, before, strict=True):
            one.setLevel(level)


def _cause(error: BaseException) -> str:
    """Return what an error of Ray's comes from, as one line."""
    while isinstance(cause := getattr(error, "cause", None), BaseException) and cause is not error:
        error = cause
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1]}"
