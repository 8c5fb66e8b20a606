"""Seconds that the analysis of a run takes: the whole of it, each question, and growth with utterances.

    python tests/benchmarks/analysis.py [--small] [--json FILE]

The run: 10,000 utterances of 100 groups, ratings, seven subsets of three modalities, 5 folds, 10 seeds, heads saved;
the analysis with 1,000 resamples and as many permutations, without training any head again. Growth is of each
question's seconds, per thousand utterances, for studies of predictions alone (no features, no saved heads), set beside
those of the smallest.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmark_rows import Rows, arguments_of
from planted_study import Design, draw
from synthetic_study import MODALITIES

from mixed_signals.analysis.analysis import ASKED_ONCE, QUESTIONS, analyze
from mixed_signals.analysis.study import Study
from mixed_signals.models import sweep
from mixed_signals.store import Store, folds

HEAD = "gated@max_epochs=3@n_scouts=0@hidden=16"
GOAL = 30.0


def planted(n: int, n_seeds: int) -> Design:
    """Return a design of a study of that size."""
    return Design(
        n=n,
        n_groups=min(100, n // 8),
        n_classes=3,
        icc=0.1,
        conflict={"audio": 0.2},
        ambiguity=0.5,
        n_seeds=n_seeds,
        raters_see="conflict",
        rater_noise=0.1,
    )


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def questions(study: Study) -> dict[str, Callable[[], object]]:
    """Return what is asked of a study of one head, by the name of the question."""
    (panel,) = study.panels
    asked: dict[str, Callable[[], object]] = {
        name: lambda evaluate=evaluate: evaluate(study, panel) for name, evaluate in QUESTIONS.items()
    }
    return asked | {name: lambda evaluate=evaluate: evaluate(study) for name, evaluate in ASKED_ONCE.items()}


def made(folder: Path, n: int, n_seeds: int) -> Store:
    """Make a store with a run of real heads."""
    store = draw(np.random.default_rng(n), planted(n, n_seeds)).store(folder / "store", width=16)
    views = store.views(**dict.fromkeys(MODALITIES, "planted"))
    run = sweep(views, (HEAD,), folds=folds(views, 5), seeds=range(n_seeds))
    run.save(store, "run")
    return store


def whole(rows: Rows, folder: Path, n: int, n_seeds: int, resamples: int) -> None:
    seconds = timed(lambda: made(folder, n, n_seeds))
    print(f"the run was made in {seconds:.0f} s", flush=True)
    store = Store.open(folder / "store")
    spent = timed(lambda: analyze(store, "run", refit=False, resamples=resamples))
    name = f"analysis of {n:,} utterances, 7 subsets, {n_seeds} seeds, {resamples:,} resamples / {GOAL:g} s"
    rows.add(name, spent, GOAL, at_most=1)
    study = Study.open(store, "run", resamples=resamples, refit=False)
    for name, ask in questions(study).items():
        rows.add(f"  {name} / the whole", timed(ask), spent, share=True)


def growth(rows: Rows, sizes: tuple[int, ...], n_seeds: int, resamples: int) -> None:
    first: dict[str, float] = {}
    for n in sizes:
        study = draw(np.random.default_rng(n), planted(n, n_seeds)).study(resamples=resamples, refit=False)
        for name, ask in questions(study).items():
            each = timed(ask) / n * 1000
            first.setdefault(name, each)
            what = f"{name}, a thousand of {n:,} utterances / of {sizes[0]:,}"
            rows.add(what, each, first[name], share=True)
        print(flush=True)


def main() -> None:
    arguments = arguments_of(__doc__, small="600 utterances, 3 seeds, few resamples")
    rows = Rows(full=not arguments.small)
    n, n_seeds, resamples = (600, 3, 50) if arguments.small else (10_000, 10, 1000)
    sizes = (300, 600) if arguments.small else (1_000, 10_000, 100_000)
    with tempfile.TemporaryDirectory() as folder:
        whole(rows, Path(folder), n, n_seeds, resamples)
    growth(rows, sizes, n_seeds, resamples)
    sys.exit(rows.end(arguments.json))


if __name__ == "__main__":
    main()
