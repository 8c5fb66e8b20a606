"""Parts of interactive charts: panels, sources that wait to be filled, brushes, and how a chart becomes JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from bokeh.document import Document
from bokeh.models import (
    BoxAnnotation,
    BoxSelectTool,
    BoxZoomTool,
    ColorBar,
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    LogColorMapper,
    Range1d,
    ResetTool,
)
from bokeh.plotting import figure

from mixed_signals.analysis.plots.colours import OKABE_ITO

CELLS = (64, 48)
"""Of a density: across and up."""
BLUE, ORANGE = OKABE_ITO[0], OKABE_ITO[4]
PLAIN, FAINT = "#777777", 0.18
"""Colour and opacity of what is not shown."""
HEIGHT, ROW, AROUND = 290, 22, 90
"""Pixels: of a panel, of each row of one that has rows, and of all around these."""


@dataclass(frozen=True)
class Chart:
    """A chart: its panels, and what the script is told of it.

    Attributes
    ----------
    kind : str
        What the script does with it: ``scatter``, ``gates``, ``types``, ``risk``, ``floor`` or ``static``.
    plots : list of figure
    about : dict
        Of JSON values.
    """

    kind: str
    plots: list[figure]
    about: dict[str, Any]


def exported(name: str, chart: Chart) -> dict[str, Any]:
    """Return a chart as JSON whose ids are numbered from 1 on, so that they do not depend on what was made before."""
    document = Document(title="")
    for plot in chart.plots:
        document.add_root(plot)
    numbers: dict[str, str] = {}
    doc = _renumbered(json.loads(json.dumps(document.to_json(deferred=False))), f"{name}-", numbers)
    plots = [numbers[plot.id] for plot in chart.plots]
    return {"kind": chart.kind, "doc": doc, "plots": plots, **chart.about}


def _renumbered(value: Any, prefix: str, numbers: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: numbers.setdefault(part, f"{prefix}{len(numbers) + 1}")
            if key == "id"
            else _renumbered(part, prefix, numbers)
            for key, part in value.items()
        }
    if isinstance(value, list):
        return [_renumbered(part, prefix, numbers) for part in value]
    return value


def new_plot(
    i: int, x: str, y: str, *, height: int = HEIGHT, hover: HoverTool | None = None, **ranges: Any
) -> figure:
    """Return an empty panel with words on its axes and a small toolbar (none where there is nothing to zoom)."""
    tools = [BoxZoomTool(), ResetTool(), *([hover] if hover else [])]
    plot = figure(
        name=f"plot-{i}",
        sizing_mode="stretch_width",
        height=height,
        min_width=200,
        tools=tools,
        x_axis_label=x,
        y_axis_label=y,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        min_border_right=8,
        **ranges,
    )
    plot.toolbar.logo = None
    plot.toolbar.active_drag = None
    plot.axis.minor_tick_line_color = None
    plot.axis.axis_label_text_font_style = "normal"
    return plot


def put_rows(plot: figure, labels: Sequence[str]) -> None:
    """Put words on the y axis, from the top down, at 0, 1, 2, ..."""
    plot.y_range = Range1d(len(labels) - 0.5, -0.5)
    plot.yaxis.ticker = FixedTicker(ticks=list(range(len(labels))))
    plot.yaxis.major_label_overrides = dict(enumerate(labels))
    plot.ygrid.visible = False


def height_of(rows: int, each: int = ROW) -> int:
    """Return the height of a panel with so many rows, in pixels."""
    return AROUND + each * rows


def empty_source(name: str, columns: Sequence[str]) -> ColumnDataSource:
    """Return a source without rows, which the script finds by its name."""
    return ColumnDataSource({column: [] for column in columns}, name=name)


def _image_source(name: str) -> ColumnDataSource:
    """Return a source of one image, empty but of the type that the script puts there."""
    return ColumnDataSource({"image": [np.full((1, 1), np.nan, dtype=np.float32)]}, name=name)


def limits_of(values: pd.DataFrame) -> tuple[float, float]:
    """Return the limits of an axis that shows all values."""
    numbers = values.to_numpy(float)
    low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
    around = 0.03 * ((high - low) or 1.0)
    return low - around, high + around


def axis_of(column: str, label: str, limits: tuple[float, float]) -> dict[str, Any]:
    """Return what the script is told of an axis of a scatter."""
    return {"column": column, "label": label, "low": limits[0], "high": limits[1]}


def scatter(panels: list[dict[str, Any]], about: dict[str, Any], *, dense: bool) -> Chart:
    """Return panels of points, or of counts by cell, with a box selection, a rectangle that stays, and a ring."""
    columns = [f"{axis}{i}" for i in range(len(panels)) for axis in "xy"]
    shown = empty_source("shown", [*columns, "row", "id", "type", "colour", "marker"])
    rest, ring = empty_source("rest", columns), empty_source("ring", columns)
    cells = LogColorMapper(palette=["#888888"], low=1, high=2, nan_color="rgba(0, 0, 0, 0)", name="cells")
    faint = LogColorMapper(palette=[PLAIN], low=1, high=2, nan_color="rgba(0, 0, 0, 0)")
    plots = []
    for i, axes in enumerate(panels):
        x, y = axes["x"], axes["y"]
        ranges = {f"{n}_range": Range1d(axis["low"], axis["high"]) for n, axis in (("x", x), ("y", y))}
        hover = HoverTool(visible=False)
        plot = new_plot(i, x["label"], y["label"], hover=hover, **ranges)
        if dense:
            plot.height = HEIGHT + 50
            where = {"x": x["low"], "y": y["low"], "dw": x["high"] - x["low"], "dh": y["high"] - y["low"]}
            behind, front = (_image_source(f"{name}-{i}") for name in ("faint", "density"))
            plot.image("image", **where, source=behind, color_mapper=faint, global_alpha=FAINT)
            drawn = plot.image("image", **where, source=front, color_mapper=cells)
            hover.tooltips = [("utterances in the cell", "@image")]
            bar = ColorBar(
                color_mapper=cells,
                title="utterances in a cell",
                height=8,
                padding=4,
                background_fill_color=None,
            )
            plot.add_layout(bar, "below")
        else:
            at = {"x": f"x{i}", "y": f"y{i}"}
            plot.scatter(**at, source=rest, size=5, color=PLAIN, alpha=FAINT, line_color=None)
            look: dict[str, Any] = (
                {"color": "colour", "marker": "marker"} if "by" in about else {"color": BLUE}
            )
            drawn = plot.scatter(**at, source=shown, size=7, alpha=0.65, line_width=1.3, **look)
            hover.tooltips = [
                ("utterance", "@id"),
                (x["label"].split(",")[0], f"@x{i}{{0.000}}"),
                (y["label"].split(",")[0], f"@y{i}{{0.000}}"),
                *([("type", "@type")] if "by" in about else []),
            ]
        hover.renderers = [drawn]
        hover.limit = 4
        plot.scatter(
            f"x{i}",
            f"y{i}",
            source=ring,
            size=15,
            marker="circle",
            fill_color=None,
            line_width=2.5,
            tags=["ink"],
        )
        brush = BoxSelectTool(renderers=[], overlay=_box("dragged", i, dashed=True))
        plot.add_tools(brush)
        plot.toolbar.active_drag = brush
        plot.add_layout(_box("brush", i))
        plots.append(plot)
    return Chart("scatter", plots, {"panels": panels, "dense": dense, "cells": list(CELLS), **about})


def _box(name: str, i: int, *, dashed: bool = False) -> BoxAnnotation:
    nothing = dict.fromkeys(("left", "right", "top", "bottom"), float("nan")) if dashed else {}
    return BoxAnnotation(
        **nothing,
        name=f"{name}-{i}",
        visible=False,
        level="overlay",
        fill_color=PLAIN,
        fill_alpha=0.12,
        line_alpha=0.9,
        line_dash=[4, 4] if dashed else [],
        line_width=1.5,
        tags=["ink"],
    )


def draw_estimates(
    plot: figure, table: pd.DataFrame, keys: Sequence[Any], what: str, *, marker: str, down: float = 0.0
) -> None:
    """Draw estimates of all utterances with their intervals, one row for each key."""
    colour = PLAIN if marker == "square" else BLUE if marker == "circle" else ORANGE
    by = table[table["estimate"].notna()].set_index(["first", "second"] if "first" in table else "modalities")
    at = [i for i, key in enumerate(keys) if key in by.index]
    mine = by.loc[[keys[i] for i in at]]
    data = {
        "y": [i + down for i in at],
        "value": mine["estimate"].tolist(),
        "low": mine["low"].fillna(mine["estimate"]).tolist(),
        "high": mine["high"].fillna(mine["estimate"]).tolist(),
        "what": [what] * len(at),
    }
    source = ColumnDataSource(data)
    plot.segment("low", "y", "high", "y", source=source, line_width=2, line_color=colour)
    plot.scatter("value", "y", source=source, marker=marker, size=8, color=colour)
