"""``finetune-encoders``: train encoders on the labels, without letting them see what they are tested on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixed_signals.extract.finetune.settings import PRESETS, told_default
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
    from mixed_signals.extract.finetune.job import Job
    from mixed_signals.extract.finetune.request import Options
    from mixed_signals.extract.finetune.settings import Settings

_KEPT = "finished encoders and epochs are kept, and the same command goes on from there"
_DESIGN, _FOLDS = "three-way", 5


def _of(setting: str, text: str) -> str:
    """Return the help of a flag that changes a recipe, with what the recipes say."""
    return f"{text} ({told_default(setting)})"


app = make_app()


@app.command()
def finetune_encoders(
    context: typer.Context,
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder.")],
    text: Annotated[str | None, typer.Option(metavar="ENCODER", help="Text encoder.")] = None,
    audio: Annotated[str | None, typer.Option(metavar="ENCODER", help="Audio encoder.")] = None,
    video: Annotated[str | None, typer.Option(metavar="ENCODER", help="Video encoder.")] = None,
    design: Annotated[
        str | None,
        typer.Option(
            help="three-way: encoder and heads each on half of a fold's training groups. nested: class log-odds, of "
            f"k(k+1)/2 encoders. (default: {_DESIGN})"
        ),
    ] = None,
    align: Annotated[
        bool,
        typer.Option(
            "--align",
            help="Experimental, of three-way: bring the vectors of a fold's two encoders into one frame, so that heads "
            "learn from all training rows. All that rests on it says so.",
        ),
    ] = False,
    folds: Annotated[
        int | None,
        typer.Option(min=2, help=f"Folds; no group stands on both sides of one. (default: {_FOLDS})"),
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
        str | None,
        typer.Option(help=_of("layers", "What is trained: last:N (the last N blocks), all or lora.")),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help=_of("epochs", "Epochs, at most."))] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help=_of("learning_rate", "Highest, of the encoder."))
    ] = None,
    head_learning_rate: Annotated[
        float | None, typer.Option(help=_of("head_learning_rate", "Highest, of the linear layer."))
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help=_of("weight_decay", "Of matrices."))] = None,
    warmup: Annotated[
        float | None, typer.Option(help=_of("warmup", "Share of steps in which the rate rises."))
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help=_of("schedule", "Then: linear, cosine or constant."))
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help=_of("batch_size", "Utterances on the device at once."))
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option(help=_of("accumulate", "Batches that make one step."))
    ] = None,
    dropout: Annotated[float | None, typer.Option(help=_of("dropout", "Before the linear layer."))] = None,
    clip: Annotated[
        float | None, typer.Option(help=_of("clip", "Norm that gradients are scaled down to."))
    ] = None,
    class_weights: Annotated[
        bool | None,
        typer.Option(
            "--class-weights/--no-class-weights",
            help=_of("class_weights", "Let rare classes count as much as others."),
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help=_of("patience", "Epochs without a better validation score; 0: never stop early.")),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            help=_of(
                "validation", "Share of the training rows, in whole groups, that the best epoch is chosen on."
            )
        ),
    ] = None,
    lora_rank: Annotated[int | None, typer.Option(help=_of("lora_rank", "Of --layers lora."))] = None,
    lora_alpha: Annotated[int | None, typer.Option(help=_of("lora_alpha", "Of --layers lora."))] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(help=_of("max_seconds", "Train on so much of the beginning of each utterance's media.")),
    ] = None,
    checkpointing: Annotated[
        bool | None,
        typer.Option(
            "--checkpointing/--no-checkpointing", help=_of("checkpointing", "Less memory, more time.")
        ),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help=_of("dtype", "Precision of training: float32, bfloat16 or float16."))
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:<number> or mps.")] = "auto",
    devices: Annotated[
        list[str] | None,
        typer.Option(help="Several devices, each trains encoders of its own: all, or cuda:0,cuda:1."),
    ] = None,
    spread: Annotated[
        bool,
        typer.Option(
            "--spread",
            help="Train each encoder on all of --devices together: for fewer encoders than devices, as with --split.",
        ),
    ] = False,
    revision: Annotated[
        list[str] | None, typer.Option(metavar="NAME=REVISION", help="Commit or tag of a hub model.")
    ] = None,
    media_root: Annotated[
        str | None, typer.Option(help="Where the media are now. (default: where the corpus says)")
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
    from mixed_signals.extract.devices import named_devices
    from mixed_signals.extract.finetune.job import plan as make_plan
    from mixed_signals.extract.finetune.parallel import check_together
    from mixed_signals.extract.finetune.request import Options, Request
    from mixed_signals.extract.request import revisions_of

    chosen = tuple(
        (modality, spec) for modality, spec in (("text", text), ("audio", audio), ("video", video)) if spec
    )
    if split is not None and (folds or design):
        raise UsageError(
            "--split: trains once, on rows that the corpus names; leave out --folds and --design"
        )
    request = Request(
        store=store,
        encoders=chosen,
        settings=_settings(preset, context.params),
        design=design or _DESIGN,
        align=align,
        split=split,
        folds=folds or _FOLDS,
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
        on = named_devices(devices, device)
        if spread:
            check_together(on)
        job = make_plan(request, on[0], fetch=not plan)
        _run(job, on, options, spread=spread, only_plan=plan)


def main() -> None:
    """Entry point of ``finetune-encoders``."""
    run_app(app)


def _run(job: Job, devices: list[str], options: Options, *, spread: bool, only_plan: bool) -> None:
    from mixed_signals.extract.finetune import shown
    from mixed_signals.extract.finetune.in_turn import train_encoders
    from mixed_signals.extract.finetune.parallel import train_on_devices, train_together
    from mixed_signals.extract.finetune.room import room_for
    from mixed_signals.extract.finetune.vectors import is_made, make_features, plan_features, rows_to_make
    from mixed_signals.extract.summary import print_made

    began, n_todo, at_once = time.monotonic(), len(job.todo), 1 if spread else len(devices)
    shown.print_notes(job)
    room = room_for(job, at_once)
    if only_plan:
        shown.print_plan(job, room)
    shown.warn_of_room(job, room)
    if only_plan:
        return
    if n_todo:
        with shown.training_shown(at_once) as (on_step, on_read):
            if spread:
                train_together(job, devices, options, on_step=on_step, on_read=on_read)
            elif len(devices) > 1:
                train_on_devices(job, devices, options, on_step=on_step)
            else:
                train_encoders(job, options, on_step=on_step, on_read=on_read)
    tasks = plan_features(job)
    idle = not n_todo and is_made(job, tasks)
    if idle:
        shown.print_idle(job)
    shown.print_trained(job)
    with progress("vectors", rows_to_make(tasks)) as advance:
        sets = make_features(job, options, tasks, on_rows=advance)
    print_made(sets)
    shown.print_aligned(sets)
    if not idle:
        shown.print_done(job, n_todo, time.monotonic() - began)
    shown.print_next(job)


def _settings(preset: str, flags: Mapping[str, Any]) -> Settings:
    """Return a preset's recipe with the settings for which a flag was given: it has the setting's name."""
    if preset not in PRESETS:
        raise UsageError(f"--preset {preset!r}: use {' or '.join(PRESETS)}")
    names = [field.name for field in fields(PRESETS[preset])]
    given = {name: flags[name] for name in names if flags[name] is not None}
    recipe = replace(PRESETS[preset], **given)
    if recipe.layers != "lora" and (idle := {"lora_rank", "lora_alpha"}.intersection(given)):
        raise UsageError(f"--{min(idle).replace('_', '-')}: is of --layers lora; add that, or leave it out")
    return recipe
