"""``finetune-encoders``: train encoders on the labels, without letting them see what they are tested on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixed_signals.store.errors import UsageError
from mixed_signals.store.terminal import (
    Debug,
    interruptible,
    make_app,
    progress,
    read_size,
    run_app,
    split_values,
)

if TYPE_CHECKING:
    from mixed_signals.extract.finetune.job import Job, Options
    from mixed_signals.extract.finetune.settings import Settings

_KEPT = "finished encoders and epochs are kept, and the same command goes on from there"

app = make_app()


@app.command()
def finetune_encoders(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder.")],
    text: Annotated[str | None, typer.Option(metavar="ENCODER", help="Text encoder.")] = None,
    audio: Annotated[str | None, typer.Option(metavar="ENCODER", help="Audio encoder.")] = None,
    video: Annotated[str | None, typer.Option(metavar="ENCODER", help="Video encoder.")] = None,
    design: Annotated[
        str | None,
        typer.Option(
            help="three-way: encoder and heads each on half of a fold's training groups. nested: class log-odds, of "
            "k(k+1)/2 encoders. (default: three-way)"
        ),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Folds; no group stands on both sides of one. (default: 5)")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="VALUE",
            help="No folds: train once, on the rows whose column split says VALUE, e.g. train.",
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="Utterance column to keep apart (speaker, dialog), or 'none'. (default: the corpus's groups, if any)"
        ),
    ] = None,
    target: Annotated[str, typer.Option(help="Column to predict.")] = "label",
    name: Annotated[str, typer.Option(help="Feature sets are called ENCODER.NAME.")] = "tuned",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same numbers.")] = 0,
    preset: Annotated[
        str, typer.Option(help="Recipe: default, or study (the reference study's); flags below change it.")
    ] = "default",
    layers: Annotated[
        str | None, typer.Option(help="What is trained: last:N (the last N blocks), all or lora.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs, at most.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest, of the encoder.")] = None,
    head_learning_rate: Annotated[float | None, typer.Option(help="Highest, of the linear layer.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of matrices.")] = None,
    warmup: Annotated[float | None, typer.Option(help="Share of steps in which the rate rises.")] = None,
    schedule: Annotated[str | None, typer.Option(help="Then: linear, cosine or constant.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Utterances on the device at once.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches that make one step.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Before the linear layer.")] = None,
    clip: Annotated[float | None, typer.Option(help="Norm that gradients are scaled down to.")] = None,
    class_weights: Annotated[
        bool | None,
        typer.Option("--class-weights/--no-class-weights", help="Let rare classes count as much as others."),
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Epochs without a better validation score; 0: never stop early.")
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(help="Share of the training rows, in whole groups, that the best epoch is chosen on."),
    ] = None,
    lora_rank: Annotated[int | None, typer.Option(help="Of --layers lora.")] = None,
    lora_alpha: Annotated[int | None, typer.Option(help="Of --layers lora.")] = None,
    max_seconds: Annotated[
        float | None, typer.Option(help="Train on so much of the beginning of each utterance's media.")
    ] = None,
    checkpointing: Annotated[
        bool | None, typer.Option("--checkpointing/--no-checkpointing", help="Less memory, more time.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Precision of training: float32, bfloat16 or float16.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:<number> or mps.")] = "auto",
    devices: Annotated[
        list[str] | None,
        typer.Option(help="Several devices, each trains encoders of its own: all, or cuda:0,cuda:1."),
    ] = None,
    revision: Annotated[
        list[str] | None, typer.Option(metavar="NAME=REVISION", help="Commit or tag of a hub model.")
    ] = None,
    media_root: Annotated[
        Path | None, typer.Option(help="Where the media are now. (default: where the corpus says)")
    ] = None,
    memory: Annotated[
        str,
        typer.Option(metavar="SIZE", help="Memory for what was decoded; the rest is decoded every epoch."),
    ] = "4G",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Decoding processes. (default: by the number of cores)")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds after which reading an utterance is given up.")
    ] = 600.0,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write metrics for TensorBoard too.")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be trained; do nothing.")] = False,
    debug: Debug = False,
) -> None:
    """Train encoders on the labels, fold by fold, so that no head is tested on rows that its encoder has seen.

    What is done already is not done again; an interrupted training loses at most the epoch it was at.
    Heads are then trained with [italic]fit-heads --features text=ENCODER.tuned[/].

    [bold]Example:[/] finetune-encoders my.store --text roberta-base --folds 5 --group speaker --seed 42
    """
    from mixed_signals.extract.finetune.job import Options, Request
    from mixed_signals.extract.finetune.job import plan as make_plan
    from mixed_signals.extract.request import revisions_of

    chosen = tuple(
        (modality, spec) for modality, spec in (("text", text), ("audio", audio), ("video", video)) if spec
    )
    if split is not None and (folds or design):
        raise UsageError(
            "--split: trains once, on rows that the corpus names; leave out --folds and --design"
        )
    if devices and device != "auto":
        raise UsageError("--device and --devices: use one of them")
    changed = {
        "layers": layers,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "head_learning_rate": head_learning_rate,
        "weight_decay": weight_decay,
        "warmup": warmup,
        "schedule": schedule,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "dropout": dropout,
        "clip": clip,
        "class_weights": class_weights,
        "patience": patience,
        "validation": validation,
        "lora_rank": lora_rank,
        "lora_alpha": lora_alpha,
        "max_seconds": max_seconds,
        "checkpointing": checkpointing,
        "dtype": dtype,
    }
    request = Request(
        store=store,
        encoders=chosen,
        settings=_settings(preset, {key: value for key, value in changed.items() if value is not None}),
        design=design or "three-way",
        split=split,
        folds=folds or 5,
        group=group,
        seed=seed,
        target=target,
        name=name,
        media_root=media_root,
        revisions=revisions_of(split_values(revision), chosen),
    )
    options = Options(
        workers=workers, timeout=timeout, memory=read_size(memory, "--memory"), tensorboard=tensorboard
    )
    with interruptible(_KEPT):
        on = _devices(devices, device)
        job = make_plan(request, on[0], fetch=not plan)
        _run(job, on, options, only_plan=plan)


def main() -> None:
    """Entry point of ``finetune-encoders``."""
    run_app(app)


def _run(job: Job, devices: list[str], options: Options, *, only_plan: bool) -> None:
    from mixed_signals.extract.finetune import shown
    from mixed_signals.extract.finetune.job import train_encoders
    from mixed_signals.extract.finetune.parallel import train_on_devices
    from mixed_signals.extract.finetune.vectors import make_features, rows_to_make
    from mixed_signals.extract.summary import print_made

    shown.print_notes(job)
    if only_plan:
        shown.print_plan(job)
        return
    if job.todo:
        with shown.training_shown() as (on_step, on_read):
            if len(devices) > 1:
                train_on_devices(job, devices, options, on_step=on_step)
            else:
                train_encoders(job, options, on_step=on_step, on_read=on_read)
    shown.print_trained(job)
    with progress("vectors", rows_to_make(job)) as advance:
        sets = make_features(job, options, on_rows=advance)
    print_made(sets)
    shown.print_next(job)


def _settings(preset: str, changed: dict[str, Any]) -> Settings:
    from mixed_signals.extract.finetune.settings import PRESETS

    if preset not in PRESETS:
        raise UsageError(f"--preset {preset!r}: use {' or '.join(PRESETS)}")
    return replace(PRESETS[preset], **changed)


def _devices(several: list[str] | None, one: str) -> list[str]:
    from mixed_signals.extract.devices import pick_devices

    return pick_devices(name.strip() for value in several for name in value.split(",")) if several else [one]
