"""What a million utterances cost, step by step, how that grows, and what follows for ten and a hundred million.

    python tests/benchmarks/scale.py [--small] [--json FILE]

Made-up corpora of 10,000, 100,000 and 1,000,000 utterances of text with media, cut, label and group, and made-up
vectors of 768 float32. Every step runs in a process of its own: importing and opening the corpus, planning (on one
machine and for a Ray cluster, with everything that is handed to it; Ray itself is not started), writing, opening,
joining and reading a feature set, and the same of its shards. Files that are written are waited for until they are on
the disk, and vectors are read after the system was told to forget them; the peer is then the disk, moving as many bytes
of one file in one stream. Of the other steps the peer is a limit: 0.1 ms a row; of memory, 2 kB a row.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmark_growth import Growth, Spent, Step, growth_of, print_growth, print_larger, print_room, spend
from benchmark_rows import Rows, arguments_of
from small_encoders import Lengths

from mixed_signals.extract.job import deal, plan, rough_lengths
from mixed_signals.extract.on_ray.dealing import count_shards, deal_all
from mixed_signals.extract.on_ray.parts_file import written_parts
from mixed_signals.store import FeatureWriter, Status, Store
from mixed_signals.store.corpora.tables import read_corpus
from mixed_signals.store.merging import merge

WIDTH, BATCH = 768, 1024
VECTORS = np.random.default_rng(0).standard_normal((BATCH, WIDTH), np.float32)
NAME, KEY = "made-up", "text/made-up"
ENCODER = Lengths(name=NAME)
RECIPE = ENCODER.outputs[0].recipe
SECONDS_A_ROW, BYTES_A_ROW = 1e-4, 2048
DISK_BYTES = 10**9  # by which the disk's speed is measured, before and after
REPEATS = 3  # of all sizes but the largest
ROWS_OF_SHARDS, MOST_SHARDS = 4096, 99_999  # of texts on a Ray cluster
ROWS_OF_SMALL_SHARDS = 64
FULL, SMALL = (10_000, 100_000, 1_000_000), (1_000, 10_000)
LARGER = (10**7, 10**8)
MEMORIES = (16 * 10**9, 64 * 10**9, 256 * 10**9)
LARGEST_FILE = 16 * 2**40  # of ext4
PIECE = np.random.default_rng(1).bytes(1 << 20)


class Place:
    """A store of so many utterances, and the file that its corpus is imported from."""

    def __init__(self, folder: Path, n: int, rows_of_shards: int = 0) -> None:
        self.folder, self.n, self.rows_of_shards = folder / f"{n}-{rows_of_shards}", n, rows_of_shards
        self.table, self.path = self.folder / "utterances.parquet", self.folder / "store"

    def make_table(self) -> None:
        self.folder.mkdir()
        n, rng = self.n, np.random.default_rng(self.n)
        words = [
            "so",
            "what",
            "one",
            "says",
            "at",
            "once",
            "is",
            "about",
            "as",
            "long",
            "and",
            "seldom",
            "longer",
        ]
        said = rng.choice(words, (n, 12)).tolist()
        dialog = [f"dialog{i // 12:07d}" for i in range(n)]
        start = np.arange(n) % 12 * 5.25
        pd.DataFrame(
            {
                "utterance_id": [f"{one}_turn{i % 12:02d}" for i, one in enumerate(dialog)],
                "text": [f"{' '.join(line)} {i}" for i, line in enumerate(said)],
                "media": [f"clips/{one}.mp4" for one in dialog],
                "start": start,
                "end": start + 4.875,
                "label": rng.choice(["calm", "warm", "sad", "angry"], n),
                "group": [f"speaker{i // 12 % 997}" for i in range(n)],
            }
        ).to_parquet(self.table, index=False)

    def open(self) -> Store:
        """Open the store and its corpus."""
        store = Store.open(self.path)
        assert len(store.corpus) == self.n
        return store

    @property
    def features(self) -> Path:
        return Store(self.path).feature_path("text", NAME)

    def shards(self) -> list[Path]:
        return [shard.path for shard in Store(self.path).shards().get(KEY, [])]

    def clear(self) -> None:
        """Remove the feature set and its shards."""
        for path in (self.features, *self.shards()):
            path.unlink(missing_ok=True)

    def write_shards(self, store: Store) -> None:
        """Write shards of the rows and the number that they have on a Ray cluster."""
        lengths = rough_lengths(store, "text")
        of = (
            math.ceil(self.n / self.rows_of_shards)
            if self.rows_of_shards
            else count_shards([ENCODER], lengths)
        )
        shard_of = deal(lengths, of)
        order = np.argsort(shard_of, kind="stable")
        ends = np.cumsum(np.bincount(shard_of, minlength=of + 1)[1:])[:-1]
        for number, rows in enumerate(np.split(order, ends), 1):
            write(store, store.shard_path("text", NAME, number, of), rows)


def write(store: Store, path: Path, rows: np.ndarray) -> None:
    """Write made-up vectors of some utterances, and wait until they are on the disk."""
    entries = store.corpus.entry_hash_bytes("text")[rows]
    writer = FeatureWriter(
        path,
        RECIPE,
        store.corpus.id_bytes[rows],
        entries,
        [f"d{i}" for i in range(WIDTH)],
        entry_hashes=entries,
        batches=lambda todo: np.split(todo, range(BATCH, len(todo), BATCH)),
    )
    with writer:
        for batch in writer.batches:
            n = len(batch)
            writer.write(batch, VECTORS[:n], np.full(n, Status.OK), [""] * n)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def forget(paths: Iterable[Path]) -> None:
    """Let the system forget what it holds of files, so that they are read from the disk."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def made_place(folder: Path, n: int, rows_of_shards: int = 0) -> Place:
    """Return a place with the table that its corpus is imported from."""
    place = Place(folder, n, rows_of_shards)
    spend(making_table, place, folder=folder)
    return place


# The steps: what stands before `yield` is preparation.


def making_table(place: Place) -> Iterator[None]:
    yield
    place.make_table()


def importing(place: Place) -> Iterator[None]:
    yield
    Store.create(place.path, read_corpus([place.table], {}), replace=True)


def opening_corpus(place: Place) -> Iterator[None]:
    yield
    place.open()


def planning(place: Place) -> Iterator[None]:
    store = place.open()
    yield
    (task,) = plan(store, [ENCODER])
    assert len(task.plan.rows) == (0 if place.features.exists() else place.n)


def planning_for_ray(place: Place) -> Iterator[None]:
    store = place.open()
    yield
    assert write_for_ray(store) > place.n


def write_for_ray(store: Store) -> int:
    """Deal out shards and write them as the cluster's workers read them; return how many bytes that are."""
    (dealt,) = deal_all(store, plan(store, [ENCODER]))
    path = store.path / "parts.arrow"
    with written_parts(dealt, path):
        return path.stat().st_size


def writing(place: Place) -> Iterator[None]:
    store = place.open()
    place.clear()
    assert len(store.corpus.id_bytes) == len(store.corpus.entry_hash_bytes("text"))  # kept from now on
    yield
    write(store, place.features, np.arange(place.n))


def opening_set(place: Place) -> Iterator[None]:
    store = Store.open(place.path)
    yield
    assert store[KEY].coverage["ok"] == place.n


def joining(place: Place) -> Iterator[None]:
    store = place.open()
    yield
    assert len(store.views(text=NAME)) == place.n


def reading_first(place: Place) -> Iterator[None]:
    views = place.open().views(text=NAME)
    forget([place.features, *place.shards()])
    yield
    assert len(views.select(views.ids[:BATCH]).X) == min(BATCH, place.n)


def reading_all(place: Place) -> Iterator[None]:
    views = place.open().views(text=NAME)
    forget([place.features, *place.shards()])
    np.ones((place.n, WIDTH), np.float32)  # memory that lay idle is slow to get on a virtual machine
    yield
    assert views.X.shape == (place.n, WIDTH)


def writing_shards(place: Place) -> Iterator[None]:
    store = place.open()
    place.clear()
    yield
    place.write_shards(store)


def merging_virtually(place: Place) -> Iterator[None]:
    place.features.unlink(missing_ok=True)
    store = place.open()
    forget(place.shards())
    yield
    assert merge(store, KEY, virtual=True).virtual


def merging(place: Place) -> Iterator[None]:
    store = place.open()
    if not place.shards():
        place.clear()
        place.write_shards(store)
    forget(place.shards())
    yield
    assert len(merge(store, KEY)) == place.n


@dataclass(frozen=True)
class Measure:
    """A step to be measured, and how often the vectors' bytes are written or read in it."""

    name: str
    step: Step
    written: int = 0
    read: int = 0
    holds_vectors: bool = False


MEASURES = (
    Measure("corpus: import from Parquet", importing),
    Measure("corpus: open", opening_corpus),
    Measure("plan: nothing is done", planning),
    Measure("plan: for Ray, shard by shard", planning_for_ray),
    Measure("write a feature set", writing, written=1),
    Measure("plan: everything is done", planning),
    Measure("open the set", opening_set),
    Measure("views: join", joining),
    Measure("views: first 1,024 rows", reading_first),
    Measure("views: X, all rows", reading_all, read=1, holds_vectors=True),
    Measure("write it in shards", writing_shards, written=1),
    Measure("merge --virtual", merging_virtually, read=1),
    Measure("open the virtual set", opening_set),
    Measure("virtual: join by id", joining),
    Measure("virtual: first 1,024 rows", reading_first),
    Measure("virtual: X, all rows", reading_all, read=1, holds_vectors=True),
    Measure("merge into one file", merging, written=1, read=1),
)


def disk_speeds(folder: Path, n_bytes: int) -> tuple[float, float]:
    """Return bytes a second of writing a file, until it is on the disk, and of reading it from there."""
    path = folder / "disk"
    begin = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(n_bytes // len(PIECE)):
            file.write(PIECE)
        os.fsync(file.fileno())
    wrote = time.perf_counter()
    forget([path])
    into, reading = bytearray(len(PIECE)), time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(into):
            pass
    seconds = time.perf_counter() - reading
    size = path.stat().st_size
    path.unlink()
    return size / (wrote - begin), size / seconds


def measure_all(folder: Path, sizes: tuple[int, ...], repeats: int) -> dict[str, list[Spent]]:
    """Take all steps at all sizes; what a size leaves on the disk is removed."""
    spent: dict[str, list[Spent]] = {measure.name: [] for measure in MEASURES}
    for n in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            place = made_place(Path(name), n)
            for measure in MEASURES:
                often = repeats if n < sizes[-1] else 1
                spent[measure.name].append(spend(measure.step, place, folder=place.path, repeats=often))
    return spent


def add_rows(rows: Rows, spent: dict[str, list[Spent]], n: int, speeds: tuple[float, float]) -> None:
    """Add what each step takes at the largest size, beside what the disk takes or the limit."""
    vectors = n * WIDTH * 4
    for measure in MEASURES:
        took = spent[measure.name][-1]
        by_disk = measure.written * vectors / speeds[0] + measure.read * vectors / speeds[1]
        if by_disk:
            rows.add(f"{measure.name}, {n:,} x {WIDTH} / the disk alone", took.seconds, by_disk)
        else:
            limit = n * SECONDS_A_ROW
            rows.add(f"{measure.name}, {n:,} rows / 0.1 ms a row", took.seconds, limit, at_most=1)
        limit = n * (BYTES_A_ROW + measure.holds_vectors * WIDTH * 4)
        name = "  its memory / 2 kB a row" + (" and the vectors" if measure.holds_vectors else "")
        rows.add(name, took.memory / 1e6, limit / 1e6, at_most=1, unit="MB")


def shards_alone(rows: Rows, folder: Path, n: int) -> None:
    """Add what a merge pays for each shard, whatever is in it."""
    took, numbers = [], (math.ceil(n / ROWS_OF_SHARDS), math.ceil(n / ROWS_OF_SMALL_SHARDS))
    for rows_of_shards in (0, ROWS_OF_SMALL_SHARDS):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            place = made_place(Path(name), n, rows_of_shards)
            spend(importing, place, folder=place.path)
            took.append(spend(merging, place, folder=place.path).seconds)
    fixed = (took[1] - took[0]) / (numbers[1] - numbers[0])
    name = f"each shard of a merge, by {numbers[1]:,} shards of {n:,} rows / its share of a merge of {numbers[0]:,}"
    rows.add(name, fixed, took[0] / numbers[0], share=True)


def driver(rows: Rows, spent: dict[str, list[Spent]], sizes: tuple[int, ...]) -> None:
    """Add by how much the memory of a Ray job's driver grows for a row."""
    memory = [one.memory for one in spent["plan: for Ray, shard by shard"]]
    grown = (memory[-1] - memory[0]) / (sizes[-1] - sizes[0])
    name = f"bytes a row, of the driver of a Ray job, from {sizes[0]:,} to {sizes[-1]:,} rows / 2 kB"
    rows.add(name, grown, BYTES_A_ROW, at_most=1, unit="bytes")


def print_limits(grown: dict[str, dict[str, Growth]]) -> None:
    """Print at how many rows other things than memory are at their end: the first first."""
    shards = f"{MOST_SHARDS:,} shards of {ROWS_OF_SHARDS:,} texts (then they get larger)"
    limits = {shards: float(MOST_SHARDS * ROWS_OF_SHARDS)}
    limits["one file of 16 TiB (ext4)"] = grown["write a feature set"]["disk"].rows_for(LARGEST_FILE)
    print("\nAnd at their end are")
    for what, n in sorted(limits.items(), key=lambda limit: limit[1]):
        print(f"- {what}: at {n / 1e6:,.0f} million rows")


def main() -> None:
    arguments = arguments_of(__doc__, small="fewer rows, every step once")
    sizes = SMALL if arguments.small else FULL
    rows = Rows(full=not arguments.small)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n_bytes = min(sizes[-1] * WIDTH * 4, DISK_BYTES)
        before = disk_speeds(folder, n_bytes)
        spent = measure_all(folder, sizes, 1 if arguments.small else REPEATS)
        after = disk_speeds(folder, n_bytes)
        speeds = ((before[0] + after[0]) / 2, (before[1] + after[1]) / 2)
        add_rows(rows, spent, sizes[-1], speeds)
        shards_alone(rows, folder, sizes[-2])
    driver(rows, spent, sizes)
    grown = {name: growth_of(of, sizes) for name, of in spent.items()}
    print_growth(grown, sizes)
    print_larger(grown, LARGER)
    print_room(grown, MEMORIES)
    print_limits(grown)
    sys.exit(rows.end(arguments.json))


if __name__ == "__main__":
    main()
