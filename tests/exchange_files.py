"""Files of vectors as others write them, and imports that have to fail."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pytest

from mixed_signals.store import MixedSignalsError, import_features

IDS = ["u000", "u001", "u002", "u003"]


def save_npz(path, ids, vectors, **more):
    np.savez(path, utterance_id=np.array(ids), embedding=np.array(vectors), **more)
    return path


def mmsa_file(path, protocol=4, **changes):
    """Two splits; steps of utterance i are i + 1, and 9 after its length; the third is all zero, of length 1."""
    audio = np.full((4, 5, 2), 9.0, np.float32)
    lengths = [5, 3, 1, 1]
    for i, length in enumerate(lengths):
        audio[i, :length] = i + 1
    audio[2] = 0
    audio[3, 0, 1] = -np.inf
    audio[1, 2] = [np.inf, 100]
    content = {
        "train": {
            "id": IDS[:3],
            "raw_text": np.array(["a", "b", "c"], dtype=object),
            "text": np.ones((3, 2, 4), np.float32),
            "audio": np.asfortranarray(audio[:3]),
            "audio_lengths": lengths[:3],
            "regression_labels": np.array([0.5, -1.0, 3.0], np.float32),
        },
        "test": {
            "id": np.array(IDS[3:]),
            "text": np.ones((1, 2, 4), ">f8"),
            "audio": audio[3:],
            "audio_lengths": np.array(lengths[3:]),
            "score": np.float64(0.5),
        },
    }
    for split in content.values():
        split.update(changes)
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def csd_file(path, entries, name="OpenFace 2"):
    with h5py.File(path, "w") as file:
        for entry, (features, intervals) in entries.items():
            file[f"{name}/data/{entry}/features"] = features
            file[f"{name}/data/{entry}/intervals"] = intervals
        file[f"{name}/metadata/root name"] = name
    return path


def refusal(store, source, error=MixedSignalsError, **options):
    """Import, which must fail in one line that names the file, and leave nothing."""
    with pytest.raises(error) as caught:
        import_features(store, source, "audio", "refused", **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(source) in message
    assert "audio/refused" not in store.feature_sets()
    return message
