"""Checks of a feature set against its corpus: which utterances it has, what it was made of, and with what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from mixed_signals.store.cross_fits import ALIGNED, LEFT_OUT
from mixed_signals.store.doctor.findings import EXAMPLES, Severity, Symptom, examples
from mixed_signals.store.doctor.vectors import Subject
from mixed_signals.store.features import Status
from mixed_signals.store.folder import Store
from mixed_signals.store.provenance import library_versions
from mixed_signals.store.terminal import counted


def unmerged_shards(store: Store) -> Iterator[tuple[str, Symptom]]:
    """See shards that are not part of their feature set yet."""
    for key, shards in store.unmerged().items():
        what = f"{counted(len(shards), 'shard')} not merged (of {shards[-1].of:,})"
        mend = f"mixed-signals store merge STORE {key}, once every shard is done"
        yield key, Symptom("warning", len(shards), what, mend)


def no_vector(subject: Subject) -> Iterator[Symptom]:
    """See a set without a single vector."""
    features = subject.features
    if not features.ok.any():
        mend = f"mixed-signals store show STORE {features.key} says why; mend that, then {subject.remake}"
        yield Symptom("error", len(features), f"none of {len(features):,} rows is ok", mend)


def strangers(subject: Subject) -> Iterator[Symptom]:
    """See utterances that the corpus does not have."""
    rows = np.flatnonzero(subject.position < 0)
    if len(rows):
        features = subject.features
        what = (
            f"{len(rows):,} of {len(features):,} ids not in corpus {subject.corpus.name}, "
            f"{examples(features.ids[rows])}"
        )
        mend = f"run {features.command} again: it drops them (or import the corpus it was made for, with --replace)"
        yield Symptom("error", len(rows), what, subject.remake if subject.imported else mend)


def absent_rows(subject: Subject) -> Iterator[Symptom]:
    """See utterances of the corpus that have no row at all."""
    has_row = np.zeros(len(subject.corpus), dtype=bool)
    has_row[subject.position[subject.position >= 0]] = True
    ids = subject.corpus.ids[~has_row]
    if len(ids):
        what = f"{len(ids):,} of {len(has_row):,} utterances without a row, {examples(ids)}"
        mend = f"run {subject.features.command} again: it makes what is new"
        yield Symptom("warning", len(ids), what, subject.remake if subject.imported else mend)


def pending_rows(subject: Subject) -> Iterator[Symptom]:
    """See rows that are not done yet."""
    mend = f"run {subject.features.command} again: it goes on where it stopped"
    yield from _without_vector(
        subject, Status.PENDING, "warning", subject.remake if subject.imported else mend
    )


def failed_rows(subject: Subject) -> Iterator[Symptom]:
    """See rows that failed, and why."""
    mend = "see to what the reasons name, then run extract-features with --retry-failed"
    yield from _without_vector(
        subject, Status.FAILED, "warning", subject.remake if subject.imported else mend
    )


def missing_rows(subject: Subject) -> Iterator[Symptom]:
    """See rows whose utterance has nothing in this modality."""
    mend = "nothing, if so it is; fit-heads --missing mask keeps these utterances for the models that can see them"
    yield from _without_vector(subject, Status.MISSING, "note", mend)


def changed_texts(subject: Subject) -> Iterator[Symptom]:
    """See vectors of texts that the corpus no longer has."""
    if subject.features.modality == "text":
        yield from _changed(subject, "texts")


def changed_cuts(subject: Subject) -> Iterator[Symptom]:
    """See vectors of media that the corpus now cuts at other times, or takes from another file."""
    if subject.features.modality != "text":
        yield from _changed(subject, "utterances' media, start or end")


def _changed(subject: Subject, things: str) -> Iterator[Symptom]:
    """See rows of which the corpus says something else than when they were made (elsewhere: nobody knows)."""
    features = subject.features
    changed = np.flatnonzero(subject.changed)
    if len(changed):
        what = f"{len(changed):,} {things} changed since it was made, {examples(features.ids[changed])}"
        mend = f"run {subject.features.command} again: it makes only the changed rows"
        yield Symptom("error", len(changed), what, subject.remake if subject.imported else mend)


def trained_on_corpus(subject: Subject) -> Iterator[Symptom]:
    """See an encoder whose weights were trained on utterances of this corpus."""
    trained_on = set(subject.features.trained_on)
    seen = [utterance for utterance in subject.corpus.ids if utterance in trained_on]
    if seen:
        what = (
            f"the encoder's weights were trained on {len(seen):,} of {len(subject.corpus):,} utterances, "
            f"{examples(seen)}"
        )
        if subject.features.cross_fitted:
            yield Symptom(
                "note", len(seen), what, "nothing: it is for one fold, which tests on none of these"
            )
            return
        mend = "test on other utterances only, or extract with weights that saw none of these"
        yield Symptom("warning", len(seen), what, mend)


def aligned_frames(subject: Subject) -> Iterator[Symptom]:
    """See vectors of several encoders that were brought into one frame."""
    if subject.features.aligned:
        mend = "say so wherever results on them are told, or make others without --align"
        yield Symptom("note", len(subject.features), ALIGNED, mend)


def other_versions(subject: Subject) -> Iterator[Symptom]:
    """See libraries that were of another version when rows were made."""
    used: dict[str, set[str]] = {}
    for versions in subject.features.provenance.get("versions", []):
        for library, version in versions.items():
            used.setdefault(library, set()).add(version)
    installed = library_versions(used)
    other = [
        f"{library} {' and '.join(sorted(used[library]))} (now {installed[library]})"
        for library in installed
        if used[library] != {installed[library]}
    ]
    if other:
        what = "made with other versions than are installed: " + ", ".join(other)
        mend = (
            "nothing, as long as rows of one version are compared; to make all of them again, "
            + subject.remake
        )
        yield Symptom("note", len(other), what, mend)


def _without_vector(subject: Subject, status: Status, severity: Severity, mend: str) -> Iterator[Symptom]:
    features = subject.features
    rows = np.flatnonzero((features.status == status) & ~np.isin(features.reasons, list(LEFT_OUT)))
    if not len(rows):
        return
    reasons = Counter(features.reasons[rows])
    named = (
        [f"{n:,} {reason}" for reason, n in reasons.most_common(EXAMPLES)]
        if len(reasons) > 1
        else list(reasons)
    )
    why = f": {', '.join(named)}{', ...' if len(reasons) > EXAMPLES else ''}" if any(reasons) else ""
    what = (
        f"{len(rows):,} of {len(features):,} rows {status.name.lower()}{why}; {examples(features.ids[rows])}"
    )
    yield Symptom(severity, len(rows), what, mend)
