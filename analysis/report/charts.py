"""Interactive charts of one head: Bokeh figures as JSON, which the page's ``charts.js`` fills and keeps up to date.

What is drawn (axes, marks, words, tools) is said here; the figures' sources are empty, but for what holds for all
utterances and is not computed again in the page. The script fills them from the page's columns.

``charts`` returns, by name of the figure::

    {"kind": ..., "doc": Bokeh's document, "plots": [id of each panel], ...}

with what the script has to know besides: which columns are on which axis, colours, and so on. Models that it looks for
in the document have names: ``plot-0``, ``shown``, ``rest``, ``ring``, ``density-0`` and others. The tag ``ink`` marks
what is drawn in the page's colour of text. There is no code in the JSON (no ``CustomJS``): the policy of the page
forbids evaluating any.

=============  ========================================================================================================
confidence     probability that each unimodal model gives the label, against the fusion's (interval: values)
raters         disagreement of the modalities against that of the raters, with means of fifths
gates          mean gate and contribution of each modality by type
types          counts of the types, of what is shown over all
risk           risk among the utterances with the least doubt, by share of utterances (see `robustness.selective`)
floor          how often pairs of models differ, and how much more than two trainings of one model
people         people beside models, by what they are given; of all utterances
=============  ========================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from bokeh.models import HoverTool, NumeralTickFormatter, Range1d, Span

from mixed_signals.analysis.disagreement import pairs_of
from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.analysis.people.votes import TIES_SHARED
from mixed_signals.analysis.plots.colours import FAMILY_COLOURS, FUSION_WRONG, OKABE_ITO
from mixed_signals.analysis.report.chart_parts import (
    BLUE,
    FAINT,
    ORANGE,
    PLAIN,
    Chart,
    axis_of,
    draw_estimates,
    empty_source,
    exported,
    height_of,
    limits_of,
    new_plot,
    put_rows,
    scatter,
)
from mixed_signals.analysis.typology import family

if TYPE_CHECKING:
    from mixed_signals.analysis.analysis import Analysis
    from mixed_signals.analysis.study import Study

FEWEST_IN_FIFTHS = 25
"""Utterances from which means of fifths are drawn."""
MOST_POINTS = 20_000
"""Utterances above which a scatter is drawn as a density: counts by cell."""


COLOURS = {**FAMILY_COLOURS, "agree wrong": "ink"}
"""Of families; the darkest is the page's colour of text, light where the page is dark."""
_DENSE = "So many utterances are drawn as a density: the darker a cell (in dark mode, the lighter), the more are in it."
_BRUSH = "Drag a rectangle to show what is in it; a double tap takes it away."
_FAINT = "Faint: utterances that are not shown."
_TAP = "A tap on a point opens its utterance."


@dataclass(frozen=True)
class Subject:
    """What the charts of one head are made of.

    Attributes
    ----------
    panel : Panel
    tables : mapping of str to DataFrame
        Those of the analysis; of tables by head, this head's rows.
    gates : tuple of str
        What the fusion says of its modalities: ``gate``, ``contribution``, both or nothing.
    accuracies : DataFrame
        ``modalities, estimate, low, high``: of this head's models.
    """

    panel: Panel
    tables: Mapping[str, pd.DataFrame]
    gates: tuple[str, ...]
    accuracies: pd.DataFrame

    @property
    def interval(self) -> bool:
        """Whether the target is a number."""
        return self.panel.kind == "interval"

    @property
    def dense(self) -> bool:
        """Whether scatters are drawn as densities."""
        return len(self.panel.ids) > MOST_POINTS

    @property
    def score(self) -> str:
        """The column that says how far the modalities disagree."""
        return "spread" if self.interval else "jsd"

    def table(self, name: str) -> pd.DataFrame:
        """Return a table, an empty one where there is none."""
        return self.tables.get(name, pd.DataFrame())

    def types(self) -> list[str]:
        """Return the types that occur, in the order of the typology."""
        table = self.table("typology")
        return [] if table.empty else table.loc[table["count"] > 0, "type"].astype(str).tolist()


def charts(analysis: Analysis, study: Study, head: str) -> dict[str, dict[str, Any]]:
    """Return the charts of one head as JSON, by name; those whose data are not there are left out.

    Parameters
    ----------
    analysis : Analysis
    study : Study
        Of the same run.
    head : str
        One of the analysis's.

    Returns
    -------
    dict
        See the module's text. The same analysis gives the same bytes.
    """
    subject = _subject(analysis, study, head)
    made = {name: make(subject) for name, make in CHARTS.items()}
    return {name: exported(name, chart) for name, chart in made.items() if chart is not None}


def _subject(analysis: Analysis, study: Study, head: str) -> Subject:
    panel = next(panel for panel in study.panels if panel.head == head)
    tables = {
        name: table[table["head"] == head] if "head" in table else table
        for name, table in analysis.tables.items()
    }
    metrics = study.run.metrics
    return Subject(
        panel,
        tables,
        tuple(
            name
            for name in ("gate", "contribution")
            if _all_have(tables, [f"{name}_{m}" for m in panel.unimodals])
        ),
        metrics[(metrics["head"] == head) & (metrics["metric"] == "accuracy")],
    )


def _all_have(tables: Mapping[str, pd.DataFrame], columns: list[str]) -> bool:
    table = tables.get("utterances", pd.DataFrame())
    return set(columns) <= set(table) and bool(table[columns].notna().any(axis=None))


def _note(subject: Subject) -> str:
    return f"{_DENSE} {_BRUSH}" if subject.dense else f"{_FAINT} {_BRUSH} {_TAP}"


def _confidence(subject: Subject) -> Chart | None:
    table = subject.table("utterances")
    if table.empty:
        return None
    models = subject.panel.models
    if subject.interval:
        limits, stem, says = limits_of(table[["y_true", *(f"y_{m}" for m in models)]]), "y_", "value"
    else:
        limits, stem, says = (-0.03, 1.03), "p_true_", "probability of the label"
    of_fusion = axis_of(f"{stem}{FUSION}", f"{FUSION}: {says}", limits)
    panels = [{"x": axis_of(f"{stem}{m}", f"{m}: {says}", limits), "y": of_fusion} for m in models[:-1]]
    legend = [
        {"level": name, "colour": colour, "marker": "x" if name in FUSION_WRONG else "circle"}
        for name, colour in COLOURS.items()
        if not subject.dense and "family" in table and (table["family"] == name).any()
    ]
    chart = scatter(
        panels,
        {
            **({"by": "family", "legend": legend} if legend else {}),
            "note": f"{says[0].upper()}{says[1:]}, by a modality's own model and by the fusion. {_note(subject)}",
        },
        dense=subject.dense,
    )
    for plot in chart.plots:
        plot.line(
            list(limits), list(limits), line_alpha=0.35, line_color=PLAIN, level="underlay", tags=["ink"]
        )
    return chart


def _raters(subject: Subject) -> Chart | None:
    table = subject.table("utterances")
    by_raters = "variance" if subject.interval else "vote_entropy"
    if by_raters not in table or not table[by_raters].notna().any():
        return None
    x = (
        "spread of the modalities, standard deviations"
        if subject.interval
        else "divergence of the modalities, bits"
    )
    y = "variance of the ratings" if subject.interval else "vote entropy of the raters, bits"
    panels = [
        {
            "x": axis_of(subject.score, x, limits_of(table[[subject.score]])),
            "y": axis_of(by_raters, y, limits_of(table[[by_raters]])),
        }
    ]
    note = (
        f"The line: means of fifths of what is shown, from {FEWEST_IN_FIFTHS} utterances on. {_note(subject)}"
    )
    about = {"means": 5, "fewest": FEWEST_IN_FIFTHS, "note": note}
    chart = scatter(panels, about, dense=subject.dense)
    means = empty_source("means", ["x", "y"])
    chart.plots[0].line("x", "y", source=means, line_color=ORANGE, line_width=2)
    chart.plots[0].scatter("x", "y", source=means, size=9, marker="diamond", color=ORANGE)
    return chart


def _gates(subject: Subject) -> Chart | None:
    if not subject.gates:
        return None
    labels = subject.types() or ["all utterances"]
    modalities = list(subject.panel.unimodals)
    thick = 0.8 / len(modalities)
    plots = []
    for i, name in enumerate(subject.gates):
        shown, every = (
            empty_source(f"{which}-{i}", ["y", "value", "colour", "what"]) for which in ("shown", "all")
        )
        hover = HoverTool(visible=False, tooltips=[("", "@what"), (f"mean {name}", "@value{0.000}")])
        plot = new_plot(
            i, f"mean {name}", "", height=height_of(len(labels), 12 * len(modalities)), hover=hover
        )
        put_rows(plot, labels)
        if name == "gate":
            plot.x_range.start = 0
        plot.hbar("y", thick * 0.9, "value", source=shown, color="colour", line_color=None)
        plot.scatter(
            "value", "y", source=every, marker="dash", angle=np.pi / 2, size=9, line_width=2, tags=["ink"]
        )
        plot.add_layout(Span(location=0, dimension="height", line_alpha=0.4, tags=["ink"]))
        plots.append(plot)
    legend = [
        *({"level": m, "colour": c, "marker": "bar"} for m, c in zip(modalities, OKABE_ITO, strict=False)),
        {"level": "of all utterances", "colour": "ink", "marker": "tick"},
    ]
    return Chart(
        "gates",
        plots,
        {
            "names": list(subject.gates),
            "modalities": modalities,
            "types": subject.types(),
            "legend": legend,
            "note": "Means of what is shown. A gate says what is let in, not what decides.",
        },
    )


def _types(subject: Subject) -> Chart | None:
    types = subject.types()
    if not types:
        return None
    colours = [COLOURS[str(name)] for name in family(types)]
    shown, every = (empty_source(name, ["y", "n", "colour", "words"]) for name in ("shown", "all"))
    plot = new_plot(0, "utterances", "", height=height_of(len(types)))
    put_rows(plot, types)
    plot.x_range.start = 0
    plot.x_range.range_padding = 0.5
    plot.hbar("y", 0.75, "n", source=every, color="colour", alpha=FAINT + 0.1, line_color=None)
    plot.hbar("y", 0.75, "n", source=shown, color="colour", line_color=None)
    plot.text(
        "n",
        "y",
        "words",
        source=every,
        x_offset=4,
        text_font_size="11px",
        text_baseline="middle",
        tags=["ink"],
    )
    legend = [
        {"level": "shown", "colour": "ink", "marker": "bar"},
        {"level": "all utterances", "colour": "faint", "marker": "bar"},
    ]
    return Chart(
        "types",
        [plot],
        {
            "types": types,
            "colours": colours,
            "legend": legend,
            "note": "How many of what is shown are of each type. A tap on a bar shows its type alone.",
        },
    )


def _risk(subject: Subject) -> Chart | None:
    if subject.table("utterances").empty:
        return None
    if subject.interval:
        scores = [{"sort": "spread", "level": "by agreement of the modalities", "colour": BLUE}]
        loss, of = {"squared": ["y_fusion", "y_true"]}, "mean squared error of the fusion"
    else:
        scores = [
            {
                "sort": f"-confidence_{FUSION}",
                "level": "by the fusion's confidence",
                "colour": BLUE,
            },
            {"sort": "jsd", "level": "by agreement of the modalities", "colour": ORANGE},
        ]
        loss, of = {"different": [f"label_{FUSION}", "label_true"]}, "share that the fusion gets wrong"
    hover = HoverTool(
        visible=False,
        tooltips=[("", "@what"), ("kept", "$x{0%}"), ("risk", "$y{0.000}")],
        line_policy="interp",
    )
    plot = new_plot(
        0, "share of utterances kept, those in least doubt first", of, hover=hover, x_range=Range1d(0, 1.01)
    )
    plot.y_range.start = 0
    plot.xaxis.formatter = NumeralTickFormatter(format="0%")
    if not subject.interval:
        plot.yaxis.formatter = NumeralTickFormatter(format="0.[0]%")
    for name, alpha in (("all", 0.3), ("shown", 1.0)):
        source = empty_source(name, ["xs", "ys", "colour", "what"])
        plot.multi_line("xs", "ys", source=source, color="colour", alpha=alpha, line_width=2)
    legend = [
        *({"level": s["level"], "colour": s["colour"], "marker": "line"} for s in scores),
        {"level": "weak: of all utterances", "colour": "faint", "marker": "line"},
    ]
    note = "Errors among the utterances that are kept, when those that a score doubts most are left out."
    return Chart("risk", [plot], {"scores": scores, "loss": loss, "legend": legend, "note": note})


def _floor(subject: Subject) -> Chart | None:
    measure = "difference" if subject.interval else "label"
    rates = subject.table("rates")
    if rates.empty:
        return None
    rates = rates[rates["measure"] == measure]
    measured = rates.loc[rates["quantity"] == "excess", "estimate"].notna().any()
    pairs = pairs_of(subject.panel)
    unit = "mean difference, standard deviations" if subject.interval else "different labels"
    plots = []
    one_partition = (
        len(subject.panel.folds) == 1
    )  # else the rate is a mean over partitions, which rows do not have
    drawn = {"rate": unit, **({"excess": f"{unit}, beyond the floor"} if measured else {})}
    beyond = rates[rates["quantity"] == "beyond_same_modality"]
    compared = beyond["estimate"].notna().any()
    panels = {
        **drawn,
        **({"beyond_same_modality": f"{unit}, beyond two models of one modality"} if compared else {}),
    }
    for i, (quantity, label) in enumerate(panels.items()):
        hover = HoverTool(visible=False, tooltips=[("", "@what"), (quantity, "@value{0.000}")])
        plot = new_plot(i, label, "", height=height_of(len(pairs), 30), hover=hover)
        put_rows(plot, [f"{first} / {second}" for first, second in pairs])
        if quantity == "rate":
            plot.x_range.start = 0
            if measured:
                draw_estimates(plot, rates[rates["quantity"] == "floor"], pairs, "floor", marker="square")
        draw_estimates(plot, rates[rates["quantity"] == quantity], pairs, "all utterances", marker="circle")
        if quantity in drawn and one_partition:
            shown = empty_source(f"shown-{i}", ["y", "value", "what"])
            plot.scatter("value", "y", source=shown, marker="diamond", size=13, color=ORANGE)
        if quantity != "rate":
            plot.scatter([0.0], [0], alpha=0)  # keeps zero in sight
        if not subject.interval:
            plot.xaxis.formatter = NumeralTickFormatter(format="0%")
        plot.add_layout(Span(location=0, dimension="height", line_alpha=0.4, tags=["ink"]))
        plots.append(plot)
    legend = [
        {"level": "of what is shown", "colour": ORANGE, "marker": "diamond"},
        {"level": "of all, with its 95% interval", "colour": BLUE, "marker": "circle"},
        *(
            [{"level": "floor: one model, trained twice", "colour": PLAIN, "marker": "square"}]
            if measured
            else []
        ),
    ]
    of_pairs = [{"models": list(pair), "excess": f"excess_{_pair_name(*pair)}"} for pair in pairs]
    note = (
        "Only beyond what two models of one modality disagree is disagreement said to be of modalities."
        if compared
        else "Two models of one modality were not compared: what is beyond the floor may still not be of modalities."
    )
    about = {
        "pairs": of_pairs,
        "names": list(drawn) if one_partition else [],
        "measure": measure,
        "scale": subject.panel.deviation if subject.interval else 1.0,
        "legend": legend if one_partition else legend[1:],
        "note": note,
    }
    return Chart("floor", plots, about)


def _pair_name(first: str, second: str) -> str:
    return first if second == FUSION else f"{first}+{second}"


def _people(subject: Subject) -> Chart | None:
    people = subject.table("people")
    if people.empty:
        return None
    people = people[people["tie_rule"] == TIES_SHARED].rename(columns={"channel": "modalities"})
    whole = "+".join(subject.panel.unimodals)
    given = dict.fromkeys([*people["modalities"], *subject.accuracies["modalities"], whole])
    order = sorted((str(name) for name in given if name), key=lambda name: (name.count("+"), name))
    hover = HoverTool(
        visible=False, tooltips=[("", "@what"), ("right", "@value{0.0%} (@low{0.0%} to @high{0.0%})")]
    )
    plot = new_plot(0, "right, share of all utterances", "", height=height_of(len(order), 32), hover=hover)
    put_rows(plot, order)
    plot.xaxis.formatter = NumeralTickFormatter(format="0%")
    draw_estimates(plot, people, order, "people", marker="diamond", down=-0.15)
    draw_estimates(plot, subject.accuracies, order, "models", marker="circle", down=0.15)
    legend = [
        {"level": "people (ties shared)", "colour": ORANGE, "marker": "diamond"},
        {"level": f"models of {subject.panel.head}", "colour": BLUE, "marker": "circle"},
    ]
    note = "Of all utterances, whatever is shown; with 95% intervals."
    return Chart("static", [plot], {"legend": legend, "note": note})


CHARTS: dict[str, Callable[[Subject], Chart | None]] = {
    "confidence": _confidence,
    "raters": _raters,
    "gates": _gates,
    "types": _types,
    "risk": _risk,
    "floor": _floor,
    "people": _people,
}
"""What makes each chart, by its name in the page."""
