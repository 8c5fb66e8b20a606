"""The report of 100,000 utterances in a real browser: to write, to open, to filter, and growth with utterances.

    python tests/benchmarks/report.py [--small] [--json FILE]

The study is made up: three modalities, 5 seeds, 4 classes, votes, gates, 200 groups; no media. Every question that
predictions can answer was asked of it.

Opening is timed from the start of the navigation until the findings and the first rows of the table, with the count of
all utterances, are painted; each time in a browser that was just started and has kept nothing. Bytes are those of all
files that the page asked for until a second after. Filtering is timed from the choice until table and charts are
painted. The peer is what one would do without a report: what its table shows, as one plain HTML table (pandas,
`to_html`) that neither filters nor draws, timed until the document is complete and painted.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmark_rows import Rows, arguments_of
from browser import NoBrowserError, launched, watched
from planted_study import Design, draw
from synthetic_study import FULL, MODALITIES

from mixed_signals.analysis.analysis import ASKED_ONCE, QUESTIONS, Analysis, _described
from mixed_signals.analysis.outputs import write_tables
from mixed_signals.analysis.report.page import write_report
from mixed_signals.analysis.study import Study
from mixed_signals.store import Run

MEGABYTE = 1e6
MOST_MEGABYTES, MOST_SECONDS, MOST_TO_FILTER = 10.0, 3.0, 0.1  # the goals
LABELS = [f"label_{model}" for model in ("true", *MODALITIES, "fusion")]
SHOWN = [
    "utterance_id",
    "group",
    "text",
    *LABELS,
    "type",
    "vote_entropy",
    "jsd",
]  # in the page's table as well
ROUNDS = 5  # of views, in each browser
WORDS = np.array(
    ["well", "so", "and", "then", "nobody", "told", "me", "what", "happened", "there", "really", "fine"]
)
READY = """(n) => document.querySelectorAll("#table tbody tr[data-row]").length > 1
  && document.querySelector("#findings")?.textContent.trim()
  && document.querySelector("#count")?.textContent.includes(n)"""
PAINTED = "new Promise((then) => requestAnimationFrame(() => setTimeout(() => then(performance.now()))))"
FILTERED = f"""async (change) => {{
  const begun = performance.now();
  if (change) MixedSignals.set(change);
  else MixedSignals.clear();
  return await {PAINTED} - begun;
}}"""


def made(folder: Path, n: int) -> tuple[Study, Analysis]:
    """Return a study of `n` utterances and what was found, which is written to a folder."""
    design = Design(
        n=n,
        n_groups=min(200, n // 5),
        n_classes=4,
        icc=0.1,
        conflict={"audio": 0.2, "video": 0.1},
        ambiguity=0.5,
        raters_see="conflict",
        rater_noise=0.1,
    )
    rng = np.random.default_rng(n)
    drawn = draw(rng, design)
    panel = drawn.panel
    said = [" ".join(WORDS[rng.integers(0, len(WORDS), length)]) for length in rng.integers(4, 24, n)]
    utterances = drawn.utterances().assign(text=said).set_index("utterance_id", drop=False)
    cells = {"model": f"gated:{FULL}", "head": "gated", "modalities": FULL, "partition": 0, "fold": 0}
    gates = pd.DataFrame(
        {"utterance_id": np.tile(panel.ids, 3), **cells, "order": 0, "seed": 0}
        | {
            "modality": np.repeat(MODALITIES, n),
            "gate": rng.random(3 * n),
            "contribution": rng.normal(size=3 * n),
        }
    )
    metrics = pd.DataFrame(columns=["model", "head", "modalities", "metric", "estimate", "low", "high"])
    info = {"classes": list(panel.classes), "group": "group", "target": "label", "kind": "nominal"}
    run = Run(predictions=gates.iloc[:0], gates=gates, metrics=metrics, info=info)
    study = Study(run, (panel,), utterances, drawn.ratings(), resamples=100, refit=False)
    answers = [ask(study, panel) for ask in QUESTIONS.values()] + [ask(study) for ask in ASKED_ONCE.values()]
    tables = {name: table for answer in answers for name, table in answer.tables.items()}
    tables["utterances"] = _described(study, tables["utterances"], tables)
    analysis = Analysis(
        corpus="made up",
        run=run,
        modalities={panel.head: panel.unimodals},
        tables=tables,
        findings=[finding for answer in answers for finding in answer.findings],
        warnings=[note for answer in answers for note in answer.notes],
        methods="",
        folder=folder,
    )
    write_tables(folder, tables)
    return study, analysis


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class Opening(NamedTuple):
    """What opening a page cost, and what was asked of it then: medians of several times, each in a new browser.

    Attributes
    ----------
    seconds : float
    megabytes : float
        Of all files that the page asked for.
    filtering : dict of str to float
        Seconds until the rows of a view were painted, by the view's name.
    """

    seconds: float
    megabytes: float
    filtering: dict[str, float]


def opened(
    page: Path, ready: str, argument: object = None, views: Mapping[str, object] | None = None
) -> Opening:
    """Open a page once in a new browser."""
    asked: set[str] = set()
    with launched() as browser, watched(browser) as context:
        context.set_default_timeout(300_000)
        context.on("request", lambda request: asked.add(request.url))
        tab = context.new_page()
        tab.goto(page.as_uri(), wait_until="commit")
        tab.wait_for_function(ready, arg=argument)
        seconds = tab.evaluate(PAINTED) / 1000
        tab.wait_for_timeout(1000)
        files = {Path(unquote(urlsplit(url).path)) for url in asked if url.startswith("file:")}
        rounds = [
            {name: tab.evaluate(FILTERED, view) / 1000 for name, view in (views or {}).items()}
            for _ in range(ROUNDS)
        ]
    filtering = {name: median(spent[name] for spent in rounds) for name in rounds[0]}
    return Opening(seconds, sum(file.stat().st_size for file in files) / MEGABYTE, filtering)


def several(openings: Sequence[Opening]) -> Opening:
    """Return medians."""
    first = openings[0]
    filtering = {name: median(opening.filtering[name] for opening in openings) for name in first.filtering}
    return Opening(median(opening.seconds for opening in openings), first.megabytes, filtering)


def views_of(analysis: Analysis) -> dict[str, object]:
    """Return views of the page's explorer, each as a change of its state, or None for all utterances again."""
    types = analysis.table("typology").sort_values("count", ascending=False)["type"].tolist()
    return {
        "one type": {"filters": {"type": types[:1]}},
        "of these a range of scores": {"ranges": {"jsd": [0.1, 0.5]}},
        "all again": None,
        "another order": {"sort": "group"},
    }


def measured(folder: Path, n: int, repeats: int) -> tuple[float, Opening, Analysis]:
    """Write and open the report of `n` utterances; return the seconds to write, what opening cost, what it shows."""
    study, analysis = made(folder / f"analysis-{n}", n)
    report = folder / f"report-{n}"
    spent = timed(lambda: write_report(analysis, study, report))
    views = views_of(analysis)
    return (
        spent,
        several([opened(report / "index.html", READY, f"{n:,}", views) for _ in range(repeats)]),
        analysis,
    )


def against_goals(rows: Rows, folder: Path, n: int, repeats: int) -> None:
    spent, ours, analysis = measured(folder, n, repeats)
    plain = folder / "plain.html"
    plain_spent = timed(lambda: analysis.table("utterances")[SHOWN].to_html(plain))
    peer = opened(plain, "() => document.readyState === 'complete'")
    rows.add(f"{n:,} utterances: to open / {MOST_SECONDS:g} s", ours.seconds, MOST_SECONDS, at_most=1)
    rows.add(
        f"{n:,} utterances: loaded on opening / {MOST_MEGABYTES:g} MB",
        ours.megabytes,
        MOST_MEGABYTES,
        at_most=1,
        when_small=True,
        unit="MB",
    )
    for name, seconds in ours.filtering.items():
        rows.add(
            f"{n:,} utterances: to show {name} / {MOST_TO_FILTER:g} s", seconds, MOST_TO_FILTER, at_most=1
        )
    rows.add(f"{n:,} utterances: to open, peer a plain HTML table", ours.seconds, peer.seconds)
    rows.add(f"{n:,} utterances: loaded, peer a plain HTML table", ours.megabytes, peer.megabytes, unit="MB")
    rows.add(f"{n:,} utterances: to write, peer a plain HTML table", spent, plain_spent)


def growth(rows: Rows, folder: Path, sizes: tuple[int, ...], repeats: int) -> None:
    first: dict[str, float] = {}
    for n in sizes:
        spent, ours, _ = measured(folder, n, repeats)
        for what, value in (("to write", spent), ("to open", ours.seconds), ("loaded", ours.megabytes)):
            first.setdefault(what, value)
            unit = "MB" if what == "loaded" else "s"
            rows.add(f"{what}, {n:,} utterances / {sizes[0]:,}", value, first[what], share=True, unit=unit)


def main() -> None:
    arguments = arguments_of(__doc__, small="1,000 utterances, opened once")
    rows = Rows(full=not arguments.small)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.small:
            against_goals(rows, Path(folder), 1000, 1)
            growth(rows, Path(folder), (400, 1200), 1)
        else:
            against_goals(rows, Path(folder), 100_000, 5)
            growth(rows, Path(folder), (10_000, 100_000, 300_000), 3)
    sys.exit(rows.end(arguments.json))


if __name__ == "__main__":
    try:
        main()
    except NoBrowserError as error:
        sys.exit(str(error))
