"""What the extraction job prints: the plan before it, and after it what was made, what was not, and where time went."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from mixed_signals.extract.checking import Checked
from mixed_signals.extract.job import Task
from mixed_signals.extract.pipeline import Outcome
from mixed_signals.store import FeatureSet, Status, Store
from mixed_signals.store.cross_fits import LEFT_OUT
from mixed_signals.store.terminal import counted, describe_gap, describe_ids, stdout, warn

if TYPE_CHECKING:
    from mixed_signals.extract.on_ray.dealing import Dealt
    from mixed_signals.extract.on_ray.running import Cluster


def print_plan(tasks: Sequence[Task]) -> None:
    """Say of each feature set which rows are to be made, and why."""
    for task in tasks:
        of = f"{len(task.members):,}"
        why = ", ".join(f"{n:,} of {of}: {reason}" for reason, n in task.plan.reasons.items())
        if task.plan.dropped:
            why += f"{', ' if why else ''}{task.plan.dropped:,} no longer in the corpus: dropped"
        if not why and task.misstated:
            why = "what trained its encoder is written down anew"
        if task.without:
            why += f" ({task.without:,} without {'text' if task.recipe.modality == 'text' else 'media'})"
        failed = FeatureSet(task.path).coverage["failed"] if task.path.exists() else 0
        if failed and "failed before" not in task.plan.reasons:
            why = f"{why or 'nothing to do'}; {failed:,} failed before (--retry-failed tries them again)"
        stdout().print(f"{task.key}: {why or 'nothing to do'}")
        if len(task.gone):
            line = f"{task.key}: vectors are kept whose media are gone: {describe_ids(task.gone.tolist())}"
            warn(line)


def print_unmerged(store: Store, tasks: Sequence[Task]) -> None:
    """Warn of shards that a job which makes the whole feature set leaves alone."""
    shards = store.unmerged()
    for task in tasks:
        if task.key in shards and task.path == store.feature_path(*task.key.split("/", 1)):
            n = counted(len(shards[task.key]), "shard")
            warn(f"{task.key}: {n} not merged; mixed-signals store merge takes what is in them")


def print_made(sets: Sequence[FeatureSet]) -> None:
    """Print how many rows of each feature set there are, and list those that there are not."""
    table = _table("feature set", "dims", "ok", "missing", "failed", "pending")
    gaps: dict[tuple[str, str, tuple[str, ...]], list[str]] = defaultdict(list)
    for features in sets:
        counts = features.coverage
        numbers = (f"{counts[status]:,}" for status in ("ok", "missing", "failed", "pending"))
        table.add_row(features.key, str(features.shape[1]), *numbers)
        for status, reason, ids in features.gaps():
            if status != Status.PENDING and reason not in LEFT_OUT:
                gaps[status.name, reason, tuple(ids)].append(features.key)
    stdout().print(table)
    for (said, why, those), keys in gaps.items():
        others = f" and {counted(len(keys) - 1, 'other')}" if len(keys) > 1 else ""
        warn(f"{keys[0]}{others}: {describe_gap(said, why, list(those))}")


def print_time(outcomes: Sequence[Outcome]) -> None:
    """Print where the time of each modality went, and of its encoders; their stages overlap."""
    table = _table("seconds", "all", "read*", "load", "wait**", "encode", "write", "rows/s", "speed")
    workers = 0
    for modality in dict.fromkeys(outcome.task.recipe.modality for outcome in outcomes):
        made = [outcome for outcome in outcomes if outcome.spent and outcome.task.recipe.modality == modality]
        if not made:
            continue
        said = made[0].spent
        wall, rows = max(said["seconds"], 1e-9), max(outcome.spent["rows"] for outcome in made)
        speed = f"{said['media_seconds'] / wall:.1f}x" if said["media_seconds"] else ""
        numbers = (f"{said['seconds']:.1f}", f"{said['decoding']:.1f}", "", "", "", "")
        table.add_row(modality, *numbers, f"{rows / wall:.1f}", speed)
        workers = max(workers, said["workers"])
        for encoder in {id(outcome.task.encoder): outcome for outcome in made}.values():
            parts = ("loading", "waited_for_decoding", "encoding", "writing")
            times = [f"{encoder.spent[part]:.1f}" for part in parts]
            if encoder.task.encoder.in_workers:
                times[:3] = ["", "", "in read"]
            table.add_row(f"  {encoder.task.encoder.name}", "", "", *times, "", "")
    if not table.row_count:
        return
    stdout().print(table)
    of = f" by {counted(workers, 'worker')} at most, once for all encoders" if workers else ""
    note = f" * decoding and reading{of}\n** of the network, for something to encode; speed: media seconds per second"
    stdout().print(note, style="dim")


def print_cluster(cluster: Cluster, device: str) -> None:
    """Say what there is to work on, and where."""
    there = f"{counted(cluster.nodes, 'node')}, {cluster.cpus:g} CPUs, {counted(int(cluster.gpus), 'GPU')}"
    stdout().print(f"Ray at {cluster.address}: {there}; networks on {device}")


def print_dealt(dealt: Sequence[Dealt]) -> None:
    """Say into what the work of a cluster is cut, and what of it is done."""
    for one in dealt:
        todo = f"{counted(one.n_utterances, 'utterance')} in {counted(len(one.numbers), 'shard')} to be made"
        done = f", {counted(one.done, 'shard')} more done" if one.done else ""
        stdout().print(f"{one.modality}: {todo}{done}")


def print_spent(spent: Mapping[str, Mapping[str, float]]) -> None:
    """Print where the time of a job on a cluster went."""
    if not spent:
        return
    table = _table("seconds", "all", "read*", "pack*", "encode*", "write*", "rows/s")
    for key, one in spent.items():
        parts = (one["seconds"], one["decoding"], one["packing"], one["encoding"], one["writing"])
        table.add_row(
            key, *(f"{part:.1f}" for part in parts), f"{one['rows'] / max(one['seconds'], 1e-9):.1f}"
        )
    stdout().print(table)
    stdout().print("* summed over the workers; reading is once for all encoders", style="dim")


def print_checked(checked: Sequence[Checked]) -> None:
    """Print how far vectors made together are from those made alone."""
    table = _table("encoder", "layer", "pooling", "compared", "difference", "allowed", "")
    for one in checked:
        table.add_row(
            one.encoder,
            one.layer,
            one.pooling,
            str(one.n),
            f"{one.difference:.1e}",
            f"{one.tolerance:.0e}",
            "ok" if one.ok else Text("too far", "red"),
        )
    stdout().print(table)


def _table(first: str, *columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
