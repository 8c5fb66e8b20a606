"""``fit-heads``: train heads on cached features and score them out of fold."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mixed_signals.models.heads import HEADS, head_spec
from mixed_signals.store.errors import UsageError
from mixed_signals.store.terminal import (
    Debug,
    Ray,
    WithRay,
    interruptible,
    make_app,
    note,
    progress,
    read_size,
    run_app,
    split_values,
    stdout,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mixed_signals.store import Fold, Run, Store, Views

_PLAIN = [name for name, kind in HEADS.items() if not kind.fusion]
_FUSION = [name for name, kind in HEADS.items() if kind.fusion]
_MOST_CLASSES = 20  # of numbers that are taken for classes without a word

app = make_app()


@app.command(cls=WithRay)
def fit_heads(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder.")],
    features: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODALITY=NAME",
            help="Feature set of each modality to use; of several of one modality, each training fold chooses one. "
            "(default: all, if there is one of each)",
        ),
    ] = None,
    heads: Annotated[
        list[str] | None,
        typer.Option(help=f"Among: {', '.join(_PLAIN)}; with settings as in xgboost@max_depth=2."),
    ] = None,
    fusion: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Fusion heads, among: {', '.join(_FUSION)}. (default: logistic or ridge, xgboost and gated, if no "
            "head is named)"
        ),
    ] = None,
    subsets: Annotated[
        list[str] | None,
        typer.Option(metavar="A+B", help="Subsets of modalities, e.g. text,text+audio. (default: all)"),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Folds; no group stands on both sides of one. (default: 5)")
    ] = None,
    partitions: Annotated[
        int, typer.Option(min=1, help="Repeat the whole with this many ways of making folds.")
    ] = 1,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Take the folds from a column: rows that say test are tested and all others trained on, or each value "
            "is a fold. (default: make folds)",
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="Utterance column to keep apart (speaker, dialog), or 'none'. (default: the corpus's groups, if any)"
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds per head; they never change the folds.")] = 5,
    orders: Annotated[
        int, typer.Option(min=1, help="Orders of the training rows in which each seed is trained.")
    ] = 1,
    target: Annotated[str, typer.Option(help="Column to predict.")] = "label",
    missing: Annotated[
        Literal["drop", "mask"],
        typer.Option(help="Leave out utterances that lack a modality, or keep them masked."),
    ] = "drop",
    normalize: Annotated[
        bool, typer.Option("--normalize", help="Standardise features within each group (transductive).")
    ] = False,
    choose: Annotated[
        bool, typer.Option("--choose", help="Add a model that chooses its head inside each training fold.")
    ] = False,
    refit: Annotated[
        bool, typer.Option(help="Also fit each head on all rows, for 'mixed-signals predict'.")
    ] = True,
    run: Annotated[str | None, typer.Option(help="Name of the run. (default: run1, run2, ...)")] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what an interrupted run of this name has done.")
    ] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes. (default: all cores)")] = None,
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Memory for training, e.g. 4G.")] = "2G",
    device: Annotated[str, typer.Option(help="Where gated heads are trained: cpu or cuda.")] = "cpu",
    ray: Ray = None,
    allow_shared_groups: Annotated[
        bool,
        typer.Option(
            "--allow-shared-groups", help="Take folds that share groups between training and test rows."
        ),
    ] = False,
    allow_trained_rows: Annotated[
        bool, typer.Option("--allow-trained-rows", help="Test on rows that an encoder was trained on.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Train heads on every subset of modalities, fold and seed, and keep the out-of-fold predictions.

    An interrupted run goes on where it stopped, with the same call.

    [bold]Example:[/] fit-heads my.store --heads logistic,xgboost --fusion gated --folds 5 --group speaker --seeds 5
    """
    from mixed_signals.models.sweeps import default_heads
    from mixed_signals.store import Store, cross_fitted_views

    if ray is not None and jobs is not None:
        raise UsageError("--jobs: with --ray the cluster's cores say how many heads are fitted at a time")
    opened = Store.open(store)
    name = run or _next_name(opened)
    if opened.run_path(name).exists():
        raise UsageError(
            f"--run {name}: {store} has such a run; choose another name, or remove {opened.run_path(name)}"
        )
    named = _heads(heads, fusion)
    chosen = _features(opened, features)
    if _cross_fitted(opened, chosen):
        asked = {"--folds": folds, "--split": split, "--group": group, "--partitions": partitions > 1}
        if given := [flag for flag, value in asked.items() if value]:
            raise UsageError(
                f"{', '.join(given)}: cross-fitted features have folds of their own, set by finetune-encoders; leave "
                f"{'it' if len(given) == 1 else 'them'} out"
            )
        views, made, column = cross_fitted_views(opened, _one_each(chosen), target=target, missing=missing)
        if refit:
            note(
                "features differ from fold to fold: no head is fitted on all rows, for 'mixed-signals predict'"
            )
            refit = False
    else:
        views = _views(opened, chosen, target, missing)
        column = _group(views[0], group)
        made = _folds(views[0], split, folds, partitions, column)
        if split is not None:
            _print_split(views[0], made, split)
    first = views[0]
    _note_numbers(first)
    options: dict[str, Any] = {
        "views_by_fold": _cross_fitted(opened, chosen),
        "subsets": [tuple(value.split("+")) for value in split_values(subsets)] or "all",
        "folds": made,
        "seeds": range(seeds),
        "orders": orders,
        "group": column,
        "normalize": normalize,
        "choose": choose,
        "refit": refit,
        "device": device,
        "n_jobs": jobs,
        "on_ray": ray is not None,
        "memory": read_size(memory, "--memory"),
        "allow_shared_groups": allow_shared_groups,
        "allow_trained_rows": allow_trained_rows,
    }
    _fit(opened, name, views, named or list(default_heads(first.kind)), options, restart=restart, ray=ray)


def main() -> None:
    """Entry point of ``fit-heads``."""
    run_app(app)


def _fit(
    store: Store,
    name: str,
    views: Sequence[Views],
    heads: list[str],
    options: dict[str, Any],
    *,
    restart: bool,
    ray: str | None,
) -> None:
    from mixed_signals.models.keeping import unfinished
    from mixed_signals.models.sweeps import n_fits, sweep
    from mixed_signals.store.cluster import connected

    console = stdout()
    console.print(repr(views[0]), soft_wrap=True)
    total = n_fits(
        views[0], heads, **{k: options[k] for k in ("subsets", "folds", "seeds", "orders", "refit")}
    )
    kept = f"finished parts are kept; the same command (with --run {name}) goes on"
    cluster = nullcontext() if ray is None else connected(ray)
    with unfinished(store, name, restart=restart) as folder:
        with interruptible(kept), cluster, progress("fitting heads", total) as advance:
            run = sweep(views, heads, **options, keep=folder, on_progress=advance)
        saved = run.save(store, name)
    _print(run, saved, name)


def _print(run: Run, folder: Path, name: str) -> None:
    from mixed_signals.models.tables import choice_lines, metrics_table, override_lines, row_lines

    console = stdout()
    console.print(metrics_table(run))
    for line in (*choice_lines(run), *row_lines(run), *override_lines(run)):
        console.print(line, soft_wrap=True)
    if not run.metrics["low"].notna().any():
        console.print(str(run.metrics["method"].iloc[0]), style="yellow")
    console.print(
        f"{len(run.heads):,} heads in {run.info['seconds']:.0f} s; run {name!r} is in {folder}",
        soft_wrap=True,
    )


def _heads(heads: list[str] | None, fusion: list[str] | None) -> list[str]:
    plain, fused = split_values(heads), split_values(fusion)
    if (heads or fusion) and not (plain or fused):
        raise UsageError("--heads, --fusion: no head is named")
    for names, known, flag, other in (
        (plain, _PLAIN, "--heads", "--fusion"),
        (fused, _FUSION, "--fusion", "--heads"),
    ):
        for name in names:
            base = name.partition("@")[0]
            if base not in known:
                hint = f"; {base} goes with {other}" if base in HEADS else ""
                raise UsageError(f"{flag} {name!r}: unknown (it takes: {', '.join(known)}{hint})")
            head_spec(name)
    return plain + fused


def _features(store: Store, features: list[str] | None) -> dict[str, list[str]]:
    """Return the names of the feature sets of each modality; without any named, the one there is of each."""
    from mixed_signals.store.provenance import MODALITIES

    chosen: dict[str, list[str]] = {}
    for part in split_values(features):
        modality, equals, name = part.partition("=")
        if not (equals and modality and name):
            raise UsageError(f"--features: expected MODALITY=NAME, got {part!r}")
        if modality not in MODALITIES:
            raise UsageError(f"--features: {modality!r} is none of {', '.join(MODALITIES)}")
        chosen.setdefault(modality, []).append(name)
    if chosen:
        return chosen
    from mixed_signals.store.cross_fits import families

    known = families(store.feature_sets())
    members = {key for keys in known.values() for key in keys}
    found: dict[str, list[str]] = {}
    for key in sorted({*known, *store.feature_sets()} - members):
        modality, _, name = key.partition("/")
        found.setdefault(modality, []).append(name)
    if not found:
        raise UsageError(f"{store.path}: no feature sets yet; make some with extract-features")
    for modality, names in found.items():
        if len(names) > 1:
            raise UsageError(
                f"{store.path} has several {modality} feature sets; say which: "
                f"--features {modality}={names[0]} (or {', '.join(names[1:])}); of several that are named, each "
                "training fold chooses one"
            )
    return found


def _cross_fitted(store: Store, features: Mapping[str, Sequence[str]]) -> bool:
    """Return whether any of the named feature sets is cross-fitted."""
    from mixed_signals.store.cross_fits import families

    known = families(store.feature_sets())
    return any(f"{modality}/{name}" in known for modality, names in features.items() for name in names)


def _one_each(features: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the one name of each modality."""
    for modality, names in features.items():
        if len(names) > 1:
            raise UsageError(
                f"--features: {modality} has several, and cross-fitted features leave no choice; name one"
            )
    return {modality: name for modality, (name, *_) in features.items()}


def _views(
    store: Store, features: Mapping[str, Sequence[str]], target: str, missing: Literal["drop", "mask"]
) -> list[Views]:
    """Return views of the utterances that all of them have; several where a modality has several feature sets."""
    made = []
    for number in range(max(map(len, features.values()))):
        names = {modality: found[min(number, len(found) - 1)] for modality, found in features.items()}
        made.append(store.views(**names, target=target, missing=missing))
    if len(made) == 1:
        return made
    shared = set.intersection(*(set(views.ids) for views in made))
    return [views.select([i for i in views.ids if i in shared]) for views in made]


def _group(views: Views, group: str | None) -> str | None:
    """Return the column that folds keep apart, or None."""
    if group == "none":
        return None
    if group is None and views.groups is None:
        note(
            "the corpus has no groups, so rows of one speaker may be trained and tested on (--group COLUMN keeps them "
            "apart)"
        )
        return None
    return group or "group"


def _note_numbers(views: Views) -> None:
    """Say so where classes look like values of an interval target that nobody declared."""
    if views.kind != "nominal" or len(views.classes) <= _MOST_CLASSES:
        return
    try:
        [float(name) for name in views.classes]
    except ValueError:
        return
    note(
        f"{views.target} has {len(views.classes)} classes, all of them numbers; if they are values, declare it as "
        f"interval when the corpus is imported (--target {views.target}=interval)"
    )


def _folds(
    views: Views, split: str | None, n_folds: int | None, partitions: int, group: str | None
) -> list[Fold]:
    from mixed_signals.store import folds as make_folds
    from mixed_signals.store import predefined_folds

    if split is not None:
        if n_folds is not None:
            raise UsageError(
                f"--folds: column {split!r} says what the folds are; leave out --folds, or --split"
            )
        if partitions > 1:
            raise UsageError("--partitions: a predefined split (--split) is one partition")
        return predefined_folds(views, split)
    return [
        fold
        for partition in range(partitions)
        for fold in make_folds(views, n_folds or 5, group=group, partition=partition)
    ]


def _print_split(views: Views, made: list[Fold], column: str) -> None:
    """Say which values of a predefined split are trained on and which tested, where it makes a single fold."""
    if len(made) > 1:
        return
    values = views.utterances.set_index("utterance_id")[column]
    trained, tested = (
        ", ".join(f"{value} {n:,}" for value, n in values[list(ids)].value_counts().items())
        for ids in (made[0].train_ids, made[0].test_ids)
    )
    stdout().print(f"{column}: trained on {trained}; tested on {tested}", soft_wrap=True)


def _next_name(store: Store) -> str:
    from itertools import count

    from mixed_signals.models.keeping import unfinished_path

    names = (f"run{number}" for number in count(1))
    return next(
        name for name in names if not (store.run_path(name).exists() or unfinished_path(store, name).exists())
    )
