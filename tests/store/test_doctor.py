"""Each check sees what is planted for it, names it, and sees nothing in a sound store."""

import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mixed_signals.store import (
    Corpus,
    FeatureWriter,
    Recipe,
    Status,
    Store,
    Target,
    blocks,
)
from mixed_signals.store.doctor import CORPUS_CHECKS, FEATURE_CHECKS, N_CHECKS, STORE_CHECKS, examine
from mixed_signals.store.doctor.vectors import scan
from mixed_signals.store.provenance import row_hashes

N, D = 12, 4


def table(**columns):
    return pd.DataFrame(
        {
            "utterance_id": [f"u{i}" for i in range(N)],
            "text": [f"words {i}" for i in range(N)],
            "label": ["calm", "warm"] * (N // 2),
            "group": [f"g{i // 3}" for i in range(N)],
            **columns,
        }
    )


def vectors(seed=0):
    return np.random.default_rng(seed).normal(size=(N, D)).astype(np.float32)


def store_with(folder, utterances=None, **corpus):
    utterances = table() if utterances is None else utterances
    return Store.create(folder / "store", Corpus("planted", utterances, **corpus))


def put(
    store, X, modality="text", name="enc", status=None, reasons=None, hashes=None, dtype="float32", **writer
):
    """Write a feature set of the store's utterances and return it."""
    ids = store.corpus.ids
    if hashes is None:
        texts = store.corpus.utterances["text"]
        hashes = row_hashes("text", texts) if modality == "text" else row_hashes(modality, ids)
    recipe = Recipe(name, modality, store_dtype=dtype)
    path = store.feature_path(modality, name)
    status = np.full(len(ids), Status.OK) if status is None else np.asarray(status)
    names = [f"d{i}" for i in range(X.shape[1])]
    said = None if "source" in writer else store.corpus.entry_hash_bytes(modality)
    with FeatureWriter(path, recipe, ids, hashes, names, entry_hashes=said, **writer) as file:
        rows = np.flatnonzero(status != Status.PENDING)
        said = reasons or [""] * len(ids)
        file.write(rows, X[rows], status[rows], [said[row] for row in rows])
    return store[f"{modality}/{name}"]


def poke(features, row, column, value):
    """Put a value into the file behind everyone's back."""
    block = features.blocks["embedding"]
    with features.path.open("r+b") as file:
        file.seek(block.offset + row * block.row_bytes + column * block.dtype.itemsize)
        file.write(np.array(value, block.dtype).tobytes())


def found(store):
    return {(one.where, one.check): one for one in examine(store)}


def only(store):
    """Return the one finding of a store that has one fault."""
    (one,) = examine(store)
    return one


def test_a_sound_store_gives_no_finding(tmp_path):
    store = store_with(tmp_path)
    put(store, vectors())
    put(store, vectors(1), "audio")
    assert examine(store) == []
    assert len(CORPUS_CHECKS) + len(FEATURE_CHECKS) + len(STORE_CHECKS) + 1 == N_CHECKS


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_in_an_ok_row_is_an_error(tmp_path, value):
    store = store_with(tmp_path)
    features = put(store, vectors())
    poke(features, 4, 2, value)
    one = only(store)
    assert (one.severity, one.where, one.check, one.count) == ("error", "text/enc", "not-finite", 1)
    assert "u4" in one.what
    assert "remove the file" in one.mend


def test_what_is_not_ok_may_be_nan(tmp_path):
    store = store_with(tmp_path)
    status = np.full(N, Status.OK)
    status[:3] = [Status.PENDING, Status.MISSING, Status.FAILED]
    put(store, vectors(), status=status)
    assert not {check for _, check in found(store)} & {"not-finite", "identical-vectors"}


def test_infinity_in_float16_is_told_from_other_faults(tmp_path):
    store = store_with(tmp_path)
    features = put(store, vectors(), dtype="float16")
    poke(features, 2, 0, np.inf)
    poke(features, 3, 0, np.nan)
    checks = found(store)
    assert "u2" in checks["text/enc", "float16-overflow"].what
    assert "u3" in checks["text/enc", "not-finite"].what
    assert checks["text/enc", "not-finite"].count == 1


def test_values_that_float16_cannot_hold_are_a_note(tmp_path):
    store = store_with(tmp_path)
    X = vectors()
    X[5, 1] = -65505
    put(store, X)
    one = only(store)
    assert (one.severity, one.check, one.count) == ("note", "too-large-for-float16", 1)
    assert "d1" in one.what


def test_dimensions_that_never_vary(tmp_path):
    store = store_with(tmp_path)
    X = vectors()
    X[:, 1], X[:, 2], X[:, 3] = 0, 2.5, -1
    put(store, X)
    checks = found(store)
    zero, constant = checks["text/enc", "zero-dimensions"], checks["text/enc", "constant-dimensions"]
    assert (zero.severity, zero.count, constant.severity, constant.count) == ("warning", 1, "note", 2)
    assert "d1" in zero.what
    assert "d2, d3" in constant.what


def test_one_vector_in_all_rows_is_one_error_and_not_four(tmp_path):
    store = store_with(tmp_path)
    put(store, np.zeros((N, D), np.float32))
    assert (only(store).check, only(store).severity) == ("one-vector", "error")


def test_vectors_of_zeros_are_a_warning_and_not_taken_for_one_vector(tmp_path):
    store = store_with(tmp_path)
    X = vectors()
    X[[2, 7]] = [[0], [-0.0]]
    X[4, 0] = 0
    put(store, X)
    one = only(store)
    assert (one.severity, one.check, one.count) == ("warning", "zero-vectors", 2)
    assert "u2, u7" in one.what


def test_one_vector_of_several_utterances(tmp_path):
    store = store_with(tmp_path)
    X = vectors()
    X[7] = X[3]
    put(store, X)
    put(store, X, "audio")
    checks = found(store)
    for key in ("text/enc", "audio/enc"):
        assert (checks[key, "identical-vectors"].severity, checks[key, "identical-vectors"].count) == (
            "warning",
            2,
        )
        assert "u3 = u7" in checks[key, "identical-vectors"].what


@pytest.mark.parametrize("again", ["words 3", " Words  3"])
def test_utterances_that_share_a_text_may_share_a_vector(tmp_path, again):
    store = store_with(tmp_path, table(text=[f"words {i}" if i != 7 else again for i in range(N)]))
    X = vectors()
    X[7] = X[3]
    put(store, X)
    one = only(store)
    assert (one.severity, one.check, one.count) == ("note", "identical-vectors", 2)
    assert "same text" in one.what


def test_vectors_made_elsewhere_are_compared_by_what_the_corpus_knows(tmp_path):
    media = [f"{i}.wav" for i in range(N)]
    media[4] = media[5]
    store = store_with(tmp_path, table(media=media))
    X = vectors()
    X[4], X[7] = X[5], X[3]
    by_vector = row_hashes("", [vector.tobytes() for vector in X])
    put(store, X, "video", hashes=by_vector, source={"imported_from": "x.npz"})
    warning, note = examine(store)
    assert (warning.severity, note.severity) == ("warning", "note")
    assert warning.what == (
        "2 utterances with the vector of another one with which they share no media and times in the corpus, e.g. "
        "u3 = u7"
    )
    assert note.what == "2 utterances with the same media and times as another, e.g. u4 = u5"


@pytest.mark.parametrize("source", [{}, {"imported_from": "x.npz"}], ids=["made here", "imported"])
def test_only_of_vectors_made_here_it_is_known_what_of(tmp_path, source):
    store = store_with(tmp_path)
    X = vectors()
    X[7] = X[3]
    put(store, X, source=source)
    assert ("made of something else" in only(store).what) == (not source)


def test_imported_vectors_of_texts_that_the_corpus_does_not_have_share_none(tmp_path):
    store = store_with(tmp_path, table(text=""))
    X = vectors()
    X[7] = X[3]
    put(store, X, source={"imported_from": "x.npz"})
    one = only(store)
    assert (one.severity, one.count) == ("warning", 2)
    assert "share no text in the corpus, e.g. u3 = u7" in one.what


def test_rows_without_a_vector_are_counted_with_their_reasons(tmp_path):
    store = store_with(tmp_path)
    status = np.full(N, Status.OK)
    status[:7] = [Status.FAILED] * 3 + [Status.MISSING] * 2 + [Status.PENDING] * 2
    reasons = ["no sound", "no sound", "broken file", "no face", "no face", *[""] * 7]
    put(store, vectors(), "video", status=status, reasons=reasons)
    checks = found(store)
    failed = checks["video/enc", "failed-rows"]
    assert failed.what == "3 of 12 rows failed: 2 no sound, 1 broken file; e.g. u0, u1, u2"
    assert "--retry-failed" in failed.mend
    assert checks["video/enc", "missing-rows"].what == "2 of 12 rows missing: no face; e.g. u3, u4"
    assert checks["video/enc", "pending-rows"].what == "2 of 12 rows pending; e.g. u5, u6"
    severities = [checks["video/enc", f"{name}-rows"].severity for name in ("failed", "missing", "pending")]
    assert severities == ["warning", "note", "warning"]


def test_a_set_without_a_vector_is_an_error(tmp_path):
    store = store_with(tmp_path)
    put(store, vectors(), "audio", status=[Status.FAILED] * N, reasons=["no sound"] * N)
    assert found(store)["audio/enc", "no-vector"].severity == "error"


def test_a_set_for_another_corpus(tmp_path):
    put(store_with(tmp_path), vectors(), "audio")
    ids = ["x0", "x1", *[f"u{i}" for i in range(2, N)]]
    store = Store.create(tmp_path / "store", Corpus("other", table(utterance_id=ids)), replace=True)
    checks = found(store)
    assert (checks["audio/enc", "strangers"].severity, checks["audio/enc", "strangers"].count) == ("error", 2)
    assert "u0, u1" in checks["audio/enc", "strangers"].what
    assert "x0, x1" in checks["audio/enc", "absent-rows"].what


def test_texts_that_changed_since(tmp_path):
    put(store_with(tmp_path), vectors())
    texts = ["other words" if i == 5 else f"words {i}" for i in range(N)]
    store = Store.create(tmp_path / "store", Corpus("planted", table(text=texts)), replace=True)
    one = only(store)
    assert (one.severity, one.check, one.count) == ("error", "changed-texts", 1)
    assert "u5" in one.what


@pytest.mark.parametrize(("column", "value"), [("media", "new.wav"), ("start", 1.0), ("end", 5.0)])
def test_media_that_are_cut_otherwise_since(tmp_path, column, value):
    rows = table(media=[f"{i}.wav" for i in range(N)], start=0.0, end=9.0)
    put(store_with(tmp_path, rows), vectors(), "audio", status=[Status.OK] * (N - 1) + [Status.PENDING])
    rows.loc[[0, N - 1], column] = value
    store = Store.create(tmp_path / "store", Corpus("planted", rows), replace=True)
    one = found(store)["audio/enc", "changed-cuts"]
    assert (one.severity, one.count) == ("error", 1)
    assert "1 utterances' media, start or end changed since it was made, e.g. u0" in one.what


def test_nobody_knows_what_changed_of_vectors_made_elsewhere(tmp_path):
    put(store_with(tmp_path), vectors(), source={"imported_from": "x.npz"})
    store = Store.create(tmp_path / "store", Corpus("planted", table(text="another")), replace=True)
    assert examine(store) == []


def test_weights_that_were_trained_on_the_corpus(tmp_path):
    store = store_with(tmp_path)
    put(store, vectors(), trained_on=["u1", "u2", "someone else's"])
    one = only(store)
    assert (one.severity, one.check, one.count) == ("warning", "trained-on-corpus", 2)


def test_versions_that_are_not_installed_now(tmp_path):
    store = store_with(tmp_path)
    put(store, vectors(), versions={"numpy": np.__version__, "pandas": "0.1", "no-such-library": "1"})
    one = only(store)
    assert (one.severity, one.check, one.count) == ("note", "other-versions", 1)
    assert f"pandas 0.1 (now {pd.__version__})" in one.what


def test_a_file_that_cannot_be_read_is_an_error_and_the_others_are_examined(tmp_path):
    store = store_with(tmp_path)
    features = put(store, vectors())
    poke(put(store, vectors(1), "audio"), 0, 0, np.nan)
    os.truncate(features.path, 100)
    checks = found(store)
    assert checks["text/enc", "readable"].severity == "error"
    assert "enc.h5" in checks["text/enc", "readable"].what
    assert ("audio/enc", "not-finite") in checks


def test_a_corpus_that_cannot_be_read_ends_the_examination(tmp_path):
    store = store_with(tmp_path)
    (store.path / "utterances.parquet").write_bytes(b"no table")
    (finding,) = examine(Store.open(store.path))
    assert (finding.severity, finding.where, finding.check) == ("error", "corpus", "readable")
    assert "utterances.parquet" in finding.what


@pytest.mark.parametrize("n_without", [N, 2])
def test_utterances_without_a_group(tmp_path, n_without):
    group = ["" if i < n_without else f"g{i // 3}" for i in range(N)]
    one = only(store_with(tmp_path, table(group=group)))
    assert (one.severity, one.check, one.count) == ("warning", "no-groups", n_without)
    assert "--group" in one.mend
    assert ("fill these cells" in one.mend) == (n_without < N)


WORDS = ["NA", "N/A", "nan", "NaN", "None", "NULL", "null"]


@pytest.mark.parametrize("column", ["text", "label", "group", "split", "speaker", "dialog", "mood"])
def test_cells_that_say_a_word_for_nothing_are_counted(tmp_path, column):
    rows = table(mood=["u", "v"] * (N // 2))
    cells = [""] * N if column in ("split", "speaker", "dialog") else list(rows[column])
    cells[2 : 2 + len(WORDS)] = WORDS
    corpus = Corpus("planted", rows.assign(**{column: cells}), declared=(Target("mood", "nominal"),))
    (one,) = CORPUS_CHECKS["words-for-nothing"](corpus)
    assert (one.severity, one.count) == ("note" if column == "text" else "warning", len(WORDS))
    words = "'N/A', 'NA', 'NULL', 'NaN', 'None', 'nan', 'null'"
    assert one.what == f"{column} says {words} in 7 of 12 rows, e.g. u2, u3, u4, and is taken at its word"
    assert "leave the cell empty" in one.mend


def test_words_for_nothing_in_ratings_are_counted_and_a_column_kept_twice_is_named_once(tmp_path):
    rated = pd.DataFrame({"utterance_id": ["u0", "u3"], "value": ["calm", "NA"], "rater": ["null", "r"]})
    label = ["None", *["calm"] * (N - 1)]
    declared = (Target("feels", "nominal"), Target("crowd", "nominal", votes="any"))
    corpus = Corpus("planted", table(label=label, feels=label, other="NA"), rated, declared=declared)
    found = {one.what.partition(" in ")[0]: one for one in CORPUS_CHECKS["words-for-nothing"](corpus)}
    assert list(found) == [
        "label says 'None'",
        "rater of the ratings says 'null'",
        "value of the ratings says 'NA'",
    ]
    assert "e.g. u0" in found["rater of the ratings says 'null'"].what
    assert "e.g. u3" in found["value of the ratings says 'NA'"].what
    assert "leave the row out" in found["value of the ratings says 'NA'"].mend  # an empty one is refused


def test_classes_that_differ_in_case_or_spaces_only_are_named_with_their_counts(tmp_path):
    rated = pd.DataFrame({"utterance_id": ["u0", "u1"], "value": ["Yes", "yes"], "count": [3, 2]})
    rows = table(
        label=["Sad", "sad", "SAD ", "very sad", "very  sad", "calm", *["sad"] * 6],
        m=["Joy|calm", "joy", "", *["joy|calm"] * 9],
        fine=["a", "b"] * 6,
    )
    declared = (
        Target("m", "multilabel"),
        Target("fine", "nominal"),
        Target("crowd", "nominal", votes="any"),
    )
    found = list(CORPUS_CHECKS["classes-alike"](Corpus("planted", rows, rated, declared=declared)))
    assert [(one.severity, one.count) for one in found] == [("warning", 5), ("warning", 2), ("warning", 2)]
    same = "that differ in case or spaces only:"
    assert [one.what for one in found] == [
        f"classes of label {same} 'SAD' (1) and 'Sad' (1) and 'sad' (7); 'very  sad' (1) and 'very sad' (1)",
        f"classes of m {same} 'Joy' (1) and 'joy' (10)",
        f"classes of crowd {same} 'Yes' (3) and 'yes' (2)",
    ]


def test_groups_and_speakers_in_two_splits(tmp_path):
    split = ["train"] * 5 + ["test"] * 7  # g1 is rows 3 to 5
    speaker = ["ann", "bob"] * (N // 2)
    checks = examine(store_with(tmp_path, table(split=split, speaker=speaker)))
    assert [(one.check, one.severity, one.count) for one in checks] == [
        ("groups-across-splits", "warning", 1),
        ("groups-across-splits", "warning", 2),
    ]
    assert "1 of 4 values of group" in checks[0].what
    assert "g1" in checks[0].what
    assert "ann, bob" in checks[1].what


def test_a_column_that_is_the_group_again_is_not_reported_again(tmp_path):
    rows = table(split=["train"] * 5 + ["test"] * 7)
    assert len(examine(store_with(tmp_path, rows.assign(speaker=rows["group"])))) == 1


def test_one_recording_in_two_splits(tmp_path):
    split = ["train"] * 6 + ["test"] * 6
    media = [f"{i}.wav" for i in range(N)]
    media[9], media[10] = media[0], media[1]
    start, end = [np.nan] * N, [np.nan] * N
    end[1] = start[10] = 1.0  # another stretch of the file
    one = only(store_with(tmp_path, table(split=split, media=media, start=start, end=end)))
    assert (one.severity, one.check, one.count) == ("error", "media-across-splits", 2)
    assert "u0, u9" in one.what


times = st.sampled_from([np.nan, 0.5, 1.0, 1.5, 2.0])


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), times, times, st.sampled_from(["train", "valid", "test"])),
        min_size=1,
        max_size=9,
    )
)
def test_recordings_that_share_time_across_splits_are_those_that_a_plain_loop_finds(rows):
    rows = [row for row in rows if not row[2] <= np.nan_to_num(row[1])]
    if not rows:
        return
    media, start, end, split = zip(*rows, strict=True)
    ids = [f"u{i}" for i in range(len(rows))]
    corpus = Corpus(
        "c", pd.DataFrame({"utterance_id": ids, "media": media, "start": start, "end": end, "split": split})
    )
    begins, ends = np.nan_to_num(start), np.nan_to_num(end, nan=np.inf)
    expected = sum(
        any(
            media[i] == media[j] and split[i] != split[j] and begins[i] < ends[j] and begins[j] < ends[i]
            for j in range(len(rows))
        )
        for i in range(len(rows))
    )
    assert sum(one.count for one in CORPUS_CHECKS["media-across-splits"](corpus)) == expected


def test_classes_that_one_group_has_alone(tmp_path):
    label = ["calm", "warm"] * (N // 2)
    label[0], label[1] = "odd", "odd"
    effort = ["low", "high"] * (N // 2)
    declared = (Target("effort", "ordinal", ("low", "mid", "high")),)
    checks = examine(store_with(tmp_path, table(label=label, effort=effort), declared=declared))
    said = {one.what: one.severity for one in checks}
    assert said == {
        "1 of 3 classes of label in fewer than 2 groups, e.g. odd (1)": "warning",
        "1 of 3 classes of effort in fewer than 2 groups, e.g. mid (0)": "warning",
    }


def test_utterances_with_fewer_than_two_ratings(tmp_path):
    ratings = pd.DataFrame(
        {
            "utterance_id": [f"u{i}" for i in range(1, N)] + ["u1"],
            "value": "calm",
            "count": [1] + [2] * (N - 2) + [1],
        }
    )
    one = only(store_with(tmp_path, ratings=ratings))
    assert (one.severity, one.check, one.count) == ("note", "few-ratings", 1)
    assert "u0" in one.what


def test_a_rater_who_rates_an_utterance_twice_with_the_same_shown(tmp_path):
    rows = [
        *[("u0", "ann", "audio"), ("u0", "ann", "text"), ("u0", "bob", "audio"), ("u1", "ann", "audio")],
        *[("u2", "", "audio"), ("u2", "", "audio"), ("u3", "ann", "video+audio")],
    ]
    repeated = [("u0", "ann", "audio"), ("u3", "ann", "audio+video")]
    look = CORPUS_CHECKS["rated-twice"]

    def rated(rows):
        ratings = pd.DataFrame(rows, columns=["utterance_id", "rater", "shown"]).assign(value="calm")
        return Corpus("planted", table(), ratings)

    assert list(look(rated(rows))) == []
    (one,) = look(rated(rows + repeated))
    assert (one.severity, one.count) == ("warning", 2)
    assert one.what.startswith("2 of 9 ratings by a rater who had rated the utterance before")
    assert "e.g. ann of u0, ann of u3" in one.what
    assert "keep one rating" in one.mend


def test_errors_come_first_and_notes_last(tmp_path):
    rows = table(split=["train"] * 5 + ["test"] * 7)
    store = store_with(tmp_path, rows)
    X = vectors()
    X[:, 1] = 3
    poke(put(store, X), 0, 0, np.nan)
    assert [one.severity for one in examine(store)] == ["error", "warning", "note"]


VALUES = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(max_examples=60)
@given(
    X=arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 5)), elements=VALUES),
    data=st.data(),
    half=st.booleans(),
)
def test_reading_in_blocks_finds_what_reading_at_once_finds(X, data, half):
    class Set:
        shape, dtype = X.shape, np.dtype(np.float16 if half else np.float32)
        ok = data.draw(arrays(bool, len(X)))

    with np.errstate(over="ignore"):
        Set.stored = X = X.astype(Set.dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_BLOCK_BYTES", 3 * X.shape[1] * X.itemsize)
        seen = []
        result = scan(Set(), seen.append)
    finite = np.isfinite(X).all(axis=1)
    sound = X[Set.ok & finite].astype(np.float64)
    overflowed = Set.ok & ~finite & ~np.isnan(X).any(axis=1) & half
    assert result.rows.tolist() == np.flatnonzero(Set.ok & finite).tolist()
    assert result.overflowed.tolist() == np.flatnonzero(overflowed).tolist()
    assert result.bad.tolist() == np.flatnonzero(Set.ok & ~finite & ~overflowed).tolist()
    assert result.zero.tolist() == [row for row in result.rows if not X[row].any()]
    assert (result.low == sound.min(axis=0, initial=np.inf)).all()
    assert (result.high == sound.max(axis=0, initial=-np.inf)).all()
    assert sum(seen) == len(X)
    assert max(seen) <= 3
