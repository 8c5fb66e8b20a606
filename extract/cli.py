"""``extract-features``: run encoders over a store's corpus, one feature set each."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixed_signals.store.errors import MixedSignalsError, UsageError
from mixed_signals.store.terminal import (
    Debug,
    Ray,
    WithRay,
    interruptible,
    make_app,
    progress,
    run_app,
    split_values,
    stdout,
)

if TYPE_CHECKING:
    from mixed_signals.extract.encoders.base import Encoder
    from mixed_signals.extract.job import Shard, Task
    from mixed_signals.extract.pipeline import Options
    from mixed_signals.extract.request import Request
    from mixed_signals.store import FeatureSet, Store

app = make_app()


def _print_list(wanted: bool) -> None:
    if wanted:
        from mixed_signals.extract.listing import print_encoders

        print_encoders()
        raise typer.Exit


_SPEC = "NAME[:LAYERS[:POOLINGS]]"


@app.command(cls=WithRay)
def extract_features(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder.")],
    text: Annotated[list[str] | None, typer.Option(metavar=_SPEC, help="Text encoders.")] = None,
    audio: Annotated[list[str] | None, typer.Option(metavar=_SPEC, help="Audio encoders.")] = None,
    video: Annotated[list[str] | None, typer.Option(metavar=_SPEC, help="Video encoders.")] = None,
    list_: Annotated[
        bool,
        typer.Option("--list", help="List the presets.", callback=_print_list, is_eager=True),
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would run and why; do nothing.")] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Compare vectors made together with those made one by one; write nothing."
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:<number> or mps.")] = "auto",
    devices: Annotated[
        list[str] | None, typer.Option(help="Several devices, a process each: all, or cuda:0,cuda:1.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Precision of computing: float32, bfloat16 or float16.")
    ] = "float32",
    store_dtype: Annotated[
        str, typer.Option(help="Precision of what is kept: float32 or float16.")
    ] = "float32",
    frame_rate: Annotated[
        float | None,
        typer.Option(min=0.01, max=240, help="Pictures a second. (default: the video encoder's own)"),
    ] = None,
    revision: Annotated[
        list[str] | None,
        typer.Option(help="Commit or tag of a hub model; NAME=REVISION where there are several."),
    ] = None,
    name: Annotated[
        str, typer.Option(help="Tell these feature sets apart from others of the same encoders.")
    ] = "",
    media_root: Annotated[
        str | None,
        typer.Option(metavar="FOLDER|URL", help="Where the media are now. (default: where the corpus says)"),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try rows again that failed before.")
    ] = False,
    max_failures: Annotated[
        str, typer.Option(help="Stop when more rows of a feature set fail: a number, or a share such as 5%.")
    ] = "",
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds after which reading an utterance is given up.")
    ] = 600.0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Decoding processes. (default: by the number of cores)")
    ] = None,
    shard: Annotated[
        str,
        typer.Option(metavar="I/N", help="Do part I of N only; afterwards: mixed-signals store merge STORE."),
    ] = "",
    ray: Ray = None,
    keep_shards: Annotated[
        bool,
        typer.Option(
            "--keep-shards",
            help="With --ray: leave the files that were made apart, read as one, where copying them into one would "
            "double the space.",
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Turn the utterances of a store into vectors: one feature set per encoder, one row per utterance.

    An encoder is a preset (--list), a folder with a model, or a hub id.
    Several layers and poolings come out of one pass: [italic]hubert-base:6-9+last:mean+std[/].
    What is done already is not done again; an interrupted job goes on where it was.

    [bold]Example:[/] extract-features my.store --text minilm --audio egemaps --video blendshapes
    """
    from mixed_signals.extract.devices import named_devices
    from mixed_signals.extract.pipeline import Options
    from mixed_signals.extract.request import Request, revisions_of

    wanted = tuple(
        (modality, spec)
        for modality, values in (("text", text), ("audio", audio), ("video", video))
        for spec in split_values(values)
    )
    if not wanted:
        raise UsageError("name at least one encoder: --text, --audio or --video (--list shows them)")
    if frame_rate is not None and not split_values(video):
        raise UsageError(f"--frame-rate {frame_rate:g}: no video encoder is asked for")
    if shard and devices:
        raise UsageError("--shard and --devices: use one of them; --devices makes shards of its own")
    if keep_shards and ray is None:
        raise UsageError("--keep-shards: goes with --ray; shards made by --shard stay until they are merged")
    for flag, given in (("--devices", devices), ("--shard", shard), ("--check", check)):
        if ray is not None and given:
            raise UsageError(f"--ray and {flag}: use one of them")
    request = Request(
        store=store,
        encoders=wanted,
        media_root=media_root,
        revisions=revisions_of(split_values(revision), wanted),
        dtype=dtype,
        frame_rate=frame_rate,
        name=name,
        store_dtype=store_dtype,
        retry_failed=retry_failed,
    )
    options = Options(workers=workers, timeout=timeout, max_failures=_limit(max_failures))
    with interruptible("what is done is kept, and the same command goes on from there"):
        opened = request.open()
        chosen = named_devices(devices, device if ray is None else "cpu")
        encoders = request.make_encoders(chosen[0], fetch=not plan)
        if check:
            _check(opened, encoders, workers or 1)
            return
        tasks = request.plan(opened, encoders, _shard(shard))
        if ray is not None:
            _run_on_ray(request, opened, tasks, ray, device, options, keep_shards=keep_shards, only_plan=plan)
        else:
            _run(request, opened, tasks, chosen, options, only_plan=plan)
    if shard and not plan:
        stdout().print(f"when all shards are done: mixed-signals store merge {store}", soft_wrap=True)


def main() -> None:
    """Entry point of ``extract-features``."""
    run_app(app)


def _run(
    request: Request,
    store: Store,
    tasks: list[Task],
    devices: list[str],
    options: Options,
    *,
    only_plan: bool,
) -> None:
    from mixed_signals.extract.pipeline import prepare, run
    from mixed_signals.extract.several import run_on_devices
    from mixed_signals.extract.summary import print_made, print_plan, print_time, print_unmerged
    from mixed_signals.store import FeatureSet
    from mixed_signals.store.virtual import refuse_virtual

    for task in tasks:
        if len(devices) == 1 and not task.idle and task.path.exists():
            refuse_virtual(FeatureSet(task.path))
    print_plan(tasks)
    print_unmerged(store, tasks)
    if only_plan:
        return
    prepare(tasks)
    rows = sum(len(task.plan.rows) for task in tasks)
    if len(devices) > 1 and not all(task.idle for task in tasks):
        with progress(f"on {len(devices)} devices", rows) as advance:
            sets = run_on_devices(
                request, [task.key for task in tasks], devices, options, on_progress=advance
            )
        print_made(sets)
    else:
        outcomes = []
        for modality in dict.fromkeys(task.recipe.modality for task in tasks):
            mine = [task for task in tasks if task.recipe.modality == modality]
            how_many = f", {len(mine)} feature sets" if len(mine) > 1 else ""
            with progress(f"{modality}{how_many}", sum(len(task.plan.rows) for task in mine)) as advance:
                outcomes += run(store, mine, options, on_progress=advance)
        sets = [outcome.features for outcome in outcomes]
        print_made(sets)
        print_time(outcomes)
    _refuse_hopeless(sets)


def _run_on_ray(
    request: Request,
    store: Store,
    tasks: list[Task],
    address: str,
    device: str,
    options: Options,
    *,
    keep_shards: bool,
    only_plan: bool,
) -> None:
    from mixed_signals.extract.on_ray.dealing import deal_all
    from mixed_signals.extract.on_ray.running import Cluster, assemble, may_stay_apart, run_on_cluster
    from mixed_signals.extract.summary import print_cluster, print_dealt, print_made, print_plan, print_spent
    from mixed_signals.store.cluster import connected

    print_plan(tasks)
    if only_plan:
        print_dealt(deal_all(store, tasks))  # more shards, where there are none yet and many processors
        return
    spent: dict[str, dict[str, float]] = {}
    if not all(task.idle for task in tasks):
        with connected(address):
            cluster = Cluster.now()
            where = cluster.device(device)
            dealt = deal_all(store, tasks, int(cluster.cpus))
            print_cluster(cluster, where)
            print_dealt(dealt)
            for one in dealt:
                with progress(f"{one.modality} on Ray", sum(one.rows)) as advance:
                    spent |= run_on_cluster(request, one, cluster, options, device=where, on_progress=advance)
    times = [1 if keep_shards and may_stay_apart(task) else 2 for task in tasks]  # that each row is read
    rows = sum(n * len(task.plan.rows) for n, task in zip(times, tasks, strict=True))
    with progress("assembling", rows) as advance:
        sets = assemble(store, tasks, keep_shards=keep_shards, on_progress=advance)
    print_made(sets)
    print_spent(spent)
    _refuse_hopeless(sets)


def _check(store: Store, encoders: list[Encoder], workers: int) -> None:
    from mixed_signals.extract.checking import check
    from mixed_signals.extract.encoders.passes import PassEncoder
    from mixed_signals.extract.summary import print_checked

    checked = []
    for encoder in encoders:
        if isinstance(encoder, PassEncoder):
            encoder.prepare()
            checked += check(store, encoder, workers=workers)
        else:
            stdout().print(f"{encoder.name}: encodes each utterance by itself, nothing to compare")
    if checked:
        print_checked(checked)
    bad = [one.encoder for one in checked if not one.ok]
    if bad:
        raise MixedSignalsError(
            f"{', '.join(dict.fromkeys(bad))}: an utterance's vector depends on what it is encoded with; "
            "please report it, with the model's name"
        )


def _refuse_hopeless(sets: list[FeatureSet]) -> None:
    """End with an error where no row came to anything."""
    hopeless = [features.key for features in sets if features.coverage["failed"] == len(features)]
    if hopeless:
        raise MixedSignalsError(f"every utterance failed in {', '.join(hopeless)}")


def _limit(text: str) -> float | None:
    """Return a number of rows, or a share below 1."""
    if not text:
        return None
    number, percent = text.removesuffix("%"), text.endswith("%")
    try:
        exact = Fraction(number) / (100 if percent else 1)
    except (ValueError, ZeroDivisionError):
        exact = Fraction(-1)
    if exact < 0 or (exact >= 1 and (percent or exact.denominator > 1)):
        raise UsageError(f"--max-failures {text!r}: use a number of rows such as 20, or a share such as 5%")
    return float(exact)


def _shard(text: str) -> Shard | None:
    if not text:
        return None
    from mixed_signals.extract.job import Shard

    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise UsageError(f"--shard {text!r}: use I/N, such as 3/8, with I from 1 to N")
    return Shard(int(number), int(of))
