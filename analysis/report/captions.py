"""What the figures of one head show, in words: titles, sentences for who cannot see them, and captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from mixed_signals.analysis import plots
from mixed_signals.analysis.findings import percent, records, with_interval
from mixed_signals.analysis.panel import FUSION
from mixed_signals.analysis.plots.utterances import ALL
from mixed_signals.models.intervals import FEWEST_GROUPS
from mixed_signals.store.terminal import counted

if TYPE_CHECKING:
    from mixed_signals.analysis.analysis import Analysis
    from mixed_signals.analysis.study import Study

_MOST_SAID = 4


@dataclass(frozen=True)
class Drawn:
    """A figure and what is said of it (see `mixed_signals.analysis.report.pictures.Picture`)."""

    name: str
    title: str
    figure: plots.Plot
    alt: str
    caption: str


class Captions:
    """The figures of one head, and what is said of each.

    Parameters
    ----------
    analysis : Analysis
    study : Study
    head : str
    """

    def __init__(self, analysis: Analysis, study: Study, head: str) -> None:
        self.analysis, self.study, self.head = analysis, study, head
        self.utterances = self._rows("utterances")
        groups = set(self.utterances["group"].dropna()) - {""} if "group" in self.utterances else set()
        n_groups = len(groups) or len(self.utterances)
        self.unit = (
            f"take {'groups' if groups else 'utterances'} for the unit"
            if n_groups >= FEWEST_GROUPS
            else f"would need {FEWEST_GROUPS} groups, so there are none"
        )
        self.counts = f"n = {len(self.utterances):,} utterances" + (
            f" in {counted(len(groups), 'group')}." if groups else ", no groups."
        )
        self.interval = f"Lines are 95% intervals: they {self.unit}."

    def _rows(self, name: str) -> pd.DataFrame:
        table = self.analysis.table(name)
        return table[table["head"] == self.head] if "head" in table else table

    def all(self) -> Iterator[Drawn]:
        """Yield what there is."""
        makers: list[Callable[[], Drawn | None]] = [
            self._confidence, self._raters, self._gates, self._types, self._floor, self._risk, self._people,
            self._gains, self._dominance, self._reliability, self._thresholds, self._seeds,
        ]  # fmt: skip
        for make in makers:
            if (drawn := make()) is not None:
                yield drawn

    def _drawn(self, name: str, title: str, figure: Figure, alt: str, *caption: str) -> Drawn:
        return Drawn(name, title, _own(figure), alt, " ".join(filter(None, caption)))

    def _confidence(self) -> Drawn | None:
        of_classes = f"p_true_{FUSION}" in self.utterances
        prefix = "p_true_" if of_classes else "y_"
        if f"{prefix}{FUSION}" not in self.utterances:
            return None
        fusion = self.utterances[f"{prefix}{FUSION}"]
        said = "; ".join(
            f"{m} {self.utterances[f'{prefix}{m}'].corr(fusion):.2f}"
            for m in self.analysis.modalities[self.head]
        )
        what = "the probability of the true label" if of_classes else "the value"
        return self._drawn(
            "confidence",
            "Each modality against the fusion" if not of_classes else "Confidence in the truth",
            plots.confidence(self.utterances),
            f"Scatter plots of {what}, one a modality against the fusion. Correlations: {said}.",
            f"A point is an utterance: {what} by a modality's own model and by the fusion.",
            "Above the line the fusion is surer of the truth"
            + ("; crosses are utterances that it gets wrong." if "family" in self.utterances else ".")
            if of_classes
            else "On the line both say the same.",
            self.counts,
        )

    def _raters(self) -> Drawn | None:
        x, y = ("jsd", "vote_entropy") if "jsd" in self.utterances else ("spread", "variance")
        if not {x, y} <= set(self.utterances):
            return None
        rated = self.utterances[self.utterances[y].notna() & self.utterances[x].notna()]
        if rated.empty:
            return None
        figure = _own(plots.raters(self.utterances))
        fifths = records(figure.data[figure.data["what"] != "utterance"])
        unit = " bits" if x == "jsd" else ""
        what = "vote entropy" if x == "jsd" else "variance of the ratings"
        return self._drawn(
            "raters",
            "Models beside raters",
            figure,
            f"Scatter plot of {len(rated):,} rated utterances. Mean {what}: {with_interval(fifths[0])}{unit} in the "
            f"fifth where the modalities disagree least, {with_interval(fifths[-1])}{unit} where they disagree most.",
            "Disagreement of the modalities' models beside that of the people who rated; diamonds are means of fifths "
            "in the order of the models' disagreement.",
            self.interval,
            f"n = {len(rated):,} rated utterances.",
        )

    def _gates(self) -> Drawn | None:
        gated = [name for name in self.utterances if str(name).startswith("gate_")]
        if "family" not in self.utterances or not self.utterances[gated].notna().any(axis=None):
            return None
        figure = _own(plots.gates(self.utterances))
        every = figure.data[(figure.data["family"] == ALL) & (figure.data["quantity"] == "gate")]
        said = "; ".join(f"{row['modality']} {with_interval(row)}" for row in records(every))
        return self._drawn(
            "gates",
            "Gates by type",
            figure,
            f"Mean gate and mean contribution of each modality, by type. Gates of all utterances: {said}.",
            "The weight that the fusion gives each modality (its gate), and what the modality adds for the label that "
            "the fusion gives (its contribution), by what the fusion made of them. A gate says what is let in, not "
            "what decides.",
            self.interval,
            self.counts,
        )

    def _types(self) -> Drawn | None:
        rows = self._rows("typology")
        if rows.empty:
            return None
        largest = sorted(records(rows), key=lambda row: -row["estimate"])[:_MOST_SAID]
        said = "; ".join(
            f"{row['type']} {with_interval(row, '%')}, by chance {percent(row['chance'])}" for row in largest
        )
        return self._drawn(
            "types",
            "What the fusion makes of its modalities",
            plots.types(rows),
            f"Share of each type of utterance. The most frequent: {said}.",
            "Points are shares of all utterances, diamonds what they would be if all models were independent given "
            "the true label. Types that do not occur, and would hardly by chance, are left out.",
            self.interval,
            self.counts,
        )

    def _floor(self) -> Drawn | None:
        rows = self._rows("rates")
        if rows.empty:
            return None
        measure = rows["measure"].iloc[0]
        mine = rows[(rows["measure"] == measure) & (rows["second"] == FUSION)]
        measured = mine[(mine["quantity"] == "excess") & mine["estimate"].notna()]
        of_labels = measure == "label"
        shown = mine[mine["quantity"] == "rate"] if measured.empty else measured
        unit = "" if not of_labels else "%" if measured.empty else "points"
        said = "; ".join(f"{row['first']} {with_interval(row, unit)}" for row in records(shown))
        bags = (mine["quantity"] == "floor") & (mine["repeats"] == "bags")
        again = "training groups drawn again" if bags.any() else "another seed"
        return self._drawn(
            "floor",
            "Disagreement beside its floor",
            plots.floor(rows),
            "Disagreement rates of pairs of models"
            + (
                f". With the fusion: {said}."
                if measured.empty
                else f" and their floor. With the fusion, beyond it: {said}."
            ),
            "How often two models give different labels."
            if of_labels
            else "How far two models' outputs lie apart.",
            f"The floor is how much one model differs from itself, trained with {again}; only what is beyond it, "
            "on the right, says anything of modalities."
            if not measured.empty
            else "No floor was measured; chance is what independent models with the same mistakes would do.",
            f"Lines are 95% intervals: they {self.unit}"
            + ("." if measured.empty else "; those beyond the floor take trainings into account, too."),
            self.counts,
        )

    def _risk(self) -> Drawn | None:
        rows = self._rows("risk_coverage")
        if rows.empty:
            return None
        areas = self._rows("selective")
        said = ""
        if not areas.empty:
            areas = areas[
                (areas["loss"] == areas["loss"].iloc[0])
                & (areas["measure"] == "AURC")
                & (areas["against"] == "")
            ]
            said = " Area under the curve (AURC, lower is better): " + "; ".join(
                f"{row['score']} {with_interval(row, digits=3)}" for row in records(areas)
            ) + "."  # fmt: skip
        return self._drawn(
            "risk",
            "What abstaining gains",
            plots.risk_coverage(rows),
            f"Risk-coverage curves of the fusion, one for each score to abstain by.{said}",
            "Errors among the utterances that are kept, when those that a score doubts most are left out. The oracle "
            "knows the errors; a random order gains nothing. At the left few utterances decide.",
            f"Intervals of areas {self.unit}." if said else "",
            self.counts,
        )

    def _people(self) -> Drawn | None:
        rows = self.analysis.table("people")
        if rows.empty:
            return None
        metrics = self.study.run.metrics
        models = metrics[(metrics["head"] == self.head) & (metrics["metric"] == "accuracy")]
        first = rows[rows["tie_rule"] == rows["tie_rule"].iloc[0]]
        said = "; ".join(f"people shown {row['channel']} {with_interval(row, '%')}" for row in records(first))
        fused = records(models)[-1:]
        said += "".join(f"; model of {row['modalities']} {with_interval(row, '%')}" for row in fused)
        return self._drawn(
            "people",
            "People beside models",
            plots.people(rows, models=models if fused else None),
            f"How often the label was given: {said}.",
            "How often people give the label, by what they were shown and by what counts as their answer, and how "
            "often the models do.",
            f"Lines are 95% intervals over groups of utterances, with the raters as they are; they {self.unit}.",
            f"People: {int(first['votes'].sum()):,} votes on {int(first['n'].max()):,} utterances.",
        )

    def _gains(self) -> Drawn | None:
        rows = self.analysis.table("channels")
        if rows.empty or not (rows["votes"] == "halves").any():
            return None
        figure = _own(plots.gains(rows))
        nets = figure.data[figure.data["quantity"] == "net"]
        said = "; ".join(
            f"{row['first']} to {row['second']} {with_interval(row, 'points')}" for row in records(nets)
        )
        return self._drawn(
            "gains",
            "Who gains from more",
            figure,
            f"Utterances that people gain and lose when they are shown more, beside vote noise. Net gain: {said}.",
            "Filled: utterances that halves of the votes get right in one channel and not in the other. Hollow: what "
            "two halves of one channel lose against each other, which is vote noise. On the right what is beyond it.",
            f"Lines are 95% intervals over groups of utterances, with the raters as they are; they {self.unit}.",
            f"n = {int(figure.data['n'].max()):,} utterances.",
        )

    def _dominance(self) -> Drawn | None:
        rows = self._rows("dominance")
        if rows.empty or not rows["measure"].isin(plots.IMPORTANCE).any():
            return None
        figure = _own(plots.dominance(rows))
        first = figure.data["measure"].isin(
            [m for m in plots.IMPORTANCE if (figure.data["measure"] == m).any()]
        )
        likeliest = figure.data[first].sort_values("estimate", ascending=False).drop_duplicates("measure")
        said = "; ".join(
            f"{row['measure']} {row['modality']} {with_interval(row)}" for row in records(likeliest)
        )
        return self._drawn(
            "dominance",
            "How much each modality matters",
            figure,
            f"Measures of importance side by side. The highest modality of each: {said}.",
            "No single measure says how much a modality matters: a gate weighs features that may carry nothing. Where "
            "the measures order the modalities alike, more can be said.",
            self.interval,
            self.counts,
        )

    def _reliability(self) -> Drawn | None:
        if f"p_label_{FUSION}" not in self.utterances:
            return None
        over = self._rows("calibration")
        said = ""
        if not over.empty:
            over = over[(over["quantity"] == "overconfidence") & (over["model"] == FUSION)]
            said = "".join(
                f" The fusion's overconfidence: {with_interval(row, 'points')}." for row in records(over)
            )
        return self._drawn(
            "reliability",
            "Whether confidence is kept",
            plots.reliability(self.utterances),
            f"Share of right labels by the probability of the label, one panel a model.{said}",
            "On the line a model is right as often as it says; below, it claims too much. A point is about an "
            "eighth of the utterances.",
            self.interval,
            self.counts,
        )

    def _thresholds(self) -> Drawn | None:
        rows = self._rows("thresholds")
        if rows.empty or not rows["estimate"].notna().any():
            return None
        shares = rows[rows["quantity"] == "share"]
        said = "; ".join(f"{row['threshold']:.0%}: {with_interval(row, '%')}" for row in records(shares))
        return self._drawn(
            "thresholds",
            "What counts as contested",
            plots.thresholds(rows),
            f"Share of contested utterances by the share of votes that no value may exceed. {said}.",
            "Where the line is drawn is a choice: on the left how many utterances are contested, on the right how "
            "well the models' divergence finds them (AUROC; 0.5 is chance).",
            self.interval,
            self.counts,
        )

    def _seeds(self) -> Drawn | None:
        rows = self.analysis.table("seed_spread")
        if rows.empty or not (mine := rows["model"].astype(str).str.startswith(f"{self.head}:")).any():
            return None
        rows = rows[mine]
        first = rows[rows["metric"] == rows["metric"].iloc[0]]
        widest = records(first.sort_values("sd"))[-1]
        return self._drawn(
            "seeds",
            "What training again changes",
            plots.seeds(rows, head=self.head),
            f"Means and standard deviations over seeds by model. The widest in {widest['metric']}: {widest['model']}, "
            f"{widest['mean']:.3f} ± {widest['sd']:.3f}.",
            f"Each model's scores over {counted(int(rows['n_seeds'].max()), 'training')} with other seeds or orders of "
            "the rows. Lines are one standard deviation either way, and no intervals: they say what training again "
            "changes, not what other utterances would.",
            self.counts,
        )


def _own(figure: Figure) -> plots.Plot:
    """Return a figure as the plot that it is where no axes were given."""
    assert isinstance(figure, plots.Plot)  # noqa: S101
    return figure
