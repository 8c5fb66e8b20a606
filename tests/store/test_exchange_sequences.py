"""Computational sequences of the CMU Multimodal SDK: pooled over the steps of each utterance."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from exchange_files import csd_file, refusal
from small_store import utterance_table

from mixed_signals.store import (
    Corpus,
    Store,
    UsageError,
    import_features,
)


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "s", Corpus("c", utterance_table(4, 2)))


def test_entries_called_as_utterances_are_pooled_over_all_their_steps(tmp_path):
    table = utterance_table(4, 2).assign(utterance_id=["v[0]", "v[1]", "w[0]", "w[1]"])
    store = Store.create(tmp_path / "s", Corpus("c", table))
    source = csd_file(
        tmp_path / "x.csd",
        {
            "v[0]": ([[1.0, 2], [3, 4], [np.nan, 50]], [[0, 1], [1, 2], [2, 3]]),
            "w[0]": ([[np.inf, 0.0]], [[0, 1]]),
            "w[1]": (np.zeros((0, 2)), np.zeros((0, 2))),
        },
    )
    features = import_features(store, source, "video", "openface")
    assert list(features.dimensions) == ["openface_0", "openface_1"]
    np.testing.assert_array_equal(features.embedding[0], [2, 3])
    assert features.status.tolist() == [1, 2, 3, 2]


def test_entries_called_as_videos_are_cut_at_the_utterances_times(tmp_path):
    table = utterance_table(4, 2).assign(
        video=["a", "a", "a", "b"], start=[0, 1.5, 90, np.nan], end=[1.0, 2.5, 99, np.nan]
    )
    store = Store.create(tmp_path / "s", Corpus("c", table))
    seconds = np.arange(4.0)
    entries = {
        "a": (seconds[:, None], np.stack([seconds, seconds + 1], axis=1)),
        "b": (10 + seconds[:, None], np.stack([seconds, seconds], axis=1)),
    }
    source = csd_file(tmp_path / "x.csd", entries)
    assert "--entry" in refusal(store, source, UsageError)
    features = import_features(store, source, "audio", "covarep", entry="video")
    np.testing.assert_array_equal(features.embedding[[0, 1, 3], 0], [0, 1.5, 11.5])
    assert features.status.tolist() == [1, 1, 2, 1]
    assert features.provenance["entry"] == "video"
    csd_file(source, entries | {"elsewhere": entries["a"]})
    assert "1 of 3 entries are not in the corpus, e.g. elsewhere" in refusal(store, source, entry="video")
    assert import_features(store, source, "audio", "more", entry="video", ignore_extra=True).ok.sum() == 3
    foreign = Store.create(tmp_path / "foreign", Corpus("c", table.assign(video=["", "y", "z", "x"])))
    said = refusal(foreign, source, UsageError, entry="video", ignore_extra=True)
    assert "none of its 3 entries is in the corpus: it has 'a', the corpus 'x'; write them as" in said
    assert "name it with --entry" in refusal(foreign, source, UsageError)
    late = Store.create(tmp_path / "late", Corpus("c", table.assign(start=50, end=60)))
    del entries["b"]
    assert "no step for any utterance" in refusal(late, csd_file(source, entries), entry="video")
    with pytest.raises(UsageError, match="--entry: no column 'film'"):
        import_features(store, source, "audio", "refused", entry="film")


def test_a_file_of_several_sequences_needs_a_key(store, tmp_path):
    source = csd_file(tmp_path / "x.csd", {"u000": ([[1.0]], [[0, 1]])}, name="one")
    with h5py.File(source, "a") as file:
        file["two/data/u000/features"] = [[2.0]]
    assert "2 sequences (one, two); choose one with --key" in refusal(store, source, UsageError)
    assert import_features(store, source, "audio", "two", key="two").embedding[0, 0] == 2


def soft(file, entry):
    entry["features"] = h5py.SoftLink("/seq/secret")


def external(file, entry):
    entry["features"] = h5py.ExternalLink(str(Path(file.filename).with_name("other.h5")), "secret")


def external_storage(file, entry):
    other = str(Path(file.filename).with_name("other.bin"))
    entry.create_dataset("features", (2, 2), "f8", external=[(other, 0, 32)])


def virtual(file, entry):
    layout = h5py.VirtualLayout((2, 2), "f8")
    layout[:] = h5py.VirtualSource(str(Path(file.filename).with_name("other.h5")), "secret", (2, 2))
    entry.create_virtual_dataset("features", layout)


def absurd(file, entry):
    entry.create_dataset("features", (10**9, 1000), "f8", chunks=(1000, 100))


def text(file, entry):
    entry["features"] = np.array([["word"]], dtype=h5py.string_dtype())


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (soft, "link"),
        (external, "link"),
        (external_storage, "another file"),
        (virtual, "another file"),
        (absurd, "claims 8,000,000,000,000 bytes"),
        (text, "expected numbers"),
    ],
)
def test_a_sequence_that_leads_elsewhere_is_refused(store, tmp_path, place, said):
    source = tmp_path / "x.csd"
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = np.ones((2, 2))
    (tmp_path / "other.bin").write_bytes(bytes(32))
    with h5py.File(source, "w") as file:
        file["seq/secret"] = np.ones((2, 2))
        place(file, file.create_group("seq/data/u000"))
    assert said in refusal(store, source, UsageError)
