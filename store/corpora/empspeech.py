"""EmpSpeech: the split files of the study "Mixed Signals".

Srikanth, Chen & Hirschberg, "Mixed Signals: Understanding Model Disagreement in Multimodal Empathy Detection",
arXiv 2505.13979 (Findings of IJCNLP-AACL 2025).

A folder with ``train.csv``, ``val.csv`` and ``test.csv``, each with the columns `dialog_id`, `start_time`,
`end_time`, `filename`, `transcript`, `label`. What becomes of them:

`utterance_id`
    `filename`, unique over the three files.
`group`, `dialog`
    `dialog_id`. Nearly every dialog stands in several splits, so compare models over folds by group, not by `split`.
`dialog_start`, `dialog_end`
    `start_time` and `end_time`: seconds into the dialog's video. The media are cut, one file an utterance, so
    `start` and `end` stay empty.
`turn`
    The order of the utterances in their dialog, from 0, by start, then end.
`media`
    ``<filename>.mp4`` where the media root has such a file, else empty.
`label`
    neutral, empathetic (in this order).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mixed_signals.store.corpora.published import Faults, media_folder, names, occurring, read_splits, there
from mixed_signals.store.corpora.reading import Rows
from mixed_signals.store.corpus import Corpus
from mixed_signals.store.targets import Target

LABELS = ("neutral", "empathetic")
_COLUMNS = {
    "utterance_id": "filename",
    "dialog": "dialog_id",
    "group": "dialog_id",
    "dialog_start": "start_time",
    "dialog_end": "end_time",
    "text": "transcript",
    "label": "label",
    "media": "filename",
}


def read_corpus(
    source: Path,
    *,
    name: str | None = None,
    media_root: Path | str | None = None,
    targets: Sequence[Target] = (),
) -> Corpus:
    """Read the split files of a folder.

    Parameters
    ----------
    source : Path
        The folder with ``train.csv``, ``val.csv`` and ``test.csv``.
    name : str, optional
        Name of the corpus; "EmpSpeech" by default.
    media_root : Path or str, optional
        Where the cut media lie; `source` by default.
    targets : sequence of Target
        What heads may learn, besides what the layout itself tells.

    Raises
    ------
    UsageError
        If a file or a column is not there.
    InvalidCorpus
        If rows break the rules; each is listed with file, line, column and mend.
    """
    root = media_folder(source, media_root)
    splits = {split: f"{split}.csv" for split in ("train", "val", "test")}
    rows = read_splits(source, splits, list(dict.fromkeys(_COLUMNS.values())))
    faults = Faults()
    faults.one_of(rows, "label", LABELS)
    start, end = faults.numbers(rows, "start_time"), faults.numbers(rows, "end_time")
    faults.add(
        rows, end <= start, "end_time", lambda row: f"{end[row]:g} is not after the start, {start[row]:g}"
    )
    dialog, filename, label = (names(rows, column) for column in ("dialog_id", "filename", "label"))
    faults.add(rows, dialog == "", "dialog_id", lambda row: "is empty; every row needs one")
    table = pd.DataFrame(
        {
            "utterance_id": filename,
            "media": there(root, filename + ".mp4"),
            "text": rows.table["transcript"],
            "label": label,
            "group": dialog,
            "split": rows.table["split"],
            "dialog": dialog,
            "dialog_start": start,
            "dialog_end": end,
        }
    )
    in_order = table.sort_values(["dialog", "dialog_start", "dialog_end"], kind="stable")
    table["turn"] = in_order.groupby("dialog").cumcount()
    return faults.corpus(
        name or "EmpSpeech",
        Rows(table, rows.places),
        media_root=root,
        targets=[Target("label", "nominal", occurring(LABELS, label)), *targets],
        columns=_COLUMNS,
    )
