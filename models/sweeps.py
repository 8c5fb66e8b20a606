"""The sweep: every head on every subset of modalities, fold and seed, out of fold."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixed_signals.models.base import MEMORY
from mixed_signals.models.blocks import LIBRARIES, Done, run_blocks
from mixed_signals.models.gathering import add_chosen, gates_table, predictions_table, tested_heads
from mixed_signals.models.heads import HeadSpec, head_spec
from mixed_signals.models.keeping import KeptHead, check_call
from mixed_signals.models.material import Material, Subset, arrays_hash, groups_named, material
from mixed_signals.models.metrics import averaged_over_partitions, score, seed_spread
from mixed_signals.models.plan import (
    check_folds,
    check_weights,
    named_subsets,
    plan,
    shared_groups,
    trained_rows,
    views_of_folds,
)
from mixed_signals.models.sentinels import group_majority, majority
from mixed_signals.store import Fold, Run, UsageError, Views
from mixed_signals.store import folds as make_folds
from mixed_signals.store.cross_fits import alignment_notes
from mixed_signals.store.provenance import library_versions


def default_heads(kind: str) -> tuple[str, ...]:
    """Return the heads that are fitted where none is named."""
    return ("ridge" if kind == "interval" else "logistic", "xgboost", "gated")


def sweep(
    views: Views | Sequence[Views],
    heads: Sequence[str] | None = None,
    subsets: str | Sequence[Subset] = "all",
    folds: Sequence[Fold] | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    *,
    views_by_fold: bool = False,
    orders: int = 1,
    group: str | None = "group",
    normalize: bool = False,
    choose: bool = False,
    refit: bool = False,
    weights: Mapping[tuple[int, int], pd.Series] | None = None,
    device: str = "cpu",
    n_jobs: int | None = None,
    on_ray: bool = False,
    memory: int = MEMORY,
    keep: Path | None = None,
    allow_shared_groups: bool = False,
    allow_trained_rows: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> Run:
    """Fit every head on every subset, fold and seed, and predict the utterances that each fold holds out.

    Parameters
    ----------
    views : Views, or several
        Several of the same utterances differ in the feature set of some modality: each training fold then chooses
        among them for itself (see `mixed_signals.models.choosing`), unless `views_by_fold`.
    heads : sequence of str, optional
        Names in `mixed_signals.models.HEADS`, with settings where wanted: ``"gated@hidden=32"``. The default is
        `default_heads`.
    subsets : "all" or sequence of tuples
        Which modalities a head sees.
    folds : sequence of Fold, optional
        From `mixed_signals.store.folds`, of one partition or several; five grouped folds by default.
    seeds : sequence of int
        Seeds of the heads; they never change the folds. Heads that do not depend on one are fitted with the first.
    views_by_fold : bool
        Whether ``folds[i]`` is trained and tested on ``views[i]`` and no other: cross-fitted features, from
        `mixed_signals.store.cross_fitted_views`. Outputs are averaged over partitions before they are scored.
    orders : int
        How many orders of the training rows each seed is trained in. An order also decides which training rows are held
        out for early stopping.
    group : str or None
        The column whose values folds keep apart and intervals resample. With None, folds keep nothing but utterances
        apart; intervals and the group-majority sentinel still use the corpus's groups where it has them.
    normalize : bool
        Whether each group's columns are brought to mean 0 and deviation 1 over all its rows, tested ones among them.
        Such scores are transductive, and said to be.
    choose : bool
        Whether to add the model ``chosen``: in each fold the head that did best on rows held out of its training rows.
    refit : bool
        Whether to fit each head on all rows as well, for `predict`.
    weights : mapping of (partition, fold) to Series, optional
        What the losses of each fold's training rows are multiplied by, by utterance id; see `Problem` for what they
        change and what not. A fold's weights must come from its training rows alone.
    device : str
        Where heads are trained that can be trained elsewhere than on the CPU: ``"cpu"``, ``"cuda"``.
    n_jobs : int, optional
        Worker processes of one thread each; one for each core by default.
    on_ray : bool
        Whether the Ray cluster that this process is connected to (`mixed_signals.store.cluster.connected`) fits the
        heads, instead of workers here. The numbers are the same.
    memory : int
        Bytes that the workers together, or the tasks of one node, may take for what they compute.
    keep : Path, optional
        A folder for finished blocks: a sweep that is interrupted goes on from there.
    allow_shared_groups, allow_trained_rows : bool
        Whether folds are taken that share a group between training and test rows, or that test on rows an encoder's
        weights were trained on. The run says so wherever it is shown.
    on_progress : callable, optional
        Called with the number of heads just finished.

    Returns
    -------
    Run
        Not saved yet; its `heads` are the fitted heads by file stem. A model is trained on, and predicts, the rows
        that have at least one of its modalities.

    Raises
    ------
    UsageError
        If a head, modality or setting is unknown, a head does not learn such a target, there is no seed, folds are
        refused, or a training row has no weight where some are given.
    """
    started = time.perf_counter()
    several = [views] if isinstance(views, Views) else list(views)
    first = several[0]
    specs = [head_spec(name) for name in (default_heads(first.kind) if heads is None else heads)]
    for spec in specs:
        spec.cls(first.kind)
    _check_device(device, on_ray=on_ray)
    chosen_subsets = named_subsets(first.modalities, subsets)
    _check_numbers(specs, seeds, orders)
    folds = list(folds if folds is not None else make_folds(first, group=group))
    groups = groups_named(first, group)
    check_folds(folds, first.ids)
    if weights is not None and refit:
        raise UsageError(
            "weights are given for each fold, and refit fits on all rows: leave one of the two out"
        )
    seen = views_of_folds(several, folds, by_fold=views_by_fold)
    if views_by_fold and refit:
        raise UsageError(
            "features differ from fold to fold, so that no head can be fitted on all rows (refit)"
        )
    checked = None if weights is None else check_weights(weights, folds)
    overrides = [
        *trained_rows(seen, allowed=allow_trained_rows),
        *shared_groups(seen, None if groups is None else group or "group", allowed=allow_shared_groups),
        *alignment_notes(one.key for each in several for one in each.sources.values() if one.aligned),
    ]
    if normalize:
        overrides.append(
            f"features are normalised by {group or 'group'} over all its rows, tested ones among them: transductive"
        )
    shared = material(several, groups, normalize=normalize)
    assigned = shared.choices_of(seen) if views_by_fold else None
    blocks = plan(
        shared, specs, chosen_subsets, folds, seeds, orders, refit=refit, weights=checked, choices=assigned
    )
    call = {
        "target": first.target,
        "kind": first.kind,
        "classes": list(first.classes),
        "heads": [spec.name for spec in specs],
        "subsets": ["+".join(subset) for subset in chosen_subsets],
        "seeds": [int(seed) for seed in seeds],
        "orders": orders,
        "group": None if groups is None else group,
        "normalize": normalize,
        "refit": refit,
        "views_by_fold": views_by_fold,
        "features": {m: [[c.name, c.content] for c in found] for m, found in shared.candidates.items()},
        "rows": arrays_hash(shared.ids, shared.y, shared.votes, shared.groups),
        "folds": arrays_hash(
            *(part for f in folds for part in (f.partition, f.fold, f.train_ids, f.test_ids))
        ),
        "weights": None if checked is None else arrays_hash(*(p for item in checked.items() for p in item)),
        "versions": library_versions(LIBRARIES),
    }
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        check_call(keep, call)
    import joblib

    done = run_blocks(
        shared,
        blocks,
        n_jobs=n_jobs or joblib.cpu_count(),
        device=device,
        memory=memory,
        keep=keep,
        on_ray=on_ray,
        on_progress=on_progress,
    )
    trained = time.perf_counter() - started
    sentinels = {"majority": majority(first, folds)}
    if groups is not None:
        sentinels["group-majority"] = group_majority(first, folds, groups)
    tested = tested_heads(done, specs, chosen_subsets)
    predictions = predictions_table(shared, tested, sentinels)
    choices = None
    if choose:
        predictions, choices = add_chosen(predictions, tested, [spec.name for spec in specs])
    by_id = None if groups is None else dict(zip(first.ids, groups, strict=True))
    told = first.kind, first.classes
    scored = averaged_over_partitions(predictions, *told) if views_by_fold else predictions
    info = {
        **call,
        "n_utterances": len(first),
        "never_tested": sorted(set(first.ids) - set(predictions["utterance_id"])),
        "left_out": first.left_out,
        "features": first.features if len(several) == 1 else _all_features(shared),
        "device": device,
        "overrides": overrides,
        "interval_unit": "utterances" if groups is None else "groups",
        "folds": [_described(fold, first.ids) for fold in folds],
        "chosen_features": _chosen_features(shared, done),
        "chosen_heads": [] if choices is None else choices.to_dict("records"),
        "seed_spread": seed_spread(scored, *told).to_dict("records"),
        "seconds": round(time.perf_counter() - started, 2),
        "seconds_of_training": round(trained, 2),
        "seconds_by_head": _seconds(done),
        "python": platform.python_version(),
    }
    return Run(
        predictions=predictions,
        gates=gates_table(shared, tested),
        metrics=score(scored, *told, by_id),
        info=info,
        heads=_heads(done, keep),
    )


def n_fits(
    views: Views,
    heads: Sequence[str],
    subsets: str | Sequence[Subset],
    folds: Sequence[Fold],
    seeds: Sequence[int],
    orders: int,
    refit: bool,
) -> int:
    """Return how many heads a sweep fits."""
    chosen = named_subsets(views.modalities, subsets)
    total = 0
    for spec in map(head_spec, heads):
        fitting = [subset for subset in chosen if len(subset) > 1 or not spec.head_kind.several]
        total += len(fitting) * (len(seeds) * orders if spec.cls(views.kind).seeded else 1)
    return total * (len(folds) + refit)


def _check_numbers(specs: Sequence[HeadSpec], seeds: Sequence[int], orders: int) -> None:
    names = [spec.name for spec in specs]
    if not names or len(set(names)) < len(names):
        raise UsageError("name at least one head, and each once")
    if not len(seeds) or len(set(seeds)) < len(seeds):
        raise UsageError("name at least one seed, and each once")
    if orders < 1:
        raise UsageError(f"orders: at least 1, not {orders}")


def _check_device(device: str, *, on_ray: bool) -> None:
    if device == "cpu":
        return
    if on_ray:
        from mixed_signals.models.on_ray import check_device

        return check_device(device)
    import torch

    if not (device.partition(":")[0] == "cuda" and torch.cuda.is_available()):
        raise UsageError(f"device {device!r}: torch sees no such device here; use cpu")


def _described(fold: Fold, ids: np.ndarray) -> dict[str, Any]:
    """Return a fold as the run's file has it; the tested rows are those of its predictions."""
    trained_on, tested = set(fold.train_ids), set(fold.test_ids)
    return {
        "partition": fold.partition,
        "fold": fold.fold,
        "n_train": len(fold.train_ids),
        "n_test": len(fold.test_ids),
        "trained_on": "the others" if trained_on == set(ids) - tested else sorted(trained_on),
    }


def _all_features(shared: Material) -> dict[str, Any]:
    """Return the candidates of each modality; the first stands for it where one is asked for."""
    return {
        modality: {
            "name": "|".join(c.name for c in found),
            "recipe": "|".join(c.recipe for c in found),
            "content": "|".join(c.content for c in found),
        }
        for modality, found in shared.candidates.items()
    }


def _chosen_features(shared: Material, done: Sequence[Done]) -> list[dict[str, Any]]:
    """Return which feature set each training fold chose, for modalities that have several."""
    rows = {}
    for finished in done:
        for modality, number in finished.choice.items():
            fold = finished.block.fold
            name = shared.candidates[modality][number].name
            rows[fold.partition, fold.fold, modality] = {
                "partition": fold.partition,
                "fold": fold.fold,
                "modality": modality,
                "features": name,
            }
    return [rows[key] for key in sorted(rows)]


def _seconds(done: Sequence[Done]) -> dict[str, float]:
    """Return the seconds that the workers spent on each kind of head."""
    spent: dict[str, float] = {}
    for finished in done:
        spent[finished.block.base] = spent.get(finished.block.base, 0.0) + finished.seconds
    return {base: round(seconds, 2) for base, seconds in spent.items()}


def _heads(done: Sequence[Done], keep: Path | None) -> dict[str, Any]:
    heads: dict[str, Any] = {}
    for finished in done:
        for each in finished.fitted:
            stem = each.member.stem(finished.block.fold)
            if each.head is not None:
                heads[stem] = each.head
            elif keep is not None:
                heads[stem] = KeptHead(keep / "heads" / stem)
    return heads
