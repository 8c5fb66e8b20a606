"""What the explorer knows of each utterance at once: columns, of all heads and of each.

Rows are the utterances of all heads, most disagreement of the first head first. Their numbers are the same in every
side file; of a head that does not predict an utterance, its columns have no value there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixed_signals.analysis.panel import FUSION, Panel
from mixed_signals.analysis.report.side_files import (
    PART_SIZE,
    Column,
    category_column,
    number_column,
    text_column,
)
from mixed_signals.analysis.study import Study, group_column
from mixed_signals.analysis.typology import FAMILIES, family

if TYPE_CHECKING:
    from mixed_signals.analysis.analysis import Analysis

NO_MODALITY = "none"
_YES_NO = ("yes", "no")
_SHAPLEY = ("phi", "dominant", "unsupported")
_OF_RATERS = {
    "n_votes": "votes",
    "vote_entropy": "vote entropy, bits",
    "ambiguity": "ambiguity",
    "mean": "raters' mean",
    "variance": "raters' variance",
}


@dataclass(frozen=True)
class Rows:
    """The rows of a report.

    Attributes
    ----------
    analysis : Analysis
        With the table ``utterances``.
    study : Study
        What was analysed.
    ids : array of str, shape (n,)
        Utterances, in the order of the rows.
    """

    analysis: Analysis
    study: Study
    ids: NDArray[np.object_]

    @classmethod
    def of(cls, analysis: Analysis, study: Study) -> Rows:
        """Return the rows: every utterance that some head predicts."""
        first = study.panels[0]
        every = np.unique(np.concatenate([panel.ids for panel in study.panels]))
        found = cls(analysis, study, every)
        score = found.by_head[first.head][score_of(first)].to_numpy(np.float64)
        return cls(analysis, study, every[np.argsort(-score, kind="stable")])

    @cached_property
    def about(self) -> pd.DataFrame:
        """What the table says of each row, whatever the head."""
        return self._at_rows(self.analysis.table("utterances").drop_duplicates("utterance_id"))

    @cached_property
    def texts(self) -> list[str]:
        """The transcripts, "" where there is none."""
        said = self.study.utterances["text"].astype(object).reindex(self.ids)
        return [text if isinstance(text, str) else "" for text in said]

    @property
    def n_groups(self) -> int:
        """Groups among the rows."""
        return len(set(self.about["group"]) - {""})

    @cached_property
    def by_head(self) -> dict[str, pd.DataFrame]:
        """What the table says of each row for each head, NaN where the head does not predict it."""
        table = self.analysis.table("utterances")
        return {panel.head: self._at_rows(table[table["head"] == panel.head]) for panel in self.study.panels}

    def _at_rows(self, table: pd.DataFrame) -> pd.DataFrame:
        texts = [name for name in table if table[name].dtype == "str"]
        return table.astype(dict.fromkeys(texts, object)).set_index("utterance_id").reindex(self.ids)

    def shared(self) -> dict[str, Any]:
        """Return the value of ``rows.js``."""
        return self._file(list(self._shared_columns()))

    def _file(self, columns: list[Column]) -> dict[str, Any]:
        return {"n": len(self.ids), "partSize": PART_SIZE, "columns": columns}

    def _shared_columns(self) -> Iterator[Column]:
        about, panel = self.about, self.study.panels[0]
        yield text_column("utterance_id", "utterance", self.ids)
        if panel.kind == "interval":
            yield number_column("y_true", "true value", about["y_true"])
        else:
            yield category_column("label_true", "label", about["label_true"], panel.classes)
        if self.n_groups:
            groups = about["group"].replace("", None)
            yield category_column("group", group_column(self.study.run), groups)
        split = self.study.utterances.get("split")
        if (
            split is not None
            and (named := split.astype(object).reindex(self.ids).replace("", None)).notna().any()
        ):
            yield category_column("split", "split", named)
        for name, label in _OF_RATERS.items():
            if name in about and about[name].notna().any():
                yield number_column(name, label, about[name].astype(np.float64))
        if "contested" in about and about["contested"].notna().any():
            yield category_column("contested", "contested", _yes_no(about["contested"]), _YES_NO)

    def head(self, panel: Panel) -> dict[str, Any]:
        """Return the value of ``head-K.js`` for a head."""
        return {
            "name": panel.head,
            "kind": panel.kind,
            "modalities": list(panel.unimodals),
            "models": list(panel.models),
            "classes": list(panel.classes),
            "score": score_of(panel),
        } | self._file(list(self._head_columns(panel)))

    def _head_columns(self, panel: Panel) -> Iterator[Column]:
        table = self.by_head[panel.head]
        yield from (
            _interval_columns(panel, table) if panel.kind == "interval" else _class_columns(panel, table)
        )
        for m in panel.unimodals:
            if table[f"excess_{m}"].notna().any():
                yield number_column(f"excess_{m}", f"{m}, excess disagreement", table[f"excess_{m}"])
        yield from self._dominance_columns(panel)
        for name, values in self.gates(panel).items():
            for m, own in zip(panel.unimodals, values, strict=True):
                yield number_column(f"{name}_{m}", f"{m}, {name}", own)

    def places(self, panel: Panel) -> NDArray[np.intp]:
        """Return each row's number in a panel, -1 where the head does not predict it, shape (n,)."""
        return pd.Index(panel.ids).get_indexer(pd.Index(self.ids))

    @cached_property
    def shapley(self) -> dict[str, dict[str, NDArray[np.float64]]]:
        """``phi``, ``dominant`` and ``unsupported`` by head, of shape (M, n) each; none where not asked for."""
        table = self.analysis.table("shapley")
        if "phi" not in table:
            return {}
        found = {}
        for panel in self.study.panels:
            mine = table[(table["head"] == panel.head) & table["phi"].notna()]
            row = pd.Index(self.ids).get_indexer(pd.Index(mine["utterance_id"].astype(object)))
            column = pd.Index(panel.unimodals).get_indexer(pd.Index(mine["modality"].astype(object)))
            if len(mine):
                found[panel.head] = {
                    name: np.full((len(panel.unimodals), len(self.ids)), np.nan) for name in _SHAPLEY
                }
                for name, values in found[panel.head].items():
                    values[column, row] = mine[name].to_numpy(np.float64)
        return found

    def _dominance_columns(self, panel: Panel) -> Iterator[Column]:
        """Yield the modality that dominates each row, and whether it does so unsupported."""
        if panel.head not in self.shapley:
            return
        phi, dominant, unsupported = (self.shapley[panel.head][name] for name in _SHAPLEY)
        known = self.places(panel) >= 0
        largest = np.where(dominant == 1, np.abs(phi), -1).argmax(axis=0)
        some = (dominant == 1).any(axis=0)
        alone = some & (np.take_along_axis(unsupported, largest[None], axis=0)[0] == 1)
        names = np.where(some, np.array(panel.unimodals, dtype=object)[largest], NO_MODALITY)
        yield category_column(
            "dominant", "dominant modality", _where(known, names), (*panel.unimodals, NO_MODALITY)
        )
        yield category_column(
            "unsupported", "dominant without support", _where(known, np.where(alone, *_YES_NO)), _YES_NO
        )

    def gates(self, panel: Panel) -> dict[str, NDArray[np.float64]]:
        """Return what the head has of ``gate`` and ``contribution``, each of shape (M, n)."""
        table = self.by_head[panel.head]
        columns = {name: [f"{name}_{m}" for m in panel.unimodals] for name in ("gate", "contribution")}
        return {
            name: table[mine].to_numpy(np.float64).T
            for name, mine in columns.items()
            if set(mine) <= set(table) and table[mine].notna().any(axis=None)
        }


def score_of(panel: Panel) -> str:
    """Return the column by which a head's rows are sorted."""
    return "spread" if panel.kind == "interval" else "jsd"


def _class_columns(panel: Panel, table: pd.DataFrame) -> Iterator[Column]:
    if "type" in table:
        found = set(table["type"].dropna())
        types = sorted(found, key=lambda name: (FAMILIES.index(family([name])[0]), name))
        yield category_column("type", "type", table["type"], types)
        yield category_column(
            "family", "kind of type", table["family"], [f for f in FAMILIES if f in set(table["family"])]
        )
        if table["stability"].notna().any():
            yield number_column("stability", "stability of the type", table["stability"])
    yield number_column("jsd", "disagreement, bits", table["jsd"])
    for model in panel.models:
        yield category_column(f"label_{model}", f"{model} says", table[f"label_{model}"], panel.classes)
        yield number_column(f"confidence_{model}", f"{model}, confidence", table[f"p_label_{model}"])
        yield number_column(f"p_true_{model}", f"{model}, p of the label", table[f"p_true_{model}"])


def _interval_columns(panel: Panel, table: pd.DataFrame) -> Iterator[Column]:
    yield number_column("spread", "disagreement, sd of the truth", table["spread"])
    for model in panel.models:
        yield number_column(f"y_{model}", f"{model} says", table[f"y_{model}"])
    for m in panel.unimodals:
        yield number_column(f"difference_{m}", f"{FUSION} minus {m}", table[f"difference_{m}"])


def _yes_no(values: pd.Series) -> NDArray[np.object_]:
    return _where(values.notna().to_numpy(), np.where(values.fillna(False).astype(bool), *_YES_NO))


def _where(known: NDArray[np.bool_], values: NDArray[Any]) -> NDArray[np.object_]:
    """Return values where they are known, None elsewhere."""
    found = values.astype(object)
    found[~known] = None
    return found
