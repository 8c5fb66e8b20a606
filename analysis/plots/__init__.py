"""Plots for papers and notebooks: each takes a table of an analysis and returns a matplotlib figure.

::

    from mixed_signals.analysis import analyze, plots

    analysis = analyze(store, "first")
    plots.types(analysis.table("typology"), head="gated")

A figure shows itself as the last line of a notebook's cell, is saved by ``figure.savefig("types.pdf")``, and holds what
it draws, tidy, as ``figure.data``. It is drawn with the user's own matplotlib settings: style sheets, style contexts
and ``rcParams`` hold, as does ``style=``; ``colours=`` names colours; ``width=`` is that of print, in inches; ``ax=``
or ``axes=`` draw into a figure of one's own. pyplot is never touched.

=================  ==============================  ====================================================================
plot               ``analysis.table(...)``         what it shows
=================  ==============================  ====================================================================
`confidence`       ``"utterances"``                each modality's model against the fusion
`raters`           ``"utterances"``                the models' disagreement beside the raters'
`gates`            ``"utterances"``                gate and contribution of each modality, by type
`reliability`      ``"utterances"``                how often a model is right, by how sure it is
`types`            ``"typology"``                  what the fusion made of its modalities, beside chance
`floor`            ``"rates"``                     disagreement beside what it has to exceed
`risk_coverage`    ``"risk_coverage"``             what abstaining gains
`dominance`        ``"dominance"``                 measures of how much each modality matters, side by side
`thresholds`       ``"thresholds"``                what counts as contested
`people`           ``"people"``                    people's accuracy by what they were shown, beside the models'
`gains`            ``"channels"``                  who gains and who loses when shown more
`seeds`            ``"seed_spread"``               what training again changes
=================  ==============================  ====================================================================
"""

from mixed_signals.analysis.plots.canvas import HOUSE, ONE_COLUMN, TWO_COLUMNS, Plot
from mixed_signals.analysis.plots.colours import FAMILY_COLOURS, OKABE_ITO
from mixed_signals.analysis.plots.curves import risk_coverage
from mixed_signals.analysis.plots.rates import IMPORTANCE, dominance, floor, seeds, thresholds, types
from mixed_signals.analysis.plots.utterances import confidence, gates, raters, reliability
from mixed_signals.analysis.plots.votes import gains, people

__all__ = [
    "FAMILY_COLOURS",
    "HOUSE",
    "IMPORTANCE",
    "OKABE_ITO",
    "ONE_COLUMN",
    "TWO_COLUMNS",
    "Plot",
    "confidence",
    "dominance",
    "floor",
    "gains",
    "gates",
    "people",
    "raters",
    "reliability",
    "risk_coverage",
    "seeds",
    "thresholds",
    "types",
]
