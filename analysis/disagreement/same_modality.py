"""Models of the same modality beside each other: only disagreement above theirs is called modality disagreement.

Where the run had several feature sets of a modality (several encoders), a model is fitted to each of them by itself;
else two are, to disjoint halves of its features. Both on the run's folds and with its seeds. Halves know less than the
whole, and so disagree more than two whole feature sets would: that comparison is on the safe side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from mixed_signals.analysis.disagreement.distances import Values, distances
from mixed_signals.analysis.disagreement.floors import Pair, Repeated, aligned, lined_up, recipe
from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.analysis.study import Study
from mixed_signals.store.errors import UsageError

FEATURE_SETS, HALVES = "feature sets", "halves"


@dataclass(frozen=True)
class SameModality:
    """Models of one modality each, or why there are none.

    Attributes
    ----------
    panel : Panel or None
        Of all these models; what it has for a fusion means nothing.
    models : mapping of modality to tuple of str
        The panel's models of each modality that has some.
    sets : mapping of modality to tuple of str
        The feature sets that these models were fitted to, where a modality has several.
    why : str
        Why there are none, or none of some modality.
    """

    panel: Panel | None = None
    models: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    why: str = ""

    def of(self, pair: Pair) -> Repeated:
        """Return what the models of a pair's modalities were fitted to."""
        kinds = {FEATURE_SETS if m in self.sets else HALVES for m in pair if m in self.models}
        return Repeated(self.panel, " and ".join(sorted(kinds)), self.why)

    def named(self, pair: Pair) -> str:
        """Return the feature sets that the models of a pair's modalities were fitted to, as words."""
        return ", ".join(f"{m} from {' and from '.join(self.sets[m])}" for m in pair if m in self.sets)

    def values(self, panel: Panel) -> dict[tuple[str, str], Values]:
        """Return the distance of the models of each modality, by distance and modality, for a panel's utterances (N,).

        Of more than two models it is the mean over pairs. Each model's outputs are averaged over seeds, as those of the
        rates are that they stand beside.
        """
        if self.panel is None:
            return {}
        found = {}
        for distance in distances(self.panel):
            for modality, models in self.models.items():
                views = [distance.view(self.panel.seed_mean(model)) for model in models]
                every = [distance.between(a, b).mean(axis=0) for a, b in combinations(views, 2)]
                found[distance.name, modality] = aligned(np.mean(every, axis=0), self.panel, panel)
        return found


def alike(values: Mapping[tuple[str, str], Values], distance: str, pair: Pair) -> Values | None:
    """Return what two models of one modality are apart, shape (N,), mean of a pair's modalities; None if one has none.

    Parameters
    ----------
    values : mapping of (distance, modality) to array of shape (N,)
        From `SameModality.values`.
    distance : str
    pair : (model, model)
    """
    of_each = [values[distance, m] for m in pair if (distance, m) in values]
    return np.asarray(np.mean(of_each, axis=0)) if len(of_each) == len({*pair} - {FUSION}) else None


def same_modality(study: Study, panel: Panel) -> SameModality:
    """Return two models or more of each modality, fitted for this.

    A modality of one feature set with a single column is left out, and `why` names it.
    """
    what = (
        "the disagreement of two models of one modality, above which alone modality disagreement is claimed,"
    )
    if not study.refit:
        return SameModality(why=f"{what} takes heads trained again, which was turned off")
    from mixed_signals.models.refits import by_feature_set, halved

    seeds = sorted({seed for seed, _ in panel.seeds})
    tables, sets, whys = [], {}, []
    for modality in panel.unimodals:
        given: dict[str, Any] = {**recipe(study), "seeds": seeds}
        try:
            own = feature_sets(study, modality)
            if len(own) > 1:
                tables.append(by_feature_set(study.views, panel.head, [modality], study.folds, **given))
                sets[modality] = own
            else:
                given |= {"views_by_fold": study.views_by_fold, "seed": study.seed}
                tables.append(halved(study.views, panel.head, [modality], study.folds, **given))
        except UsageError as error:
            whys.append(str(error))
    why = f"{what} could not be measured: {'; '.join(dict.fromkeys(whys))}" if whys else ""
    if not tables:
        return SameModality(why=why)
    fitted = pd.concat(tables, ignore_index=True)
    names = list(dict.fromkeys(fitted["modalities"]))
    models = {m: tuple(n for n in names if n.partition(".")[0] == m) for m in panel.unimodals}
    stand_in = fitted[fitted["modalities"] == names[0]].assign(
        modalities="+".join(names)
    )  # a panel has a fusion
    lined = lined_up(pd.concat([fitted, stand_in], ignore_index=True), panel)
    return SameModality(lined, {m: some for m, some in models.items() if some}, sets, why)


def feature_sets(study: Study, modality: str) -> tuple[str, ...]:
    """Return the names of a modality's feature sets among which a fold of the run could choose."""
    views = study.views[:1] if study.views_by_fold else study.views
    return tuple(dict.fromkeys(each.features[modality]["name"] for each in views))
