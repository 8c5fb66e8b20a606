"""Checks of the corpus: groups, splits, classes and ratings. Each yields what it saw, or nothing."""

from __future__ import annotations

from collections.abc import Iterator

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
    """See recordings (the same file from the same start to the same end) in more than one predefined split."""
    table = corpus.utterances
    table = table[(table["split"] != "") & (table["media"] != "")]
    splits = table.groupby(["media", "start", "end"], dropna=False)["split"].transform("nunique")
    shared = table.loc[splits > 1, "utterance_id"].to_numpy()
    if len(shared):
        yield Symptom(
            "error",
            len(shared),
            f"{len(shared):,} utterances whose recording is in another predefined split too, {examples(shared)}",
            "take the repeated rows out of the table and import it again with --replace",
        )


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
