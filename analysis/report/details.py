"""What an opened utterance shows: one object of JSON for each row, in parts.

::

    {"id": ..., "text": ..., "group": ..., "label": ..., "media": {...},
     "votes": [{"shown": ..., "value": ..., "count": 3}, ...],
     "heads": [{"models": {"text": {"label": ..., "p": [0.9, 0.1]}, ...}, "type": ..., "stability": 1.0,
                "confirmed": null, "gates": {"text": 0.5, ...}, "contributions": {...}, "phi": {...}},
               null]}

with null for a head that does not predict the row, and for what the head does not have; of an interval target models
have a ``value`` instead. Numbers have four digits, values six.

An object of each row is a template that is filled from columns: for 100,000 rows, objects of Python that are made to be
encoded take several times as long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixed_signals.analysis.panel import Panel
from mixed_signals.analysis.report.side_files import PART_SIZE, encode

if TYPE_CHECKING:
    from mixed_signals.analysis.report.rows import Rows

_ROW = '{"id":%s,"text":%s,"group":%s,"label":%s,"media":%s,"votes":%s,"heads":[%s]}'
_Filled = tuple[str, list[Any]]  # a template, and the columns that fill it
_NUMBER, _VALUE, _ENCODED = "%.4g", "%.6g", "%s"


def parts(rows: Rows, media: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the value of each part as JSON.

    Parameters
    ----------
    rows : Rows
    media : sequence of dict
        What is played for each row.
    """
    heads = (
        ",".join(said) for said in zip(*(_of_head(rows, panel) for panel in rows.study.panels), strict=True)
    )
    truth = rows.about["y_true" if rows.study.panels[0].kind == "interval" else "label_true"]
    columns = [rows.ids.tolist(), rows.texts, rows.about["group"].tolist(), truth.tolist(), media]
    every = zip(*(map(encode, values) for values in columns), _votes(rows), heads, strict=True)
    said = [_ROW % row for row in every]
    for start in range(0, len(said), PART_SIZE):
        yield f"[{','.join(said[start : start + PART_SIZE])}]"


def _of_head(rows: Rows, panel: Panel) -> Iterator[str]:
    """Yield what one head says of each row, "null" where it does not predict it."""
    places, table = rows.places(panel), rows.by_head[panel.head]
    fields = {"models": _nested({model: _said(panel, model, places) for model in panel.models})}
    for name in ("type", "stability", "confirmed"):
        fields[name] = (_ENCODED, [_encoded(table[name])]) if name in table else ("null", [])
    by_modality = {f"{name}s": values for name, values in rows.gates(panel).items()}
    if panel.head in rows.shapley:
        by_modality["phi"] = rows.shapley[panel.head]["phi"]
    for name in ("gates", "contributions", "phi"):
        values = zip(panel.unimodals, by_modality.get(name, ()), strict=name in by_modality)
        numbers: dict[str, _Filled] = {m: (_NUMBER, [own.tolist()]) for m, own in values}
        fields[name] = _nested(numbers) if numbers else ("null", [])
    template, columns = _nested(fields)
    for place, row in zip(places, zip(*columns, strict=True), strict=True):
        yield template % row if place >= 0 else "null"


def _nested(fields: Mapping[str, _Filled]) -> _Filled:
    """Return an object of fields."""
    said = ",".join(f"{encode(name).replace('%', '%%')}:{template}" for name, (template, _) in fields.items())
    return f"{{{said}}}", [column for _, columns in fields.values() for column in columns]


def _said(panel: Panel, model: str, places: NDArray[np.intp]) -> _Filled:
    """Return what a model says of each row."""
    outputs = panel.mean(model)[places]
    if panel.kind == "interval":
        return _nested({"value": (_VALUE, [outputs[:, 0].tolist()])})
    labels = np.array([encode(name) for name in panel.classes], dtype=object)[outputs.argmax(axis=1)]
    p = f"[{','.join([_NUMBER] * outputs.shape[1])}]"
    return _nested({"label": (_ENCODED, [labels.tolist()]), "p": (p, outputs.T.tolist())})


def _encoded(values: pd.Series) -> list[str]:
    """Return texts, numbers or answers as JSON, "null" for what is missing."""
    plain = values.astype(object).where(values.notna(), None).tolist()
    return [encode(float(_NUMBER % value) if isinstance(value, float) else value) for value in plain]


def _votes(rows: Rows) -> list[str]:
    """Return what raters said of each row: by what they were shown, the most frequent value first."""
    if rows.study.ratings is None:
        return ["[]"] * len(rows.ids)
    table = rows.study.ratings[["utterance_id", "shown", "value", "count"]].astype({"utterance_id": object})
    row = pd.Index(rows.ids).get_indexer(pd.Index(table["utterance_id"]))
    table = table.assign(row=row, shown=table["shown"].fillna(""))
    table = table[(table["row"] >= 0) & table["value"].notna() & (table["count"] > 0)]
    summed = table.groupby(["row", "shown", "value"])["count"].sum().reset_index()
    summed = summed.sort_values(["row", "shown", "count", "value"], ascending=[True, True, False, True])
    said = [
        f'{{"shown":{encode(shown)},"value":{encode(value)},"count":{count:.0f}}}'
        for shown, value, count in zip(
            *(summed[name].tolist() for name in ("shown", "value", "count")), strict=True
        )
    ]
    ends = np.searchsorted(summed["row"], np.arange(len(rows.ids) + 1))
    return [f"[{','.join(said[start:end])}]" for start, end in pairwise(ends)]
