"""Is anything wrong with a store? Checks of its corpus, of every feature set, and of shards left over.

A check is one small function that yields symptoms and one line of a registry here. Vectors are read once, in blocks.

An *error* cannot be used as it is, a *warning* would mislead, a *note* is worth knowing. Thresholds: a class is to
occur in 2 groups or more, an utterance to have 2 ratings or more, a dimension is judged constant over 2 rows or more,
and float16 holds magnitudes up to 65,504.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd

from mixed_signals.store.corpus import Corpus
from mixed_signals.store.doctor import corpus_checks, coverage, vectors
from mixed_signals.store.doctor.findings import SEVERITIES, Finding, Symptom
from mixed_signals.store.doctor.vectors import Subject
from mixed_signals.store.errors import MixedSignalsError
from mixed_signals.store.folder import Store

__all__ = ["CORPUS_CHECKS", "FEATURE_CHECKS", "N_CHECKS", "SEVERITIES", "STORE_CHECKS", "Finding", "examine"]

CORPUS_CHECKS: dict[str, Callable[[Corpus], Iterator[Symptom]]] = {
    "no-groups": corpus_checks.no_groups,
    "groups-across-splits": corpus_checks.groups_across_splits,
    "media-across-splits": corpus_checks.media_across_splits,
    "classes-in-few-groups": corpus_checks.classes_in_few_groups,
    "words-for-nothing": corpus_checks.words_for_nothing,
    "classes-alike": corpus_checks.classes_alike,
    "few-ratings": corpus_checks.few_ratings,
    "rated-twice": corpus_checks.rated_twice,
}
FEATURE_CHECKS: dict[str, Callable[[Subject], Iterator[Symptom]]] = {
    "no-vector": coverage.no_vector,
    "strangers": coverage.strangers,
    "changed-texts": coverage.changed_texts,
    "changed-cuts": coverage.changed_cuts,
    "absent-rows": coverage.absent_rows,
    "pending-rows": coverage.pending_rows,
    "failed-rows": coverage.failed_rows,
    "missing-rows": coverage.missing_rows,
    "trained-on-corpus": coverage.trained_on_corpus,
    "aligned-frames": coverage.aligned_frames,
    "other-versions": coverage.other_versions,
    "not-finite": vectors.not_finite,
    "float16-overflow": vectors.float16_overflow,
    "too-large-for-float16": vectors.too_large_for_float16,
    "one-vector": vectors.one_vector,
    "zero-vectors": vectors.zero_vectors,
    "zero-dimensions": vectors.zero_dimensions,
    "constant-dimensions": vectors.constant_dimensions,
    "identical-vectors": vectors.identical_vectors,
}
STORE_CHECKS: dict[str, Callable[[Store], Iterator[tuple[str, Symptom]]]] = {
    "unmerged-shards": coverage.unmerged_shards,
}
_READABLE = "readable"
N_CHECKS = len(CORPUS_CHECKS) + len(FEATURE_CHECKS) + len(STORE_CHECKS) + 1


def examine(store: Store, on_progress: Callable[[int], None] | None = None) -> list[Finding]:
    """Look a store over.

    Parameters
    ----------
    store : Store
    on_progress : callable, optional
        Called with the number of rows just read.

    Returns
    -------
    list of Finding
        Errors first, then warnings, then notes; empty where all is well. Of a corpus that cannot be read, that alone.
    """
    try:
        corpus = store.corpus
    except MixedSignalsError as error:
        mend = "import the corpus again with mixed-signals corpus import --replace"
        return [Finding("error", "corpus", str(error), mend, _READABLE, 1)]
    found = [
        Finding(s.severity, "corpus", s.what, s.mend, check, s.count)
        for check, look in CORPUS_CHECKS.items()
        for s in look(corpus)
    ]
    found += [
        Finding(s.severity, key, s.what, s.mend, check, s.count)
        for check, look in STORE_CHECKS.items()
        for key, s in look(store)
    ]
    index = pd.Index(corpus.ids)
    for key in store.feature_sets():
        try:
            features = store[key]
            position = index.get_indexer(pd.Index(features.ids))
            subject = Subject(features, corpus, position, vectors.scan(features, on_progress))
            found += [
                Finding(s.severity, key, s.what, s.mend, check, s.count)
                for check, look in FEATURE_CHECKS.items()
                for s in look(subject)
            ]
        except MixedSignalsError as error:
            mend = "remove the file, then extract or import it again"
            found.append(Finding("error", key, str(error), mend, _READABLE, 1))
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))
