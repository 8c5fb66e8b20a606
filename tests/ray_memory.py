"""How much memory planning a job for a Ray cluster takes: run with a folder and a number of texts, prints bytes."""

import resource
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from small_encoders import Lengths

from mixed_signals.extract import job
from mixed_signals.extract.on_ray.dealing import deal_all
from mixed_signals.extract.on_ray.parts_file import written_parts
from mixed_signals.store import Corpus, Store


def make_texts(folder, n):
    """Make a store of so many texts of about sixty letters."""
    sizes = np.random.default_rng(0).integers(20, 100, n)
    table = pd.DataFrame(
        {"utterance_id": [f"dia{i // 16:06d}_utt{i:07d}" for i in range(n)], "text": ["x" * k for k in sizes]}
    )
    return Store.create(folder, Corpus("c", table))


def planning(path):
    """Plan a job, and write down its shards for the cluster's workers; return the greatest memory in bytes."""
    store = Store.open(path)
    for dealt in deal_all(store, job.plan(store, [Lengths()])):
        with written_parts(dealt, path / "parts"):
            assert (path / "parts").stat().st_size > 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    folder, n = Path(sys.argv[1]), int(sys.argv[2])
    if not folder.exists():
        make_texts(folder, n)
    else:
        print(planning(folder))
