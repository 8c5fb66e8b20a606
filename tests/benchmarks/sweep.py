"""Sweeps beside the usual loops: a study's worth of heads, how time grows, and what training makes of the processor.

    python tests/benchmarks/sweep.py [--small] [--json FILE] [--device cuda]

The study: 1,535 utterances of 42 dialogs, three modalities of 768 with a planted signal, seven subsets of them, 5 folds
by dialog, 10 seeds. The loop fits one head after the other on every core, one thread each, with scikit-learn's
``LogisticRegressionCV``, skorch and ``XGBClassifier``: same penalties and inner splits, same network and stopping rule,
same number of trees (which the loop is told). It fits a sample of its heads, as many of each subset, spread over folds
and seeds; its seconds are the mean of these, times all heads, over the number of cores, as if none ever waited. The row
says how many they were, and how long they took. Both sides take turns, and the processes of both have fitted heads
before seconds are counted.

Log losses are out of fold, of the same heads on both sides. They count as equal where ours less the loop's is not above
zero by more than its 95% interval over dialogs, and a small allowance.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from joblib import cpu_count

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmark_loops import Done, Job, fit_all
from benchmark_rows import Rows, arguments_of
from benchmark_study import MODALITIES, Study, planted, unfitted

from mixed_signals.models import sweep
from mixed_signals.models.intervals import mean_interval
from mixed_signals.models.threads import one_thread
from mixed_signals.store import Run, folds

GOALS = {"logistic": 5, "gated": 15, "xgboost": 3}


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes
    ----------
    n, n_groups, width : int
        Utterances, dialogs, columns of a modality.
    n_folds, n_seeds : int
    turns : dict of str to int
        How often the sides take turns, for each family.
    heads : dict of str to str
        The head of each family, as it is asked for.
    of_each : dict of str to int
        How many heads of each subset the loop fits.
    growth : tuple of int
        Utterances of the growing corpora.
    together : tuple of int
        Numbers of heads that are trained together.
    allowance : float
        How far log losses may be apart in any case.
    """

    n: int
    n_groups: int
    width: int
    n_folds: int
    n_seeds: int
    turns: dict[str, int]
    heads: dict[str, str]
    of_each: dict[str, int]
    growth: tuple[int, ...]
    together: tuple[int, ...]
    allowance: float
    full: bool


FULL = Size(
    n=1_535,
    n_groups=42,
    width=768,
    n_folds=5,
    n_seeds=10,
    turns={"logistic": 3, "gated": 2, "xgboost": 1},
    heads={family: family for family in GOALS},
    of_each={"logistic": 5, "gated": 4, "xgboost": 4},
    growth=(1_500, 15_000, 150_000),
    together=(1, 8, 64, 512),
    allowance=0.001,
    full=True,
)
SMALL = Size(
    n=160,
    n_groups=12,
    width=12,
    n_folds=2,
    n_seeds=2,
    turns=dict.fromkeys(GOALS, 1),
    heads={
        "logistic": "logistic@penalties=[0.001,0.1]",
        "gated": "gated@max_epochs=4",
        "xgboost": "xgboost@max_trees=10",
    },
    of_each={"logistic": 1, "gated": 1, "xgboost": 1},
    growth=(100, 200),
    together=(1, 4),
    allowance=0.3,
    full=False,
)


class Spent(NamedTuple):
    """Seconds of both sides for all heads of a family."""

    ours: float
    loop: float


def race(rows: Rows, study: Study, family: str, size: Size, device: str) -> Spent:
    """Fit a family of heads on both sides in turns; compare times, and what the same heads predict."""
    X, y = study.problem.X, study.problem.y
    head, jobs = size.heads[family], study.jobs(family, size.of_each[family])
    settings = {**unfitted(head, study.problem, MODALITIES).get_params(), "device": device}
    seconds: list[float] = []
    done: list[Done] = []
    wall = 0.0
    sweep(
        study.views, (head,), [MODALITIES[:1]], study.folds[:2], (0,), device=device
    )  # processes import what they need
    for part in np.array_split(np.arange(len(jobs)), size.turns[family]):
        spent, run = timed(
            lambda: sweep(study.views, (head,), folds=study.folds, seeds=range(study.n_seeds), device=device)
        )
        seconds.append(spent)
        if family == "xgboost":
            settings["trees"] = {job[:3]: run.heads[stem(head, job)].n_trees_ for job in jobs}
        loop = lambda chosen: fit_all(family, X, y, chosen, settings, cpu_count())
        loop(jobs[:1] * cpu_count())
        spent, fitted = timed(lambda part=part, loop=loop: loop([jobs[i] for i in part]))
        wall += spent
        done += fitted
    n_heads, busy = study.n_heads(family), sum(one.seconds for one in done)
    spent_by = Spent(median(seconds), busy / cpu_count() * n_heads / len(jobs))
    name = f"{n_heads} {family} heads / the loop, by {len(jobs)} of its heads in {wall:.3g} s"
    rows.add(name, *spent_by, at_least=GOALS[family])
    if family == "gated":
        told = spent_by.loop * (1 - sum(one.stopping for one in done) / busy)
        rows.add("  the same, a loop that is told how many epochs to train", spent_by.ours, told)
    compare(rows, study, run, jobs, done, size.allowance)
    return spent_by


def compare(rows: Rows, study: Study, run: Run, jobs: list[Job], done: list[Done], allowance: float) -> None:
    """Compare what the same heads of both sides predict for the rows that their folds hold out."""
    trained = run.predictions[run.predictions["modalities"] != ""]
    ours = dict(iter(trained.groupby(["modalities", "fold", "seed"])))
    losses, hits, tested = [], [], []
    for job, one in zip(jobs, done, strict=True):
        mine = ours["+".join(job.subset), job.fold, job.seed].set_index("utterance_id")
        sides = np.stack([mine.loc[study.views.ids[job.test], "p_warm"].to_numpy(np.float64), one.P])
        warm = study.problem.y[job.test] == 1
        losses.append(-np.log(np.clip(np.where(warm, sides, 1 - sides), 1e-12, None)))
        hits.append((sides > 0.5) == warm)
        tested.append(job.test)
    loss, hit = np.concatenate(losses, axis=1), np.concatenate(hits, axis=1).mean(axis=1)
    apart = mean_interval(loss[0] - loss[1], study.views.groups[np.concatenate(tested)])
    name = f"  out-of-fold log loss of the same {len(jobs)} heads"
    rows.add_equal(name, *loss.mean(axis=1), (apart.low, apart.high), allowance)
    rows.add("  their accuracy", *hit, share=True, unit="")


def stem(head: str, job: Job) -> str:
    """Return what a run calls one of its heads."""
    return f"{head}.{'+'.join(job.subset)}.p0.f{job.fold}.o0.s{job.seed}"


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def study_sized(rows: Rows, study: Study, size: Size, device: str) -> None:
    spent = {family: race(rows, study, family, size, device) for family in GOALS}
    whole = Spent(*(sum(side) for side in zip(*spent.values(), strict=True)))
    rows.add("the whole sweep / the loop", *whole, at_least=4)
    for family, (_, loop) in spent.items():
        rows.add(f"  share of {family} in the loop", loop, whole.loop, share=True)
    quick = spent["logistic"].ours + spent["gated"].ours
    rows.add("logistic and gated together / a minute", quick, 60, at_most=1)


_LARGE = ((2048, 768, 64), (4096, 768, 64), (2048, 768, 512), (1024, 1024, 1024))


def use_of_the_processor(rows: Rows, study: Study, size: Size, device: str) -> None:
    """Compare the products that training needs, by its seconds, with the quickest product that is measured here."""
    from torch.utils.flop_counter import FlopCounterMode

    n_heads = len(study.subsets) * study.n_seeds
    n_projections = study.n_seeds * sum(map(len, study.subsets))
    for head, what, reach in (
        ("gated@n_scouts=0@max_epochs=10", "10 epochs of", 0.7),
        (size.heads["gated"], "all about", None),
    ):

        def train(head: str = head) -> None:
            fits = study.fits(head, study.subsets, study.n_seeds)
            type(fits[0].head).fit_many(study.problem, fits, device=device)

        with one_thread():
            with FlopCounterMode(display=False) as counter:
                train()
            rates = [product_rate(device, _LARGE)]
            seconds, _ = timed(train)
            rates.append(product_rate(device, _LARGE))
            own = product_rate(device, [(64 * n_projections // 3, size.width, 128)])
        rate = counter.get_total_flops() / seconds / 1e9
        name = f"{what} {n_heads} gated heads of one fold on one thread / the quickest product"
        rows.add(name, rate, max(rates), reach=reach, share=True, unit="GFLOP/s")
        print(f"    {seconds / n_heads:.3f} s a head", flush=True)
        rows.add("  the same / products of their own shape", rate, own, share=True, unit="GFLOP/s")


def product_rate(device: str, shapes: Sequence[tuple[int, int, int]]) -> float:
    """Return the GFLOP/s of the quickest of some float32 products (n, inner) by (inner, m), the best of ten each."""
    import torch

    best = 0.0
    for n, inner, m in shapes:
        a, b = torch.randn(n, inner, device=device), torch.randn(inner, m, device=device)

        def multiply(a: torch.Tensor = a, b: torch.Tensor = b) -> None:
            a @ b
            if device != "cpu":
                torch.cuda.synchronize()

        seconds = min(timed(multiply)[0] for _ in range(10))
        best = max(best, 2 * n * inner * m / seconds / 1e9)
    return best


def growth_with_rows(rows: Rows, folder: Path, size: Size, device: str) -> None:
    spent: dict[str, list[float]] = {"logistic": [], "gated": []}
    for n in size.growth:
        views = planted(folder / f"rows{n}", n, max(12, n // 36), size.width, ("text",))
        first = folds(views, 5)[:1]
        for family, all_spent in spent.items():
            fit = lambda head=size.heads[family], views=views, first=first: sweep(
                views, (head,), folds=first, seeds=(0, 1), device=device
            )
            if n == size.growth[0]:
                fit()
            all_spent.append(timed(fit)[0])
    for family, all_spent in spent.items():
        for n, seconds in list(zip(size.growth, all_spent, strict=True))[1:]:
            name = f"{family}, one fold and modality, {n:,} rows / {size.growth[0]:,}"
            rows.add(name, seconds, all_spent[0], share=True)


def growth_with_heads(rows: Rows, study: Study, size: Size, device: str) -> None:
    with one_thread():
        for n in size.together:
            fits = study.fits(size.heads["gated"], [MODALITIES], n)
            seconds, _ = timed(
                lambda fits=fits: type(fits[0].head).fit_many(study.problem, fits, device=device)
            )
            if n == size.together[0]:
                alone = seconds
            else:
                rows.add(f"a gated head among {n} trained together / alone", seconds / n, alone)


def main() -> None:
    arguments = arguments_of(__doc__, small="toy sizes, which have no goals of speed", device=True)
    size = SMALL if arguments.small else FULL
    rows = Rows(full=size.full)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        views = planted(folder / "study", size.n, size.n_groups, size.width)
        study = Study(views, size.n_folds, size.n_seeds)
        study_sized(rows, study, size, arguments.device)
        use_of_the_processor(rows, study, size, arguments.device)
        growth_with_heads(rows, study, size, arguments.device)
        growth_with_rows(rows, folder, size, arguments.device)
    sys.exit(rows.end(arguments.json))


if __name__ == "__main__":
    main()
