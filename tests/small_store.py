"""A small store with planted vectors, for tests of everything that reads one."""

import numpy as np
import pandas as pd

from mixed_signals.store import Corpus, Store, import_features


def utterance_table(n=96, n_groups=8, seed=0):
    """Return utterances with balanced labels, spread over groups."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "utterance_id": [f"u{i:03d}" for i in range(n)],
            "text": [f"words {i}" for i in range(n)],
            "label": rng.permutation(np.resize(["calm", "warm"], n)),
            "group": [f"g{i % n_groups}" for i in range(n)],
        }
    )


def planted_store(folder, n=96, n_groups=8, strengths=None, width=6, seed=0):
    """Make a store whose modalities carry the label with the given strengths (class distance in SDs)."""
    strengths = strengths or {"text": 2.0, "audio": 2.0, "video": 2.0}
    table = utterance_table(n, n_groups, seed)
    store = Store.create(folder / "store", Corpus("planted", table))
    sign = np.where(table["label"] == "warm", 0.5, -0.5)
    rng = np.random.default_rng(seed + 1)
    for modality, strength in strengths.items():
        X = rng.normal(size=(n, width)).astype(np.float32)
        X[:, 0] += strength * sign
        add_vectors(store, f"{modality}/planted", X)
    return store


def add_vectors(store, key, X, ids=None):
    """Import vectors as a feature set, of all utterances in the corpus's order or of those that are named."""
    modality, name = key.split("/")
    source = store.path.with_name(f"{modality}.npz")
    np.savez(source, utterance_id=np.asarray(store.corpus.ids if ids is None else ids, str), embedding=X)
    import_features(store, source, modality, name)
