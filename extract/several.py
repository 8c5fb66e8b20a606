"""One job on several devices of a machine: a process each, with a shard that has utterances of every length."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mixed_signals.extract.children import cores, end_with_parent
from mixed_signals.extract.job import Shard, refuse_other_shards
from mixed_signals.extract.pipeline import Options, prepare, run
from mixed_signals.extract.request import Request
from mixed_signals.extract.side_by_side import run_side_by_side
from mixed_signals.store import FeatureSet, MixedSignalsError
from mixed_signals.store.merging import merge


def run_on_devices(
    request: Request,
    keys: Sequence[str],
    devices: Sequence[str],
    options: Options,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> list[FeatureSet]:
    """Make feature sets on several devices, and merge what each of them made.

    Parameters
    ----------
    request : Request
    keys : sequence of str
        The feature sets that it makes.
    devices : sequence of str
    options : Options
        The decoding processes are shared out among the devices.
    on_progress : callable, optional
        Called with the number of rows just written, of any feature set.

    Raises
    ------
    UsageError
        If there are shards of another number.
    MixedSignalsError
        If a device's process failed or died; what was done is kept.
    """
    store = request.open()
    refuse_other_shards(store, keys, len(devices))
    share = replace(options, workers=max(1, (options.workers or cores()) // len(devices)))
    shards = [Shard(number, len(devices)) for number in range(1, len(devices) + 1)]
    calls = [(device, (request, device, shard, share)) for device, shard in zip(devices, shards, strict=True)]
    run_side_by_side(_work, calls, on_progress or (lambda rows: None))
    apart = store.shards()
    return [merge(store, key) if key in apart else store[key] for key in keys]


def _work(request: Request, device: str, shard: Shard, options: Options, reporter: Any) -> None:
    """Make one shard."""
    end_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        store = request.open()
        tasks = request.plan(store, request.make_encoders(device), shard)
        prepare(tasks)
        run(store, tasks, options, on_progress=reporter.send)
    except MixedSignalsError as error:
        reporter.send(f"{device}: {error}")
