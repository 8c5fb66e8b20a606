"""What disagreement has to exceed before it says anything of modalities: training again.

Conventions
-----------
``between``, ``floor`` and ``excess`` of two models ``m`` and ``F`` in several trainings are those of
`analysis.disagreement.trainings`. The expectation of the excess is zero, whatever the distance, where the trainings of
the two are exchangeable: where they differ by their seeds alone. All the distances used are of negative type, so that
the expectation is never below zero, and the estimate is unbiased for:

=====================  ================================================================================================
label                  ``1/2 sum_c (P(m = c) - P(F = c))^2``, probabilities over seeds
jsd                    the squared distance of the two mean points, where the divergence is a squared distance in a
                       Hilbert space (Fuglede and Topsoe 2004)
margin, p_true,        the integral of ``(P(m <= x) - P(F <= x))^2``: half of the energy distance (Szekely and Rizzo
difference             2013)
=====================  ================================================================================================

So excess is about what changes from model to model, not how far apart they are: two sure models that differ have all of
their disagreement as excess, two unsure ones that differ little have little.

*Trainings* are the run's seeds, at least `FEWEST_SEEDS`. A head whose result does not depend on a seed has no seed
noise: its trainings are *bags*, each fitted to as many groups as there were, drawn from the training groups with
replacement (the *resampling floor*: what other training groups would change). Its ``between`` and ``excess`` are of
bags as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixed_signals.analysis.disagreement.distances import Distance, Values, distances
from mixed_signals.analysis.disagreement.trainings import Excess, excesses
from mixed_signals.analysis.panel import Panel, make_panels
from mixed_signals.analysis.study import Study, group_column
from mixed_signals.store.errors import UsageError
from mixed_signals.store.terminal import counted

FEWEST_SEEDS = 5
N_BAGS = 5

Pair = tuple[str, str]
Excesses = Mapping[tuple[str, Pair], Excess]
"""By distance and pair."""


@dataclass(frozen=True)
class Repeated:
    """A panel of models trained again, or why there is none.

    Attributes
    ----------
    panel : Panel or None
    kind : str
        What it holds: ``"seeds"`` or ``"bags"``, or what models of one modality differ by (see
        `analysis.disagreement.same_modality`); empty where there is none.
    why : str
        Why there is none.
    """

    panel: Panel | None = None
    kind: str = ""
    why: str = ""


def floor_values(panel: Panel, distance: Distance, pairs: Iterable[Pair]) -> dict[Pair, Excess]:
    """Return what lies between pairs of models beyond their trainings.

    Parameters
    ----------
    panel : Panel
        At least two trainings.
    distance : Distance
        Of this panel.
    pairs : iterable of (model, model)
    """
    pairs = list(pairs)
    views = {model: distance.view(panel.outputs[model]) for pair in pairs for model in pair}
    return excesses(distance, views, pairs, panel.seeds)


def repeated_panel(study: Study, panel: Panel) -> Repeated:
    """Return a head in several trainings: its seeds, or fits to resampled groups where it depends on no seed."""
    if depends_on_seed(panel):
        if len(panel.seeds) >= FEWEST_SEEDS:
            return Repeated(panel, "seeds")
        had = counted(len(panel.seeds), "seed")
        why = f"the seed floor needs at least {FEWEST_SEEDS} seeds, this run has {had} (fit-heads --seeds 5)"
        return Repeated(why=why)
    what = "the resampling floor, of a head that depends on no seed,"
    if not study.refit:
        return Repeated(why=f"{what} takes heads trained again, which was turned off")
    from mixed_signals.models.refits import bagged

    subsets = [*((m,) for m in panel.unimodals), panel.unimodals]
    try:
        given = {**recipe(study), "views_by_fold": study.views_by_fold, "n_bags": N_BAGS, "seed": study.seed}
        predictions = bagged(study.views, panel.head, subsets, study.folds, **given)
    except UsageError as error:
        return Repeated(why=f"{what} could not be measured: {error}")
    return Repeated(lined_up(predictions, panel), "bags")


def excess_values(repeated: Repeated, panel: Panel, pairs: Iterable[Pair]) -> Excesses:
    """Return what `floor_values` gives for each distance and pair, by a panel's utterances (NaN: not in)."""
    if repeated.panel is None:
        return {}
    pairs = list(pairs)
    return {
        (distance.name, pair): replace(
            found,
            between=aligned(found.between, repeated.panel, panel),
            floor=aligned(found.floor, repeated.panel, panel),
        )
        for distance in distances(repeated.panel)
        for pair, found in floor_values(repeated.panel, distance, pairs).items()
    }


def depends_on_seed(panel: Panel) -> bool:
    """Return whether training a panel's head again with another seed can change it."""
    if panel.deterministic or len(panel.seeds) > 1:
        return not panel.deterministic
    from mixed_signals.models.heads import head_spec

    try:
        return head_spec(panel.head).cls(panel.kind).seeded
    except UsageError:  # a name that is no head's, such as that of the head that folds chose
        return True


def recipe(study: Study) -> dict[str, Any]:
    """Return how the study's heads were trained, as far as training them again has to know."""
    return {"group": group_column(study.run), "normalize": bool(study.run.info.get("normalize"))}


def lined_up(predictions: pd.DataFrame, panel: Panel) -> Panel:
    """Return the panel of the predictions of heads that were trained again."""
    (found,), _ = make_panels(predictions, kind=panel.kind)
    return found


def aligned(values: Values, of: Panel, panel: Panel) -> Values:
    """Return the values of one panel's utterances by those of another, NaN where there are none."""
    if of is panel:
        return values
    return np.asarray(pd.Series(values, index=of.ids).reindex(panel.ids), dtype=np.float64)
