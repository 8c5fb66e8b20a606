"""The figures of one head as files, with what they show in words: SVG, PNG, and the data behind each as CSV.

The names of figures are those of `mixed_signals.analysis.plots`, but for ``risk`` (`risk_coverage`). Files are the same
bytes each time, whatever the user's settings of matplotlib. Numbers in CSV files have six significant digits.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG

from mixed_signals.analysis import plots
from mixed_signals.analysis.report.captions import Captions
from mixed_signals.store.files import replacing

if TYPE_CHECKING:
    from mixed_signals.analysis.analysis import Analysis
    from mixed_signals.analysis.study import Study

_AS_FILES: Any = {"svg.fonttype": "none", "svg.hashsalt": "mixed-signals"}
_DPI, _PAGE_DPI = 200, 96
_LONGEST_SLUG = 40


@dataclass(frozen=True)
class Picture:
    """A figure of one head.

    Attributes
    ----------
    name : str
        Which figure: ``confidence``, ``raters``, ...
    stem : str
        Of its files: ``<stem>.svg``, ``<stem>.png`` and ``<stem>.csv``.
    title : str
        A few words.
    alt : str
        What is to be seen, with the main numbers.
    caption : str
        How to read it, what intervals mean, and of how many utterances and groups it is.
    width, height : int
        In pixels of a page, so that a page keeps its place free until it is there.
    """

    name: str
    stem: str
    title: str
    alt: str
    caption: str
    width: int
    height: int


def pictures(analysis: Analysis, study: Study, head: str, folder: Path) -> list[Picture]:
    """Draw every figure that the analysis has data for, and write its files.

    Parameters
    ----------
    analysis : Analysis
    study : Study
        What was analysed.
    head : str
    folder : Path
        Is made if it is not there.

    Returns
    -------
    list of Picture
        In the order in which a page shows them.
    """
    found = []
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_AS_FILES)
        for drawn in Captions(analysis, study, head).all():
            stem = f"{slug(head)}-{drawn.name}"
            for file, content in files(drawn.figure, stem).items():
                with replacing(folder / file) as temporary:
                    temporary.write_bytes(content)
            width, height = (round(_PAGE_DPI * inches) for inches in drawn.figure.get_size_inches())
            found.append(Picture(drawn.name, stem, drawn.title, drawn.alt, drawn.caption, width, height))
    return found


def slug(head: str) -> str:
    """Return a head's name as the beginning of file names; what had to be changed gets a mark of its own.

    Examples
    --------
    >>> slug("gated"), slug("../Gated")
    ('gated', 'gated-7c37e3')
    """
    safe = re.sub(r"[^a-z0-9_]+", "-", head.lower()).strip("-")[:_LONGEST_SLUG]
    if safe and safe == head:
        return safe
    mark = hashlib.sha256(head.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{safe}-{mark}".strip("-")


def files(figure: plots.Plot, stem: str) -> dict[str, bytes]:
    """Return a figure and its data as files by name."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from"
        )  # shown as a box in PNG, right in SVG
        if (layout := figure.get_layout_engine()) is not None:
            layout.execute(figure)
            figure.set_layout_engine("none")  # once is enough
        figure.dpi = _DPI
        vector, pixels = io.BytesIO(), io.BytesIO()
        FigureCanvasAgg(figure).print_png(pixels, metadata={"Software": None})
        FigureCanvasSVG(figure).print_svg(
            vector, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    found = {f"{stem}.svg": vector.getvalue(), f"{stem}.png": pixels.getvalue()}
    text = figure.data.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    found[f"{stem}.csv"] = text.encode("utf-8", "replace")
    return found
