"""Checks of the corpus: groups, splits, classes and ratings. Each yields what it saw, or nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from mixed_signals.store.corpus import Corpus
from mixed_signals.store.doctor.findings import Symptom, examples

MIN_RATINGS = 2  # an utterance with fewer has no agreement to speak of
MIN_GROUPS = 2  # a class that occurs in fewer cannot be in training and test rows at once


def no_groups(corpus: Corpus) -> Iterator[Symptom]:
    """See utterances whose group (speaker or dialog) is not known."""
    without = (corpus.utterances["group"] == "").to_numpy()
    n = int(without.sum())
    mend = "import the corpus again with --group COLUMN (speaker or dialog) and --replace"
    if n == len(corpus):
        yield Symptom("warning", n, "no utterance has a group, so folds cannot keep people apart", mend)
    elif n:
        what = f"{n:,} of {len(corpus):,} utterances without a group, {examples(corpus.ids[without])}"
        yield Symptom("warning", n, what, mend)


def groups_across_splits(corpus: Corpus) -> Iterator[Symptom]:
    """See groups, speakers or dialogs that stand in more than one predefined split."""
    table = corpus.utterances[corpus.utterances["split"] != ""]
    seen: list[pd.Series] = []
    for column in ("group", "speaker", "dialog"):
        if column not in table or any(table[column].equals(other) for other in seen):
            continue
        seen.append(table[column])
        pairs = table.loc[table[column] != "", [column, "split"]].drop_duplicates()
        splits = pairs[column].value_counts()
        shared = sorted(splits.index[splits > 1])
        if shared:
            yield Symptom(
                "warning",
                len(shared),
                f"{len(shared):,} of {len(splits):,} values of {column} in more than one predefined split, "
                f"{examples(shared)}",
                "leave the predefined splits: folds that fit-heads makes keep each group on one side",
            )


def media_across_splits(corpus: Corpus) -> Iterator[Symptom]:
    """See recordings (a file from start to end) that share time with one in another predefined split."""
    table = corpus.utterances
    table = table[(table["split"] != "") & (table["media"] != "")]
    table = table[table.groupby("media")["split"].transform("nunique") > 1]
    shared = table["utterance_id"].to_numpy()[_overlap_across(table)]
    if len(shared):
        yield Symptom(
            "error",
            len(shared),
            f"{len(shared):,} utterances whose recording, or a part of it, is in another predefined split too, "
            f"{examples(shared)}",
            "take the repeated rows out of the table and import it again with --replace",
        )


def _overlap_across(table: pd.DataFrame) -> np.ndarray:
    """Return which rows share time of their media entry with a row of another split, shape (N,), bool.

    A row shares time with some of the others where, of those that start before it ends, one ends after it starts: the
    running maximum of the ends, in the order of the starts, tells.
    """
    media = pd.factorize(table["media"])[0]
    bounds = np.concatenate([table["start"].fillna(-np.inf), table["end"].fillna(np.inf)])
    ranks = np.unique(bounds, return_inverse=True)[1].reshape(2, -1)
    start, end = (
        media * (2 * len(table)) + ranks
    )  # the order of time within each media entry, and of the entries
    split, shares = table["split"].to_numpy(), np.zeros(len(table), bool)
    for one in pd.unique(table["split"]):
        mine = split == one
        others = np.flatnonzero(~mine)
        others = others[np.argsort(start[others])]
        latest = np.maximum.accumulate(end[others])
        before = np.searchsorted(start[others], end[mine])
        shares[mine] = (before > 0) & (latest[before - 1] > start[mine])
    return shares


def classes_in_few_groups(corpus: Corpus) -> Iterator[Symptom]:
    """See classes that fewer than two groups have."""
    groups = corpus.utterances["group"]
    if not (groups != "").any():
        return
    for target in corpus.targets:
        if target.kind not in ("nominal", "ordinal"):
            continue
        table = pd.DataFrame({"label": corpus.labels(target.name), "group": groups.to_numpy()})
        pairs = table[table["group"] != ""].drop_duplicates()
        counts = pairs["label"].value_counts().reindex(list(target.classes), fill_value=0)
        few = counts[counts < MIN_GROUPS]
        if len(few):
            named = [f"{label} ({n})" for label, n in few.items()]
            yield Symptom(
                "warning",
                len(few),
                f"{len(few):,} of {len(counts):,} classes of {target.name} in fewer than {MIN_GROUPS} groups, "
                f"{examples(named)}",
                "empty these labels, join them to another class, or group by another column (fit-heads --group)",
            )


def few_ratings(corpus: Corpus) -> Iterator[Symptom]:
    """See utterances with fewer than two ratings, in a corpus that has ratings."""
    if corpus.ratings is None:
        return
    counts = corpus.ratings.groupby("utterance_id")["count"].sum().reindex(corpus.ids, fill_value=0)
    few = counts.index[counts < MIN_RATINGS]
    if len(few):
        yield Symptom(
            "note",
            len(few),
            f"{len(few):,} of {len(corpus):,} utterances with fewer than {MIN_RATINGS} ratings, {examples(few)}",
            "read what is said of raters' agreement as said of the other utterances",
        )
