"""What all plots share: a figure that shows itself, the style of the house, and text that cannot break it.

A plot draws with matplotlib's own settings, so that a style sheet, a style context or ``rcParams`` of the user hold.
Where the user left a setting as matplotlib has it, that of `HOUSE` stands in. pyplot is not used.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import matplotlib as mpl
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context as style_context

from mixed_signals.analysis.panel import FUSION
from mixed_signals.analysis.plots.colours import OKABE_ITO
from mixed_signals.store.errors import UsageError

ONE_COLUMN, TWO_COLUMNS = 3.35, 6.9
"""Widths for print, inches."""

HOUSE: dict[Any, Any] = {
    "axes.prop_cycle": cycler(color=OKABE_ITO),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "font.size": 9.0,
    "legend.frameon": False,
    "lines.markersize": 5.0,
}
"""Settings that stand in where the user has matplotlib's defaults."""

MODALITIES = ("text", "audio", "video")
QUIET = "0.55"  # of what is only there to compare with
EM = 0.07  # inches that a character takes, about
_SHARPNESS = 2  # pixels of a shown picture for each of its points on the screen
_UNDRAWABLE = {"Cc", "Cs", "Zl", "Zp"}  # control characters, lone surrogates, separators of lines
_TURNING = {*map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F)), "\ufffe", "\uffff"}

Style = Any  # what `matplotlib.style.context` takes: a str, Path or dict, or a list of them; or None
Colours = Mapping[str, str] | None


class Plot(Figure):
    """A figure that knows what it draws, and shows itself in a notebook that never heard of pyplot.

    Attributes
    ----------
    data : DataFrame
        What is drawn, tidy.
    """

    def __init__(self, data: pd.DataFrame, **options: Any) -> None:
        super().__init__(**options)
        self.data = data

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return the picture, and its size on the screen."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=_SHARPNESS * self.dpi)
        width, height = (round(inches * self.dpi) for inches in self.get_size_inches())
        return buffer.getvalue(), {"width": width, "height": height}


@contextmanager
def canvas(
    data: pd.DataFrame,
    panels: Sequence[str],
    height: float,
    *,
    width: float,
    across: int | None = None,
    axes: Axes | Sequence[Axes] | None = None,
    style: Style = None,
    **options: Any,
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure and its axes, one for each panel, while the settings to draw with hold.

    Parameters
    ----------
    data : DataFrame
        What will be drawn.
    panels : sequence of str
        What each shows.
    height : float
        Of a row of panels, inches.
    width : float
        Of the figure, inches.
    across : int, optional
        Panels in a row; all by default.
    axes : Axes or sequence of Axes, optional
        To draw into, instead of a figure of one's own.
    style : str, mapping or sequence of them, optional
        As for ``matplotlib.style.context``.
    options
        As for ``Figure.subplots``.

    Raises
    ------
    UsageError
        If there are not as many axes as panels, or there is no such style.
    """
    with ExitStack() as stack:
        if style is not None:
            try:
                stack.enter_context(style_context(style))
            except OSError as error:
                raise UsageError(
                    f"style={style!r}: matplotlib knows no such style, and there is no such file"
                ) from error
        default: Any = mpl.rcParamsDefault
        house = {key: value for key, value in HOUSE.items() if mpl.rcParams[key] == default[key]}
        stack.enter_context(mpl.rc_context({**house, "text.parse_math": False}))
        if axes is not None:
            given = [axes] if isinstance(axes, Axes) else list(axes)
            if len(given) != len(panels):
                raise UsageError(f"axes=: {len(given)} given, {len(panels)} are needed: {', '.join(panels)}")
            figure = given[0].get_figure(root=True)
            assert isinstance(figure, Figure)  # noqa: S101  # axes always are in one
            yield figure, given
            return
        across = min(across or len(panels), len(panels))
        down = -(-len(panels) // across)
        plot = Plot(data, figsize=(width, height * down), layout="constrained")
        made = list(plot.subplots(down, across, squeeze=False, **options).flat)
        for ax in made[len(panels) :]:
            ax.remove()
        yield plot, made[: len(panels)]


def legend(figure: Figure, axes: Sequence[Axes], columns: int = 4) -> None:
    """Put one legend for all axes below a plot, or, in a figure of somebody else, into its last axes."""
    found = {
        label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    if isinstance(figure, Plot):
        longest = EM * max(map(len, found)) + 0.5
        columns = min(columns, len(found), max(1, int(figure.get_size_inches()[0] / longest)))
        made = figure.legend(
            list(found.values()), list(found), loc="outside lower center", ncols=columns, fontsize="small"
        )
    else:
        made = axes[-1].legend(list(found.values()), list(found), fontsize="small")
    for handle in made.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)


def plain_text(text: object) -> str:
    """Return a name as one line of what can be drawn: nothing that ends lines, turns text round or is no character."""
    kept = ("" if c in _TURNING else " " if unicodedata.category(c) in _UNDRAWABLE else c for c in str(text))
    return " ".join("".join(kept).split())


def label(text: object, most: int = 26) -> str:
    """Return a name in at most so many places (a wide character takes two), cut where it is longer."""
    name, taken = plain_text(text), 0
    for i, character in enumerate(name):
        taken += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if taken > most:
            return name[: max(1, i - 1)] + "…"
    return name


def colour_of(names: Sequence[str], colours: Colours = None) -> dict[str, Any]:
    """Return a colour for each name: modalities have theirs, the fusion that of words, others follow the cycle."""
    cycle = mpl.rcParams["axes.prop_cycle"].by_key().get("color", list(OKABE_ITO))  # of any length
    fixed = MODALITIES if set(MODALITIES) & set(names) else ()
    others = [name for name in names if name not in (*fixed, FUSION)]
    found = {name: cycle[i % len(cycle)] for i, name in enumerate((*fixed, *others))}
    found[FUSION] = mpl.rcParams["text.color"]
    return {name: (colours or {}).get(name, found[name]) for name in names}


def marker_of(names: Sequence[str]) -> dict[str, str]:
    """Return a mark for each name, so that colour is not all that tells them apart."""
    fixed = {"text": "o", "audio": "s", "video": "^", FUSION: "D"}
    others = [name for name in names if name not in fixed]
    return {**fixed, **{name: "vP*X<>p"[i % 7] for i, name in enumerate(others)}}
