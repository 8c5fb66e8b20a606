"""``fit-heads``: train heads on cached features and score them out of fold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mixed_signals.models.heads import HEADS
from mixed_signals.store.errors import UsageError
from mixed_signals.store.terminal import (
    Debug,
    interruptible,
    make_app,
    progress,
    run_app,
    split_pairs,
    split_values,
    stderr,
    stdout,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mixed_signals.store import Store

_PLAIN = [name for name, kind in HEADS.items() if not kind.fusion]
_FUSION = [name for name, kind in HEADS.items() if kind.fusion]

app = make_app()


@app.command()
def fit_heads(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder.")],
    features: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODALITY=NAME",
            help="Feature set of each modality to use. (default: all, if there is one of each)",
        ),
    ] = None,
    heads: Annotated[list[str] | None, typer.Option(help=f"Among: {', '.join(_PLAIN)}.")] = None,
    fusion: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Fusion heads, among: {', '.join(_FUSION)}. (default: all heads, if none is named)"
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds; no group stands on both sides of one.")] = 5,
    group: Annotated[
        str, typer.Option(help="Utterance column to keep apart (speaker, dialog), or 'none'.")
    ] = "group",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds per head; they never change the folds.")] = 5,
    target: Annotated[str, typer.Option(help="Column to predict.")] = "label",
    missing: Annotated[
        Literal["drop", "mask"],
        typer.Option(help="Leave out utterances that lack a modality, or keep them masked."),
    ] = "drop",
    run: Annotated[str | None, typer.Option(help="Name of the run. (default: run1, run2, ...)")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Heads at a time. (default: all cores)")] = None,
    debug: Debug = False,
) -> None:
    """Train heads on every subset of modalities, fold and seed, and keep the out-of-fold predictions.

    [bold]Example:[/] fit-heads my.store --heads logistic,xgboost --fusion gated --folds 5 --group speaker --seeds 5
    """
    from mixed_signals.store import Store
    from mixed_signals.store.corpus import MODALITIES

    opened = Store.open(store)
    name = run or _next_name(opened)
    if opened.run_path(name).exists():
        raise UsageError(f"--run {name}: is in {store} already; choose another name")
    plain, fused = split_values(heads), split_values(fusion)
    if (heads or fusion) and not (plain or fused):
        raise UsageError("--heads, --fusion: no head is named")
    _check_names(plain, _PLAIN, "--heads")
    _check_names(fused, _FUSION, "--fusion")
    names = plain + fused or list(HEADS)
    chosen = split_pairs(features, "--features") or _only_features(opened)
    if unknown := set(chosen) - set(MODALITIES):
        raise UsageError(f"--features: {unknown.pop()!r} is none of {', '.join(MODALITIES)}")
    _fit(opened, chosen, names, folds, None if group == "none" else group, seeds, target, missing, name, jobs)


def main() -> None:
    """Entry point of ``fit-heads``."""
    run_app(app)


def _fit(
    store: Store,
    features: Mapping[str, str],
    heads: list[str],
    n_folds: int,
    group: str | None,
    n_seeds: int,
    target: str,
    missing: Literal["drop", "mask"],
    name: str,
    jobs: int | None,
) -> None:
    from mixed_signals.models.sweeps import all_subsets, sweep
    from mixed_signals.models.tables import metrics_table
    from mixed_signals.store import folds as make_folds

    console = stdout()
    views = store.views(**features, target=target, missing=missing)
    console.print(repr(views), highlight=False, markup=False, soft_wrap=True)
    made = make_folds(views, n_folds, group=group)
    if group is None and views.groups is not None:
        stderr().print(
            "warning: folds share groups between training and test rows (--group none); scores may be too high",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
    per_subset = n_folds * sum(n_seeds if HEADS[head].seeded else 1 for head in heads)
    total = per_subset * len(all_subsets(views.modalities))
    with interruptible("nothing was saved"), progress("fitting heads", total) as advance:
        run = sweep(
            views, heads, folds=made, seeds=range(n_seeds), group=group, n_jobs=jobs, on_progress=advance
        )
    folder = run.save(store, name)
    console.print(metrics_table(run))
    if not run.metrics["low"].notna().any():
        console.print(str(run.metrics["method"].iloc[0]), style="yellow", highlight=False)
    console.print(
        f"{len(run.heads)} heads in {run.info['seconds']:.0f} s; run {name!r} is in {folder}", soft_wrap=True
    )


def _check_names(names: list[str], known: list[str], flag: str) -> None:
    for name in names:
        if name not in known:
            elsewhere = {"--heads": "--fusion", "--fusion": "--heads"}[flag]
            hint = f"; {name} goes with {elsewhere}" if name in HEADS else ""
            raise UsageError(f"{flag} {name!r}: unknown (it takes: {', '.join(known)}{hint})")


def _next_name(store: Store) -> str:
    number = 1
    while store.run_path(f"run{number}").exists():
        number += 1
    return f"run{number}"


def _only_features(store: Store) -> dict[str, str]:
    """Return the one feature set of each modality that has any."""
    found: dict[str, list[str]] = {}
    for key in store.feature_sets():
        modality, _, name = key.partition("/")
        found.setdefault(modality, []).append(name)
    if not found:
        raise UsageError(f"{store.path}: no feature sets yet; make some with extract-features")
    for modality, names in found.items():
        if len(names) > 1:
            raise UsageError(
                f"{store.path} has several {modality} feature sets; say which: "
                f"--features {modality}={names[0]} (or {', '.join(names[1:])})"
            )
    return {modality: names[0] for modality, names in found.items()}
