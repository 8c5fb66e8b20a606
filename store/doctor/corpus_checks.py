"""Checks of the corpus: groups, splits, cells, classes and ratings. Each yields what it saw, or nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from mixed_signals.store import cells
from mixed_signals.store.corpus import Corpus
from mixed_signals.store.doctor.findings import Symptom, examples
from mixed_signals.store.targets import shortened

# What tables write where nothing is known. An empty cell says that; these are taken as they stand.
WORDS_FOR_NOTHING = ("NA", "N/A", "nan", "NaN", "None", "NULL", "null")
MIN_RATINGS = 2  # an utterance with fewer has no agreement to speak of
MIN_GROUPS = 2  # a class that occurs in fewer cannot be in training and test rows at once


def no_groups(corpus: Corpus) -> Iterator[Symptom]:
    """See utterances whose group (speaker or dialog) is not known."""
    without = (corpus.utterances["group"] == "").to_numpy()
    n = int(without.sum())
    if n == len(corpus):
        mend = "import the corpus again with --group COLUMN (speaker or dialog) and --replace"
        yield Symptom("warning", n, "no utterance has a group, so folds cannot keep people apart", mend)
    elif n:
        what = f"{n:,} of {len(corpus):,} utterances without a group, {examples(corpus.ids[without])}"
        mend = (
            "fill these cells (where nobody knows who speaks, each with a name of its own) and import again with "
            "--replace; fit-heads refuses such rows, unless --group names a column that is full, or none"
        )
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


def words_for_nothing(corpus: Corpus) -> Iterator[Symptom]:
    """See cells that say NA or None, which are texts, classes and names like any other: only an empty cell is none."""
    table = corpus.utterances
    names = ["text", "label", "group", "split", "speaker", "dialog"]
    names += [target.name for target in corpus.targets if target.kind == "nominal" and target.votes is None]
    columns = [(name, table[name], corpus.ids) for name in dict.fromkeys(names) if name in table]
    if (ratings := corpus.ratings) is not None:
        rated = ratings["utterance_id"].to_numpy(dtype=object)
        columns += [(f"{name} of the ratings", ratings[name], rated) for name in ("rater", "value")]
    seen: list[pd.Series] = []
    for name, column, ids in columns:
        column = cells.texts(column)
        says = column.isin(WORDS_FOR_NOTHING).to_numpy()
        if not says.any() or any(column.equals(other) for other in seen):
            continue
        seen.append(column)
        n = int(says.sum())
        words = ", ".join(sorted(map(repr, set(column[says]))))
        part = "row out" if name == "value of the ratings" else "cell empty"
        yield Symptom(
            "note" if name == "text" else "warning",
            n,
            f"{name} says {words} in {n:,} of {len(column):,} rows, {examples(ids[says])}, and is taken at its word",
            f"where nothing is known, leave the {part} and import again with --replace",
        )


def classes_alike(corpus: Corpus) -> Iterator[Symptom]:
    """See classes of a target that are the same but for case and spaces."""
    for target in corpus.targets:
        spellings: dict[str, list[str]] = {}
        for name in target.classes:
            spellings.setdefault(" ".join(name.casefold().split()), []).append(name)
        alike = [names for names in spellings.values() if len(names) > 1]
        if not alike:
            continue
        if target.votes is not None:
            counts = corpus.votes(target.name).sum(axis=0)
        elif target.kind == "multilabel":
            counts = np.nansum(corpus.labels(target.name), axis=0)
        else:
            counts = (
                pd.Series(corpus.labels(target.name))
                .value_counts()
                .reindex(list(target.classes), fill_value=0)
            )
        n_of = dict(zip(target.classes, counts, strict=True))
        said = [" and ".join(f"{name!r} ({n_of[name]:,.0f})" for name in names) for names in alike]
        yield Symptom(
            "warning",
            sum(map(len, alike)),
            f"classes of {target.name} that differ in case or spaces only: {shortened(said, '; ')}",
            "write each class in one way and import again with --replace, unless they are different classes",
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


def rated_twice(corpus: Corpus) -> Iterator[Symptom]:
    """See raters who rated an utterance again, of which the same was shown to them: each rating counts."""
    if corpus.ratings is None:
        return
    known = corpus.ratings[corpus.ratings["rater"] != ""]
    again = known[known.duplicated(["utterance_id", "rater", "shown"])]
    if len(again):
        named = [
            f"{rater} of {utterance}"
            for rater, utterance in zip(again["rater"], again["utterance_id"], strict=True)
        ]
        yield Symptom(
            "warning",
            len(again),
            f"{len(again):,} of {len(corpus.ratings):,} ratings by a rater who had rated the utterance before, with "
            f"the same shown, {examples(named)}; each counts",
            "keep one rating of a rater, utterance and shown, or give each person a name of their own, and import "
            "again with --replace",
        )
