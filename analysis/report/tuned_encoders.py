"""How encoders were cross-fitted, in a sentence for the first screen of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixed_signals.store import CrossFit
from mixed_signals.store.terminal import counted

if TYPE_CHECKING:
    from mixed_signals.analysis.study import Study

_DESIGNS = {
    "three-way": "of each fold's training groups one half trained the encoders and the other the heads, and the other "
    "way round",
    "nested": "class log-odds, for each fold from encoders without it, for its training rows without their own part "
    "either",
}


def cross_fitting(study: Study, n_utterances: int) -> str:
    """Return how encoders were cross-fitted, and what was left out; nothing where they were not, or are gone."""
    store, info = study.store, study.run.info
    if store is None or not study.views_by_fold:
        return ""
    there = set(store.feature_sets())
    keys = [
        f"{modality}/{name}" for modality, of in info["features"].items() for name in of["name"].split("|")
    ]
    sets = [store[key] for key in keys if key in there]
    found = next(((fit, one.aligned) for one in sets if (fit := CrossFit.of(one)) is not None), None)
    if found is None:
        return ""
    fit, aligned = found
    said = [
        f"{fit.design} ({_DESIGNS[fit.design]})",
        "no head was tested on rows that trained its encoder",
    ]
    if fit.design == "three-way":
        said.append(
            f"vector spaces of encoders {'aligned, which is experimental' if aligned else 'not aligned'}"
        )
    said.append(f"{fit.group} kept apart" if fit.group else "nothing kept apart")
    if n := len(store.corpus) - n_utterances:
        said.append(
            f"{n:,} of {counted(len(store.corpus), 'utterance')} left out, without a label or a vector"
        )
    return "; ".join(said)
