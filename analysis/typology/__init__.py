"""What the fusion made of its unimodals: a complete and exclusive typology of utterances.

Conventions
-----------
A model is right where its label is the true one. ``M`` names modalities in their order, joined by ``+``.

=================  ===============  ==================================================================
fusion             unimodals        type
=================  ===============  ==================================================================
right              all right        ``agree right``
right              none right       ``fusion rescues``
right              some right       ``follows M``, the right ones
wrong              none right       ``agree wrong`` if they give one label, else ``all wrong``
wrong              some right       ``misled by M``, those that gave the fusion's label
wrong              some or all      ``harmed`` where no unimodal gave the fusion's label
=================  ===============  ==================================================================

One label for each model and utterance: from probabilities averaged over seeds and partitions. Beside the share of each
type stand

- ``chance``: its share if all models, the fusion with them, were independent of each other given the true class, each
  with its own confusions: see `analysis.typology.chances`.
- ``stability``: how often single seeds give an utterance of this type the same type.
- ``confirmed``, of ``misled by M``: how many are right with the model that was trained on the other modalities alone,
  so that leaving out M mends them. Where one modality is left this is so by definition: it is the one that is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixed_signals.analysis.disagreement.floors import depends_on_seed
from mixed_signals.analysis.findings import Answer
from mixed_signals.analysis.inference import sign_flip
from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.analysis.study import Study
from mixed_signals.analysis.typology.chances import chance_values
from mixed_signals.analysis.typology.sentences import confirmation_findings, type_findings
from mixed_signals.models.intervals import group_codes, mean_interval

FAMILIES = ("agree right", "follows", "fusion rescues", "agree wrong", "all wrong", "misled by", "harmed")


def classify(
    truth: ArrayLike, unimodals: ArrayLike, fusion: ArrayLike, names: Sequence[str]
) -> NDArray[np.object_]:
    """Return the type of each utterance.

    Parameters
    ----------
    truth, fusion : array-like of shape (...)
        True labels and the fusion's.
    unimodals : array-like of shape (M, ...)
        Labels of each unimodal.
    names : sequence of M str
        Their modalities.

    Returns
    -------
    array of str, shape (...)

    Examples
    --------
    >>> classify([0, 0], [[0, 1], [1, 1]], [0, 1], ["text", "audio"]).tolist()
    ['follows text', 'agree wrong']
    """
    y, u, f = np.asarray(truth), np.asarray(unimodals), np.asarray(fusion)
    right = u == y
    with_fusion = u == f
    fusion_right = f == y
    none, every = ~right.any(axis=0), right.all(axis=0)
    one_label = (u == u[0]).all(axis=0)
    cases = [
        (fusion_right & every, "agree right"),
        (fusion_right & none, "fusion rescues"),
        (fusion_right, _named("follows", with_fusion, names)),
        (none & one_label, "agree wrong"),
        (none, "all wrong"),
        (with_fusion.any(axis=0), _named("misled by", with_fusion, names)),
    ]
    conditions, types = zip(*cases, strict=True)
    values = [np.broadcast_to(np.asarray(t, dtype=object), y.shape) for t in types]
    return np.select([np.broadcast_to(c, y.shape) for c in conditions], values, default="harmed")


def _named(family: str, members: NDArray[np.bool_], names: Sequence[str]) -> NDArray[np.object_]:
    """Return ``family`` followed by the names of the member modalities, for each utterance."""
    bits = np.tensordot(1 << np.arange(len(names)), members, axes=1)
    subsets = ["+".join(n for i, n in enumerate(names) if b >> i & 1) for b in range(1 << len(names))]
    return np.array([f"{family} {subset}" for subset in subsets], dtype=object)[bits]


def family(types: ArrayLike) -> NDArray[np.object_]:
    """Return the types without the modalities they name: one of `FAMILIES` each."""
    stems = {"follows", "misled by"}
    values = np.asarray(types, dtype=object)
    short = [next((s for s in stems if str(t).startswith(s)), t) for t in values.ravel()]
    return np.array(short, dtype=object).reshape(values.shape)


@dataclass(frozen=True)
class UtteranceTypes:
    """The types of a panel's utterances.

    Attributes
    ----------
    types : array of str, shape (N,)
    stability : array, shape (N,)
        Share of single seeds (and partitions) whose labels give the same type; NaN with one seed.
    confirmed : array, shape (N,)
        Whether (1 or 0) the model without M is right on an utterance misled by M; NaN for other types, and where the
        run has no such model.
    misled : dict of str to tuple of str
        For each type ``misled by M`` that occurs, the other modalities.
    """

    types: NDArray[np.object_]
    stability: NDArray[np.float64]
    confirmed: NDArray[np.float64]
    misled: dict[str, tuple[str, ...]]


def utterance_types(panel: Panel) -> UtteranceTypes:
    """Return the type of each utterance, how stable it is, and whether it is confirmed."""
    labels = {model: panel.mean(model).argmax(axis=-1) for model in panel.models}
    types = classify(panel.truth, [labels[m] for m in panel.unimodals], labels[FUSION], panel.unimodals)
    stability = np.full(len(types), np.nan)
    if len(panel.seeds) > 1:
        fusion = panel.seed_labels(FUSION)
        truth = np.broadcast_to(panel.truth, fusion.shape)
        singles = classify(truth, [panel.seed_labels(m) for m in panel.unimodals], fusion, panel.unimodals)
        stability = (singles == types).mean(axis=(0, 1))
    confirmed, misled = np.full(len(types), np.nan), misleading(panel, types)
    for name, rest in misled.items():
        try:
            model = panel.model_of(rest)
        except KeyError:
            continue
        mine = types == name
        confirmed[mine] = panel.mean(model)[mine].argmax(axis=-1) == panel.truth[mine]
    return UtteranceTypes(types, stability, confirmed, misled)


def typology_table(
    panel: Panel,
    typed: UtteranceTypes,
    groups: ArrayLike | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the share of each type beside its share by chance, and its stability over seeds.

    Parameters
    ----------
    panel : Panel
    typed : UtteranceTypes
        Of the panel.
    groups : array-like of shape (N,) or None
        Group of each of ``panel.ids``.
    resamples, seed : int
        Of intervals and tests.

    Returns
    -------
    DataFrame
        ``head, type, family, count, estimate, low, high, stability, chance, beyond_chance, beyond_low, beyond_high, p,
        confirmed, n, n_groups, method``, where ``estimate`` is the share, ``beyond_chance`` the share minus that by
        chance, `p` of its being 0, and ``confirmed`` a count (NaN for all other types and where the run lacks the
        model). Families in the order of `FAMILIES`, larger types first within one. Types that do not occur are there
        if by chance at least one utterance would be of them.
    """
    codes = group_codes(groups, len(panel.ids))
    types, stability, confirmed = typed.types, typed.stability, typed.confirmed
    labels = {model: panel.mean(model).argmax(axis=-1) for model in panel.models}
    chances = chance_values(
        panel.truth, [labels[m] for m in panel.unimodals], labels[FUSION], panel.unimodals
    )
    drawn = {"resamples": resamples, "seed": seed}
    rows = []
    for name, chance in chances.items():
        mine = types == name
        if not mine.any() and chance.sum() < 1:
            continue
        share = mean_interval(mine, codes, limits=(0, 1), **drawn)
        beyond = mean_interval(mine - chance, codes, limits=(-1, 1), **drawn)
        test = sign_flip(mine - chance, codes, resamples=resamples, seed=seed)
        row = {"head": panel.head, "type": name, "family": family([name])[0], "count": int(mine.sum())}
        row |= {"estimate": share.estimate, "low": share.low, "high": share.high}
        row |= {"stability": float(stability[mine].mean()) if mine.any() else np.nan}
        row |= {"chance": float(chance.mean()), "beyond_chance": beyond.estimate}
        row |= {"beyond_low": beyond.low, "beyond_high": beyond.high, "p": test.p}
        row |= {"confirmed": float(confirmed[mine].sum()) if np.isfinite(confirmed[mine]).any() else np.nan}
        rows.append(
            row
            | {
                "n": share.n,
                "n_groups": share.n_groups,
                "method": f"{share.method}; p of the share beyond chance: {test.method}",
            }
        )
    rows.sort(key=lambda row: (FAMILIES.index(row["family"]), -row["count"], row["type"]))
    return pd.DataFrame(rows)


def misleading(panel: Panel, types: ArrayLike) -> dict[str, tuple[str, ...]]:
    """Return, for each type ``misled by M`` among some, the other modalities."""
    stem = "misled by "
    names = sorted({str(t) for t in np.unique(np.asarray(types, dtype=str)) if str(t).startswith(stem)})
    found = {}
    for name in names:
        members = name.removeprefix(stem).split("+")
        found[name] = tuple(m for m in panel.unimodals if m not in members)
    return found


def confirmation_table(
    panel: Panel,
    typed: UtteranceTypes,
    groups: ArrayLike | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how often the model without M is right on the utterances that are misled by M.

    Parameters
    ----------
    panel, typed, groups, resamples, seed
        As for `typology_table`.

    Returns
    -------
    DataFrame
        ``head, type, without, by_definition, count, confirmed, estimate, low, high, n, n_groups, method``: `without`
        names the model, ``confirmed`` of ``count`` utterances are, and ``estimate`` is their share. No row where the
        run has no such model.
    """
    codes = group_codes(groups, len(panel.ids))
    confirmed = typed.confirmed
    rows = []
    for name, rest in typed.misled.items():
        mine = (typed.types == name) & np.isfinite(confirmed)
        if mine.any():
            share = mean_interval(confirmed[mine], codes[mine], limits=(0, 1), resamples=resamples, seed=seed)
            row = {
                "head": panel.head,
                "type": name,
                "without": "+".join(rest),
                "by_definition": len(rest) == 1,
            }
            rows.append(row | {"count": share.n, "confirmed": int(confirmed[mine].sum()), **vars(share)})
    columns = ["head", "type", "without", "by_definition", "count", "confirmed"]
    columns += ["estimate", "low", "high", "n", "n_groups", "method"]
    return pd.DataFrame(rows, columns=columns)


def evaluate(study: Study, panel: Panel) -> Answer:
    """Return what the fusion of one head made of its modalities.

    Parameters
    ----------
    study : Study
    panel : Panel
        One of the study's.

    Returns
    -------
    Answer
        Tables ``typology`` (see `typology_table`), ``confirmed`` (see `confirmation_table`) and ``types``, one row for
        each utterance: ``head, utterance_id, type, family, stability, confirmed``.
    """
    if panel.kind == "interval":
        return Answer(notes=[f"{panel.head}: the typology needs classes; the target is interval."])
    typed = utterance_types(panel)
    typology = typology_table(panel, typed, panel.groups, **study.resampling)
    confirmed = confirmation_table(panel, typed, panel.groups, **study.resampling)
    by_utterance = pd.DataFrame(
        {
            "head": panel.head,
            "utterance_id": panel.ids,
            "type": typed.types,
            "family": family(typed.types),
            "stability": typed.stability,
            "confirmed": pd.array(typed.confirmed).astype("boolean"),
        }
    )
    lacking = {
        "+".join(rest): name for name, rest in typed.misled.items() if name not in set(confirmed["type"])
    }
    notes = [
        f"{panel.head}: no {name!r} can be confirmed, since the run has no model of {model} (fit-heads trains all "
        "without --subsets)."
        for model, name in lacking.items()
    ]
    if len(panel.seeds) < 2 and depends_on_seed(panel):
        notes.append(f"{panel.head} has one seed: the types' stability is not known.")
    return Answer(
        tables={"typology": typology, "confirmed": confirmed, "types": by_utterance},
        findings=[*type_findings(typology), *confirmation_findings(confirmed)],
        notes=notes,
        methods=[
            "Utterances were typed by which models were right and which gave the fusion's label; shares stand beside "
            "those of models with the same confusions that are independent given the true class, summed over all "
            "combinations of labels."
        ],
    )
