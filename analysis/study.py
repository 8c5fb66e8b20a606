"""A run opened for analysis: its panels, what people said of its utterances, and, where needed, its features and heads.

Questions that the predictions answer need the panels alone. Those that need more (a perturbed row, a head trained in
another way) take the run's own views, folds and held-out heads from here, and get them only as they were when the run
was made. Where features are cross-fitted each fold has views of its own, and nothing is ever made of two folds' views
together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixed_signals.analysis.panel import FUSION, Panel, check_kind, make_panels
from mixed_signals.models.blocks import head_file
from mixed_signals.models.choosing import CHOSEN
from mixed_signals.models.gathering import as_written
from mixed_signals.models.material import Material, material
from mixed_signals.models.plan import views_of_folds
from mixed_signals.store import Fold, Run, Store, UsageError, Views, load_run
from mixed_signals.store.views import join_several


@dataclass(frozen=True, repr=False)
class Study:
    """What the questions are asked of.

    Attributes
    ----------
    run : Run
    panels : tuple of Panel
        One for each head that can be analysed.
    utterances : DataFrame
        The corpus's, by utterance id.
    ratings : DataFrame or None
        The corpus's: ``utterance_id, rater, shown, value, count``.
    store : Store or None
        None where the run was made up; then there are no views and no heads.
    notes : tuple of str
        What could not be analysed, and why.
    resamples : int
        Of groups, for intervals; as many permutations for tests.
    seed : int
        Of resampling and permuting.
    refit : bool
        Whether questions may train heads of their own.
    values : mapping of str to str, optional
        What values of the ratings mean as labels (see `people.evaluate`).
    """

    run: Run
    panels: tuple[Panel, ...]
    utterances: pd.DataFrame
    ratings: pd.DataFrame | None
    store: Store | None = None
    notes: tuple[str, ...] = ()
    resamples: int = 1000
    seed: int = 0
    refit: bool = True
    values: Mapping[str, str] | None = None

    def __repr__(self) -> str:
        return f"<Study of run {self.run.name or '(not saved)'}: {', '.join(map(repr, self.panels))}>"

    @classmethod
    def open(
        cls,
        store: Store | str | Path,
        run_name: str,
        heads: Sequence[str] = (),
        *,
        resamples: int = 1000,
        seed: int = 0,
        refit: bool = True,
        values: Mapping[str, str] | None = None,
    ) -> Study:
        """Open a run of a store.

        Groups are those that the run kept apart in training, or else the corpus's own. Within a group utterances are
        ordered in time by the column ``turn``, or by their starts where these are in one medium.

        Raises
        ------
        UsageError
            If there is no such run or head, its target is multilabel, or no head has a fusion and a model of each of
            its modalities.
        """
        store = store if isinstance(store, Store) else Store.open(store)
        run = load_run(store, run_name)
        check_kind(run)
        corpus = store.corpus
        utterances = corpus.utterances.set_index("utterance_id", drop=False)
        groups = utterances[group_column(run)].astype(object)
        panels, notes = make_panels(
            run.predictions, heads, kind=run.kind, groups=groups, when=_when(utterances, groups)
        )
        return cls(
            run,
            tuple(panels),
            utterances,
            corpus.ratings,
            store,
            tuple(notes),
            resamples,
            seed,
            refit,
            values,
        )

    @property
    def resampling(self) -> dict[str, Any]:
        """What intervals and tests are told: how many resamples to draw, and the seed."""
        return {"resamples": self.resamples, "seed": self.seed}

    @property
    def views_by_fold(self) -> bool:
        """Whether each fold has views of its own, since features are cross-fitted."""
        return bool(self.run.info.get("views_by_fold"))

    @cached_property
    def views(self) -> list[Views]:
        """The views that the run was trained on: one, or several among which folds chose, or one for each of `folds`.

        Raises
        ------
        UsageError
            If a feature set is gone, or is another one by now, or labels are.
        """
        if self.store is None:
            raise UsageError("this run is in no store: its features are not known")
        info = self.run.info
        described = info.get("features")
        if described is None:
            raise UsageError(f"run {self.run.name!r} does not say which features it used; fit-heads again")
        names = {modality: about["name"].split("|") for modality, about in described.items()}
        contents = {modality: about["content"].split("|") for modality, about in described.items()}
        for modality, several in names.items():
            for name, content in zip(several, contents[modality], strict=True):
                key = f"{modality}/{name}"
                if key not in self.store.feature_sets():
                    raise UsageError(
                        f"feature set {key}, on which run {self.run.name!r} was trained, is gone"
                    )
                if self.store[key].content_fingerprint != content:
                    raise UsageError(
                        f"feature set {key} is another one than run {self.run.name!r} was trained on; fit-heads again"
                    )
        mine = {*self.run.predictions["utterance_id"].unique(), *info.get("never_tested", ())}
        if self.views_by_fold:
            own = {(c["partition"], c["fold"], c["modality"]): c["features"] for c in info["chosen_features"]}
            chosen = [{m: own[fold.partition, fold.fold, m] for m in names} for fold in self.folds]
        else:
            chosen = [dict(zip(names, several, strict=True)) for several in product(*names.values())]
        joined = join_several(
            self.store.corpus,
            [{m: self.store[f"{m}/{name}"] for m, name in several.items()} for several in chosen],
            target=info["target"],
        )
        self._refuse_other_labels(joined[0])
        return [views.select(pd.Index(views.ids).isin(mine)) for views in joined]

    def _refuse_other_labels(self, views: Views) -> None:
        """Refuse to train heads again on labels that the run's predictions were not compared with."""
        column = "y_true" if views.kind == "interval" else "label_true"
        before = self.run.predictions.drop_duplicates("utterance_id").set_index("utterance_id")[column]
        now = pd.Series(as_written(views.y, views.kind, views.classes), index=views.ids).reindex(before.index)
        changed = before.index[(now != before).to_numpy()]
        if len(changed):
            raise UsageError(
                f"{views.target} of {len(changed):,} utterances has changed since run {self.run.name!r}, e.g. of "
                f"{list(changed[:3])}; fit-heads again"
            )

    def views_of(self, fold: Fold) -> list[Views]:
        """Return the views that the heads of one of `folds` see: all, or the fold's own."""
        seen = views_of_folds(self.views, self.folds, by_fold=self.views_by_fold)
        place = fold.partition, fold.fold
        return next(own for each, own in seen if (each.partition, each.fold) == place)

    @cached_property
    def materials(self) -> dict[tuple[int, int], Material]:
        """What the heads of each (partition, fold) see, as arrays; one object where all see the same views."""
        normalize = bool(self.run.info.get("normalize"))
        groups = self.views[0].groups_by(group_column(self.run)) if normalize else None
        places = [(fold.partition, fold.fold) for fold in self.folds]
        if not self.views_by_fold:
            return dict.fromkeys(places, material(self.views, groups, normalize=normalize))
        return {
            place: material(own, groups, normalize=normalize)
            for place, own in zip(places, self.views, strict=True)
        }

    @cached_property
    def folds(self) -> list[Fold]:
        """The folds of the run, the training rows of each in the corpus's order.

        Raises
        ------
        UsageError
            If the run does not say on what its heads were trained.
        """
        table = self.run.predictions[["partition", "fold", "utterance_id"]].drop_duplicates()
        mine = {*table["utterance_id"], *self.run.info.get("never_tested", ())}
        every = np.array([i for i in self.utterances.index if i in mine], dtype=object)
        tested = dict(list(table.groupby(["partition", "fold"])["utterance_id"]))
        found = []
        for about in self.run.info.get("folds", [{}]):
            if "trained_on" not in about:
                raise UsageError(
                    f"run {self.run.name!r} does not say on what its heads were trained; fit-heads again"
                )
            test = tested[about["partition"], about["fold"]].to_numpy(object)
            others = about["trained_on"] == "the others"
            train = ~pd.Index(every).isin(test) if others else pd.Index(every).isin(about["trained_on"])
            found.append(Fold(about["partition"], about["fold"], every[train], test))
        return found

    def head_path(self, panel: Panel, model: str, fold: Fold, seed: tuple[int, int]) -> Path:
        """Return the file of the head of a fold and a seed (with an order), which has not seen the fold's test rows.

        Raises
        ------
        UsageError
            If the run's heads are gone.
        """
        if self.store is None:
            raise UsageError("this run is in no store: it has no saved heads")
        modalities = "+".join(panel.unimodals) if model == FUSION else model
        head, place = panel.head, (modalities, fold.partition, fold.fold)
        if head == CHOSEN:
            chosen = self.run.info["chosen_heads"]
            head = next(c["head"] for c in chosen if (c["modalities"], c["partition"], c["fold"]) == place)
        name = f"{head}.{modalities}.p{fold.partition}.f{fold.fold}.o{seed[1]}.s{seed[0]}"
        found = head_file(self.store.run_path(self.run.name) / "heads" / name)
        if found is None:
            raise UsageError(f"run {self.run.name!r} has no saved head {name}; fit-heads again")
        return found


def group_column(run: Run) -> str:
    """Return the column of the utterances by which a run kept groups apart, or else the corpus's own."""
    return run.info.get("group") or "group"


def _when(utterances: pd.DataFrame, groups: pd.Series) -> pd.Series | None:
    """Return each utterance's turn, or its start where those of a group are all in one medium; None if none has any.

    NaN where it is not known, and in groups whose turns are not told apart (of several dialogs, say): no order either.
    """
    named = groups.ne("") if groups.ne("").any() else groups.eq("")
    if "turn" in utterances and utterances["turn"].notna().any():
        when = utterances["turn"].astype(np.float64)
        mixed = pd.DataFrame({"group": groups, "turn": when})[when.notna()].duplicated(keep=False)
        unclear = set(groups[mixed.index[mixed]])
    elif "start" in utterances and "media" in utterances:
        when = utterances["start"].astype(np.float64)
        media = utterances["media"].astype(object).groupby(groups).nunique()
        unclear = set(media.index[media != 1])
    else:
        return None
    when = when.where(named & ~groups.isin(unclear))
    return when if when.notna().any() else None
