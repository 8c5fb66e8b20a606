"""The page: one HTML file that loads nothing, with the figures inline and, as files, in ``assets/``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from matplotlib.figure import Figure

from mixed_signals.analysis.findings import Finding, by_quantity, percent, records, with_interval
from mixed_signals.analysis.panel import FUSION
from mixed_signals.analysis.report import figures
from mixed_signals.store.files import replacing

if TYPE_CHECKING:
    from mixed_signals.analysis.analysis import Analysis
    from mixed_signals.store import Run

MOST_SHOWN = 50


@dataclass(frozen=True)
class Picture:
    """A figure of the page: inline markup, what it shows in words, and its caption."""

    name: str
    svg: Markup
    alt: str
    caption: str


def write_page(analysis: Analysis, run: Run, page: Path) -> None:
    """Write the report of an analysis of a run to a file, and its figures to ``assets/`` beside it."""
    html = render(analysis, run, page.parent / "assets")
    with replacing(page) as temporary:
        temporary.write_text(html, encoding="utf-8")


def render(analysis: Analysis, run: Run, assets: Path) -> str:
    """Return the page as HTML and write each of its figures as SVG and PNG below ``assets``."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    environment.filters["interval"] = with_interval
    utterances = analysis.table("utterances")
    return environment.get_template("page.html").render(
        analysis=analysis,
        run=run,
        n_utterances=utterances["utterance_id"].nunique(),
        n_groups=len(set(utterances["group"].dropna()) - {""}),
        classes=run.classes,
        questions=list(_by_question(analysis.findings).items()),
        metrics=metrics_by_model(run.metrics),
        metric_names=list(dict.fromkeys(run.metrics["metric"])),
        heads=[_head(analysis, run, head, assets) for head in analysis.heads],
    )


def _by_question(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Return findings by what they answer, what is primary first."""
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        question = "What this study is about" if finding.primary else finding.question
        found.setdefault(question, []).append(finding)
    return found


def metrics_by_model(metrics: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the metrics, one dictionary for each model: ``model``, ``sentinel`` and ``values`` by metric."""
    models: dict[str, dict[str, Any]] = {}
    for row in records(metrics):
        new = {"model": row["model"], "sentinel": not row["modalities"], "values": {}}
        models.setdefault(row["model"], new)["values"][row["metric"]] = row
    return list(models.values())


def _head(analysis: Analysis, run: Run, head: str, assets: Path) -> dict[str, Any]:
    """Return what the page shows of one head."""
    utterances, rates, types = (
        table[table["head"] == head] for table in map(analysis.table, ("utterances", "rates", "typology"))
    )
    rates = rates[(rates["measure"] == "label") & (rates["first"] != rates["second"])]
    types = types[types["count"] > 0]
    modalities = list(analysis.modalities[head])
    top = utterances.sort_values(["jsd", "utterance_id"], ascending=[False, True]).head(MOST_SHOWN)
    return {
        "name": head,
        "modalities": modalities,
        "pairs": by_quantity(rates),
        "measured_floor": _has_floor(rates),
        "floor": _FLOORS[_repeats(rates)],
        "types": records(types),
        "rated": "votes" in utterances and bool(utterances["votes"].notna().any()),
        "models": [*modalities, FUSION],
        "top": records(top),
        "pictures": _pictures(run, head, modalities, utterances, rates, types, assets),
    }


_FLOORS = {"seeds": "seed floor", "bags": "resampling floor", "": "floor"}


def _repeats(rates: pd.DataFrame) -> str:
    """Return what the trainings behind a floor are: seeds, or bags of training groups."""
    return str(rates.loc[rates["quantity"] == "floor", "repeats"].iloc[0])


def _has_floor(rates: pd.DataFrame) -> bool:
    return bool(rates.loc[rates["quantity"] == "excess", "estimate"].notna().all())


def _pictures(
    run: Run,
    head: str,
    modalities: list[str],
    utterances: pd.DataFrame,
    rates: pd.DataFrame,
    types: pd.DataFrame,
    assets: Path,
) -> list[Picture]:
    made: list[tuple[str, Figure, str, str]] = []
    fusion_rates = records(rates[(rates["quantity"] == "rate") & (rates["second"] == FUSION)])
    made.append(
        (
            "rates",
            figures.rates(rates),
            "Horizontal bars. Disagreement with the fusion: "
            + "; ".join(f"{r['first']} {with_interval(r, '%')}" for r in fusion_rates),
            "How often two models give different labels"
            + (
                f", beside how often one model does in two trainings (the {_FLOORS[_repeats(rates)]}). What single "
                "trainings of two models disagree beyond the floor is the excess in the table below."
                if _has_floor(rates)
                else ". Trained once, there is no seed floor to set it beside."
            ),
        )
    )
    likeliest = max(records(types), key=lambda row: row["estimate"])
    made.append(
        (
            "types",
            figures.shares(types),
            f"Horizontal bars of {len(types)} types; the most frequent is {likeliest['type']} with "
            f"{with_interval(likeliest, '%')}",
            "What the fusion made of its modalities, as shares of all utterances.",
        )
    )
    made.append(
        (
            "confidence",
            figures.confidence(utterances, modalities),
            "Scatter plots, one a modality: "
            + "; ".join(
                f"correlation of {m} with the fusion "
                f"{utterances[f'p_true_{m}'].corr(utterances[f'p_true_{FUSION}']):.2f}"
                for m in modalities
            ),
            "Probability of the true label, each modality's model against the fusion. Above the line the fusion is "
            "more confident in the truth; crosses are utterances that the fusion gets wrong.",
        )
    )
    if "vote_entropy" in utterances and utterances["vote_entropy"].notna().any():
        rated = utterances[utterances["vote_entropy"].notna()]
        made.append(
            (
                "raters",
                figures.raters(utterances),
                f"Scatter plot of {len(rated)} rated utterances; mean vote entropy {rated['vote_entropy'].mean():.2f} "
                "bits",
                "Disagreement between the modalities' models beside disagreement between the people who rated.",
            )
        )
    gates = run.gates
    gates = gates[(gates["head"] == head) & (gates["modalities"] == "+".join(modalities))]
    if np.isfinite(gates["gate"].to_numpy(float)).any():
        means = gates.groupby("modality")["gate"].mean()
        made.append(
            (
                "gates",
                figures.gates(utterances, gates),
                "Bars of the mean gate by type; over all utterances "
                + ", ".join(f"{m} {means[m]:.2f}" for m in modalities if m in means),
                "The gate that the fusion gives each modality, by what it made of them.",
            )
        )
    return [_save(f"{head}-{name}", figure, alt, caption, assets) for name, figure, alt, caption in made]


def _save(name: str, figure: Figure, alt: str, caption: str, assets: Path) -> Picture:
    files = figures.save(figure, name)
    for file, content in files.items():
        with replacing(assets / file) as temporary:
            temporary.write_bytes(content)
    # The markup is matplotlib's own, which escapes every text it draws.
    svg = Markup(figures.inline(files[f"{name}.svg"], name))  # noqa: S704
    return Picture(name=name, svg=svg, alt=alt, caption=caption)
