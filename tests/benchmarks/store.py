"""The store beside plain files: reading everything, reading a part, writing, opening, and memory.

    python tests/benchmarks/store.py [--small] [--json FILE]

Made-up vectors, 100,000 utterances x three modalities x 768 float32; the slow peers get a tenth of the utterances, and
so does the store beside them. Sides take turns, each after a round that is not counted, so both find their files in the
system's page cache; medians count. Whatever is compared is first checked to be the same numbers.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmark_peers import GROUPS, MODALITIES, PEERS, write_groups
from benchmark_rows import Rows, arguments_of, take_turns

from mixed_signals.store import Corpus, FeatureWriter, Recipe, Status, Store

BATCH, SMALL_BATCH = 1024, 256
PICKED = 1000
LEAST_LIMIT = 512 * 2**20  # the libraries alone take some of it
SAME, SHUFFLED = "same-order", "other-order"

# Opens a store and takes rows of it with less memory than the store has bytes. Prints by how much memory grew: its own,
# and all that is resident, which counts what is mapped of the system's page cache.
SLICE = """
import resource, sys
import numpy as np
import h5py, pandas, pyarrow.parquet
from mixed_signals.store import Store, Views

def resident(*names):
    said = dict(line.split(":") for line in open("/proc/self/status"))
    return np.array([int(said[name].split()[0]) * 1024 for name in names])

path, name, limit, picked = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
before = resident("RssAnon", "VmRSS")
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
views = Store.open(path).views(text=name, audio=name, video=name)
ids = np.random.default_rng(0).choice(views.ids, picked, replace=False)
X = views.select(ids).X
print(*(resident("RssAnon", "VmHWM") - before))
"""


@dataclass(frozen=True)
class Size:
    """How much is measured, and how often."""

    n: int
    width: int
    repeats: int
    full: bool


FULL = Size(100_000, 768, 7, full=True)
SMALL = Size(4_000, 256, 3, full=False)


class Made:
    """A store with two feature sets for each modality (ids as in the corpus, and shuffled), and plain npy files."""

    def __init__(self, folder: Path, n: int, width: int, *, shuffled: bool = False) -> None:
        self.folder, self.n, self.width = folder / f"{n}", n, width
        rng = np.random.default_rng(n)
        self.ids = np.array([f"dialog{i // 12:05d}_turn{i % 12:02d}" for i in range(n)], dtype=object)
        said = [f"utterance {i}, about as many words as one says at once" for i in range(n)]
        labels, groups = np.resize(["calm", "warm"], n), [f"g{i // 12 % 97}" for i in range(n)]
        table = {"utterance_id": self.ids, "text": said, "label": labels, "group": groups}
        self.folder.mkdir()
        self.store = Store.create(self.folder / "store", Corpus("made up", pd.DataFrame(table)))
        orders = {SAME: np.arange(n)} | ({SHUFFLED: rng.permutation(n)} if shuffled else {})
        for modality in MODALITIES:
            # Multiples of 1/256: their sum is exact, in whatever order they are added.
            matrix = (rng.integers(-512, 512, (n, width), np.int16) / np.float32(256)).astype(np.float32)
            np.save(self.npy(modality), matrix)
            for name, order in orders.items():
                self.write(self.store.feature_path(modality, name), modality, matrix[order], order)

    def npy(self, modality: str) -> Path:
        return self.folder / f"{modality}.npy"

    def write(
        self, path: Path, modality: str, matrix: np.ndarray, order: np.ndarray, batch: int = BATCH
    ) -> None:
        """Write a matrix whose rows belong to the utterances in this order."""
        corpus, names = self.store.corpus, [f"d{i}" for i in range(self.width)]
        entries = corpus.entry_hash_bytes(modality)[order]
        parts = (path, Recipe("made-up", modality), corpus.id_bytes[order], entries, names)
        in_batches = lambda rows: [rows[begin : begin + batch] for begin in range(0, len(rows), batch)]
        with FeatureWriter(*parts, entry_hashes=entries, batches=in_batches) as writer:
            for rows in writer.batches:
                n = len(rows)
                writer.write(rows, matrix[rows[0] : rows[-1] + 1], np.full(n, Status.OK), [""] * n)

    def matrices(self) -> dict[str, np.ndarray]:
        return {modality: np.load(self.npy(modality)) for modality in MODALITIES}

    def everything(self, name: str = SAME, store: Store | None = None) -> np.ndarray:
        return (store or self.store).views(text=name, audio=name, video=name).X


def reading(rows: Rows, made: Made, size: Size) -> None:
    shape = f"{made.n:,} x 3 x {made.width}"
    plain = np.concatenate(list(made.matrices().values()), axis=1)
    for name in (SAME, SHUFFLED):
        assert np.array_equal(made.everything(name), plain), name
    del plain
    total = lambda matrices: sum(matrix.sum(dtype=np.float64) for matrix in matrices)
    npy = lambda: total(made.matrices().values())
    touched = 3 * made.n * made.width * 4

    def beside_npy(ours: Callable[[], object]) -> tuple[float, float]:
        spent = take_turns({"ours": ours, "npy": npy}, size.repeats, touched=touched)
        return spent["ours"], spent["npy"]

    same = beside_npy(lambda: total([made.everything()]))
    shuffled = beside_npy(lambda: total([made.everything(SHUFFLED)]))
    anew = beside_npy(lambda: total([made.everything(store=Store.open(made.store.path))]))
    rows.add(f"views().X of {shape}, summed / np.load, summed", *same, at_most=1.15)
    rows.add("  the same, ids in another order", *shuffled, at_most=2)
    rows.add("  the same, with Store.open and reading the corpus", *anew)


def peers(rows: Rows, made: Made, size: Size) -> None:
    ids, matrices = made.ids, made.matrices()
    plain = np.concatenate(list(matrices.values()), axis=1)
    sides: dict[str, Callable[[], object]] = {"ours": made.everything}
    for peer in (GROUPS, *PEERS):
        path = made.folder / f"peer-{peer.write.__name__}"
        peer.write(path, ids, matrices)
        sides[peer.name] = lambda read=peer.read, path=path: read(path, ids)
    for name, side in sides.items():
        assert np.array_equal(side(), plain), name
    spent = take_turns(sides, min(size.repeats, 5), touched=2 * plain.nbytes)
    shape = f"{made.n:,} x 3 x {made.width} by id"
    groups, ours = spent[GROUPS.name], spent["ours"]
    rows.add(f"views().X of {shape} / {GROUPS.name}", ours, groups, at_least=20)
    for peer in PEERS:
        rows.add(f"views().X of {shape} / {peer.name}", ours, spent[peer.name])


def picking(rows: Rows, big: Made, small: Made, size: Size) -> None:
    picked = min(PICKED, small.n // 2)
    views = {made.n: made.store.views(text=SAME, audio=SAME, video=SAME) for made in (big, small)}
    rng = np.random.default_rng(0)
    draws = {
        made.n: [rng.choice(made.ids, picked, replace=False) for _ in range(22)] for made in (big, small)
    }
    sides = {
        "big": lambda: views[big.n].select(draws[big.n].pop()).X,
        "small": lambda: views[small.n].select(draws[small.n].pop()).X,
    }
    spent = take_turns(sides, 21)
    at = np.sort(rng.choice(big.n, picked, replace=False))
    load = lambda: np.concatenate([matrix[at] for matrix in big.matrices().values()], axis=1)
    assert np.array_equal(views[big.n].select(big.ids[at]).X, load())
    whole = take_turns({"npy": load}, size.repeats)
    name = f"{picked:,} random rows of {big.n:,}"
    rows.add(f"{name} / of {small.n:,}", spent["big"], spent["small"], at_most=2)
    rows.add(f"{name} / np.load of all, indexed", spent["big"], whole["npy"])


def writing(rows: Rows, made: Made, fewer: Made, size: Size) -> None:
    matrix, vectors = np.load(made.npy("audio")), {"audio": np.load(fewer.npy("audio"))}
    files = {
        side: made.folder / f"written-{side}" for side in ("ours", "small", "npy", "h5py", "groups", "few")
    }

    def npy() -> None:
        with files["npy"].open("wb") as file:
            np.save(file, matrix)

    def h5py_in_batches() -> None:
        with h5py.File(files["h5py"], "w") as file:
            dataset = file.create_dataset("embedding", matrix.shape, matrix.dtype)
            for begin in range(0, made.n, BATCH):
                dataset[begin : begin + BATCH] = matrix[begin : begin + BATCH]
                file.flush()

    sides = {
        "ours": lambda: made.write(files["ours"], "audio", matrix, np.arange(made.n)),
        "small": lambda: made.write(files["small"], "audio", matrix, np.arange(made.n), SMALL_BATCH),
        "npy": npy,
        "h5py": h5py_in_batches,
        "groups": lambda: write_groups(files["groups"], fewer.ids, vectors),
        "few": lambda: fewer.write(files["few"], "audio", vectors["audio"], np.arange(fewer.n)),
    }
    spent = take_turns(sides, size.repeats, touched=2 * matrix.nbytes, made_anew=files)
    name = f"FeatureWriter, {made.n:,} x {made.width} in batches of {BATCH:,}"
    rows.add(f"{name} / np.save", spent["ours"], spent["npy"], at_most=3)
    rows.add(f"{name} / h5py, contiguous, flushed after each", spent["ours"], spent["h5py"])
    rows.add(f"  the same in batches of {SMALL_BATCH} / np.save", spent["small"], spent["npy"])
    name = f"FeatureWriter, {fewer.n:,} x {made.width}"
    rows.add(f"{name} / {GROUPS.name}", spent["few"], spent["groups"])


def opening(rows: Rows, *stores: Made) -> None:
    for made in stores:
        spent = take_turns({"ours": lambda path=made.store.path: str(Store.open(path))}, 21)
        name = f"Store.open and str(store), {made.n:,} utterances / limit"
        rows.add(name, spent["ours"], 0.1, at_most=1, when_small=True)


def memory(rows: Rows, made: Made) -> None:
    stored = sum(made.store.feature_path(m, SAME).stat().st_size for m in MODALITIES)
    limit = max(stored * 3 // 4, LEAST_LIMIT)
    picked = min(PICKED, made.n // 10)
    script = [sys.executable, "-c", SLICE, str(made.store.path), SAME, str(limit), str(picked)]
    ran = subprocess.run(script, stdout=subprocess.PIPE, text=True, check=True)
    own, peak = (int(grown) / 1e6 for grown in ran.stdout.split())
    name = f"memory to open and take {picked:,} rows, data limited to {limit / 1e6:.0f} MB / store"
    rows.add(name, own, stored / 1e6, at_most=0.25, unit="MB")
    rows.add("  the same, peak, with what is mapped of the page cache", peak, stored / 1e6, unit="MB")


def main() -> None:
    arguments = arguments_of(__doc__, small="fewer and narrower rows, fewer repetitions")
    size = SMALL if arguments.small else FULL
    rows = Rows(full=size.full)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = Made(folder, size.n, size.width, shuffled=True)
        tenth, hundredth = (Made(folder, size.n // part, size.width) for part in (10, 100))
        reading(rows, made, size)
        picking(rows, made, tenth, size)
        writing(rows, made, tenth, size)
        opening(rows, made, hundredth)
        memory(rows, made)
        peers(rows, tenth, size)
    sys.exit(rows.end(arguments.json))


if __name__ == "__main__":
    main()
