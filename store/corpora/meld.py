"""MELD: the Multimodal EmotionLines Dataset, utterances of the series Friends.

Poria et al., "MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations", ACL 2019,
arXiv 1810.02508.

A folder with ``train_sent_emo.csv``, ``dev_sent_emo.csv`` and ``test_sent_emo.csv`` and, below the media root, the
folders of clips ``train_splits/``, ``dev_splits_complete/`` and ``output_repeated_splits_test/``. What becomes of them:

`utterance_id`
    ``<split>_dia<Dialogue_ID>_utt<Utterance_ID>``: dialog numbers begin anew in every split.
`group`, `dialog`
    ``<split>_dia<Dialogue_ID>``; `turn` is `Utterance_ID` (some are not published, so numbers may be left out).
`speaker`
    The name in the series; the same people speak in all splits.
`media`
    ``<folder>/dia<...>_utt<...>.mp4`` where there is such a clip, else empty (``dia110_utt7`` of dev was never
    published). A clip is one utterance, so `start` and `end` stay empty.
`episode_start`, `episode_end`
    `StartTime` and `EndTime`, in seconds into the episode; beside them `season` and `episode`.
`label`
    neutral, surprise, fear, sadness, joy, disgust, anger (in this order).
`sentiment`
    negative, neutral, positive: a second nominal target.

The published files mix two ways of writing curly quotes and dashes: as such, and as control characters (U+0080 to
U+009F), which is what Windows-1252 becomes when it is read as Latin-1. The latter are turned back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mixed_signals.store.corpora.published import Faults, media_folder, names, occurring, read_splits, there
from mixed_signals.store.corpora.reading import Rows
from mixed_signals.store.corpus import Corpus
from mixed_signals.store.targets import Target

EMOTIONS = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
SENTIMENTS = ("negative", "neutral", "positive")
CLIPS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
_COLUMNS = {
    "utterance_id": "Utterance_ID",
    "text": "Utterance",
    "label": "Emotion",
    "group": "Dialogue_ID",
    "dialog": "Dialogue_ID",
    "turn": "Utterance_ID",
    "speaker": "Speaker",
    "sentiment": "Sentiment",
    "episode_start": "StartTime",
    "episode_end": "EndTime",
    "season": "Season",
    "episode": "Episode",
}
_TYPOGRAPHIC = {
    code: character
    for code in range(0x80, 0xA0)
    if (character := bytes([code]).decode("cp1252", errors="ignore"))
}


def read_corpus(
    source: Path,
    *,
    name: str | None = None,
    media_root: Path | str | None = None,
    targets: Sequence[Target] = (),
) -> Corpus:
    """Read the three splits.

    Parameters
    ----------
    source : Path
        The folder with ``train_sent_emo.csv``, ``dev_sent_emo.csv`` and ``test_sent_emo.csv``.
    name : str, optional
        Name of the corpus; "MELD" by default.
    media_root : Path or str, optional
        Where the folders of clips lie; `source` by default.
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
    files = {split: f"{split}_sent_emo.csv" for split in CLIPS}
    rows = read_splits(source, files, list(dict.fromkeys(_COLUMNS.values())))
    faults = Faults()
    faults.one_of(rows, "Emotion", EMOTIONS)
    faults.one_of(rows, "Sentiment", SENTIMENTS)
    split = rows.table["split"]
    dialog, turn = _count(rows, "Dialogue_ID", faults), _count(rows, "Utterance_ID", faults)
    clip = "dia" + dialog + "_utt" + turn
    table = pd.DataFrame(
        {
            "utterance_id": split + "_" + clip,
            "media": there(root, split.map(CLIPS) + "/" + clip + ".mp4"),
            "text": rows.table["Utterance"].str.translate(_TYPOGRAPHIC),
            "label": names(rows, "Emotion"),
            "group": split + "_dia" + dialog,
            "split": split,
            "dialog": split + "_dia" + dialog,
            "turn": turn,
            "speaker": names(rows, "Speaker").str.translate(_TYPOGRAPHIC),
            "sentiment": names(rows, "Sentiment"),
            "season": faults.numbers(rows, "Season"),
            "episode": faults.numbers(rows, "Episode"),
            "episode_start": _seconds(rows, "StartTime", faults),
            "episode_end": _seconds(rows, "EndTime", faults),
        }
    )
    targets = [
        Target("label", "nominal", occurring(EMOTIONS, table["label"])),
        Target("sentiment", "nominal", occurring(SENTIMENTS, table["sentiment"])),
        *targets,
    ]
    return faults.corpus(
        name or "MELD", Rows(table, rows.places), media_root=root, targets=targets, columns=_COLUMNS
    )


def _count(rows: Rows, column: str, faults: Faults) -> pd.Series:
    """Return a column of whole numbers from 0, as text."""
    found = names(rows, column)
    wrong = ~found.str.fullmatch(r"\d+")
    faults.add(rows, wrong, column, lambda row: f"{found[row]!r} is not a whole number; number them from 0")
    return found.mask(wrong, "")


def _seconds(rows: Rows, column: str, faults: Faults) -> pd.Series:
    """Return a column of times such as 00:16:16,059 in seconds."""
    found = names(rows, column)
    parts = found.str.extract(r"^(\d+):(\d\d):(\d\d[,.]\d+)$")
    faults.add(
        rows, parts[0].isna(), column, lambda row: f"{found[row]!r} is not a time; write e.g. 00:16:16,059"
    )
    hours, minutes, seconds = (pd.to_numeric(parts[part].str.replace(",", ".")) for part in parts)
    return hours * 3600 + minutes * 60 + seconds
