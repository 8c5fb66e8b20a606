"""CREMA-D, every rater's answers: ``finishedResponses.csv`` and ``finishedEmoResponses.csv``.

The authors made ``tabulatedVotes.csv`` of the former (their script ``processFinishedResponses.R``), and this reader
takes the same answers:

- A rater met some clips twice, and two practice clips (numbers 7443 and 7444) first; the authors took these answers out
  before they published ``finishedResponses.csv``. Practice answers that still stand there are left out; a rater's
  second answer that still stands there is counted, as the authors counted it.
- An answer whose first click came later than 10 s after the clip does not count. The clicks' times are `ttr` in
  ``finishedEmoResponses.csv``, joined by session, kind of query and number of question.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from mixed_signals.store.corpora.published import Faults, names
from mixed_signals.store.corpora.reading import Rows, need_columns, read_rows
from mixed_signals.store.errors import UsageError

ANSWERS = "finishedResponses.csv"
CLICKS = "finishedEmoResponses.csv"
PRACTICE = (7443, 7444)
LATEST_MS = 10_000
_QUESTION = ("sessionNums", "queryType", "questNum")


def read_responses(
    source: Path, numbered: pd.Series, shown: Mapping[int, str], emotions: Mapping[str, str], faults: Faults
) -> Rows:
    """Return a rating per answer that counts.

    Parameters
    ----------
    source : Path
        The folder of the two files.
    numbered : Series
        The clips' names by their number.
    shown : mapping
        From the kind of query to what was shown.
    emotions : mapping
        From the letter of an answer to the emotion.
    faults : Faults
        Takes what is wrong with rows.

    Raises
    ------
    UsageError
        If a file or a column is not there.
    """
    if not (source / CLICKS).is_file():
        raise UsageError(
            f"{source}: {ANSWERS} without {CLICKS}, which tells the answers that came too late to count; put it "
            f"there, or take {ANSWERS} away to read the tabulated votes"
        )
    rows = read_rows(source / ANSWERS)
    need_columns(source / ANSWERS, rows.table, ("localid", "clipNum", "clipName", "respEmo", *_QUESTION))
    number, answered = faults.numbers(rows, "clipNum"), _questions(rows, faults)
    counted = ~np.isin(number, PRACTICE) & ~_late(source / CLICKS, answered, faults)
    clip = names(rows, "clipName")
    meant = pd.Series(numbered.reindex(number).to_numpy(), dtype=object)
    strange = counted & ~np.isnan(number) & (meant != clip).to_numpy()
    mend = "is not the clip of this clipNum in SentenceFilenames.csv; correct one of them"
    faults.add(rows, strange, "clipName", lambda row: f"{clip[row]!r} {mend}")
    kinds = answered["queryType"].map(shown)
    faults.add(
        rows,
        kinds.isna() & answered["queryType"].notna(),
        "queryType",
        lambda row: (
            f"{answered['queryType'][row]:g} is none of 1 (voice), 2 (face), 3 (both); correct the cell"
        ),
    )
    faults.one_of(rows, "respEmo", emotions)
    table = pd.DataFrame(
        {
            "utterance_id": clip,
            "rater": names(rows, "localid"),
            "shown": kinds,
            "value": names(rows, "respEmo").map(emotions),
        }
    )
    sound = counted & ~strange & table.notna().all(axis=1).to_numpy()
    return Rows(table[sound], [rows.places[row] for row in np.flatnonzero(sound)])


def _questions(rows: Rows, faults: Faults) -> pd.DataFrame:
    return pd.DataFrame({column: faults.numbers(rows, column) for column in _QUESTION})


def _late(source: Path, answered: pd.DataFrame, faults: Faults) -> np.ndarray:
    """Return which answers' first click came too late, shape (N,); a click without a time is not late."""
    rows = read_rows(source)
    need_columns(source, rows.table, ("ttr", *_QUESTION))
    clicked = _questions(rows, faults)
    late = clicked[pd.to_numeric(rows.table["ttr"], errors="coerce").to_numpy() > LATEST_MS]
    return pd.MultiIndex.from_frame(answered).isin(pd.MultiIndex.from_frame(late))
