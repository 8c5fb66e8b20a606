"""Extraction on a Ray cluster of two nodes: the store of one machine, whatever is lost on the way."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from media_files import pictures, write
from other_processes import started, until
from ray_jobs import ask, make
from small_cluster import STORE_BYTES, small_cluster
from small_encoders import make_sound, make_sounds, make_store
from typer.testing import CliRunner

from mixed_signals.extract import job, pipeline
from mixed_signals.extract.cli import app
from mixed_signals.extract.on_ray import running
from mixed_signals.extract.pipeline import Options, TooManyFailures
from mixed_signals.store import Corpus, MixedSignalsError, Status, Store
from mixed_signals.store.cluster import connected
from mixed_signals.store.merging import merge
from mixed_signals.store.terminal import interruptible

WAIT = 300  # seconds at the most for what happens on the cluster


@pytest.fixture(scope="module")
def cluster():
    with small_cluster(nodes=2) as made, connected(made.address):
        yield made


def at_home(request, of):
    """What one machine makes of the same shards, in the store that it is asked for."""
    store = request.open()
    for number in range(1, of + 1):
        tasks = request.plan(store, request.make_encoders(), job.Shard(number, of))
        pipeline.run(store, tasks, Options(workers=1))
    return {key: merge(store, key) for key in store.shards()}


def assert_same(features, other):
    assert (features.key, list(features.ids)) == (other.key, list(other.ids))
    assert features.embedding.tobytes() == other.embedding.tobytes()
    for column in ("status", "checksums", "row_hash_bytes", "entry_hash_bytes", "batches"):
        np.testing.assert_array_equal(getattr(features, column), getattr(other, column))
    assert list(features.reasons) == list(other.reasons)
    assert features.content_fingerprint == other.content_fingerprint


def make_corpus(folder):
    """Texts, sounds and films of several lengths; one of each kind is bad."""
    (folder / "media").mkdir(parents=True)
    said = ["x" * (37 * i % 23 + 1) for i in range(11)] + ["broken"]
    media = []
    for i in range(12):
        if i % 4:
            make_sound(folder / "media" / f"{i}.wav", 801 if i == 7 else 800 + 160 * (7 * i % 13))
            media.append(f"{i}.wav")
        else:
            write(folder / "media" / f"{i}.mp4", pictures(3 + i))
            media.append(f"{i}.mp4")
    ids = [f"u{i:02d}" for i in range(12)]
    table = pd.DataFrame({"utterance_id": ids, "text": said, "media": media})
    return Store.create(folder / "s", Corpus("c", table, media_root=folder / "media"))


def test_a_cluster_makes_the_store_of_one_machine_bit_for_bit(tmp_path, cluster):
    kinds = [
        ("Together", {"rows": 3}),
        ("BatchedSeconds", {"rows": 3, "exits": (801,)}),
        ("Seconds", {"exits": (801,)}),
        "Brightness",
    ]
    here, there = (ask(make_corpus(tmp_path / where), *kinds) for where in ("here", "there"))
    expected = at_home(here, of=2)
    made = make(there, rows=6)  # 12 rows: 2 shards
    assert [features.key for features in made] == [
        "text/lengths",
        "audio/batched",
        "audio/batched.1.max",
        "audio/seconds",
        "video/brightness",
    ]
    for features in made:
        assert_same(features, expected[features.key])
    assert there.open().shards() == {}
    sounds = made[1]
    assert (sounds.status[7], sounds.reasons[7]) == (Status.FAILED, "crashed its decoder (exit code 3)")
    assert made[0].reasons[11] == "cannot be read"
    assert made[4].ok.sum() == 3
    decoded = [{job["shard"]: job["media_seconds"] for job in features.jobs} for features in made[1:4]]
    assert decoded[0] == decoded[1] == decoded[2]  # once for all encoders
    assert sorted(decoded[0]) == ["1/2", "2/2"]


def marks(store):
    """What tells whether a shard's file was written again."""
    return {
        shard.path: (shard.path.stat().st_ino, shard.path.stat().st_mtime_ns)
        for shards in store.shards().values()
        for shard in shards
    }


@pytest.fixture
def gate(tmp_path):
    """A folder in which `ray_jobs.Gated` says who encodes, and waits for a file `open`."""
    folder = tmp_path / "gate"
    folder.mkdir()
    return folder


def gated_jobs(tmp_path, gate, n):
    """What one machine makes of texts behind a gate, in shards of a batch, and the same job for a cluster."""
    said = ["x" * (37 * i % 23 + 1) for i in range(n)]
    for where in ("here", "there"):
        (tmp_path / where).mkdir()
    kind = ("Gated", {"folder": str(gate), "rows": n})
    here, there = (ask(make_store(tmp_path / where, said), kind) for where in ("here", "there"))
    (gate / "open").touch()
    expected = at_home(here, of=n // 4)
    for left in gate.iterdir():
        left.unlink()
    return expected, there, kind


class Watch:
    """Sees that no shard's file is written again; to be called whenever one was published."""

    def __init__(self, store):
        self.store, self.seen = store, {}

    def __call__(self, rows=0):
        now = marks(self.store)
        assert self.seen.items() <= now.items()
        self.seen |= now


def test_a_worker_and_a_node_that_are_lost_cost_nothing(tmp_path, cluster, gate):
    expected, there, _ = gated_jobs(tmp_path, gate, 24)
    cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    watch = Watch(there.open())

    def encoding():
        return {int(mark.stem) for mark in gate.glob("*.encodes")}

    def lose():
        until(lambda: marks(watch.store) and encoding(), WAIT)
        killed = encoding()
        for one in killed:
            os.kill(one, signal.SIGKILL)
        until(lambda: encoding() - killed, WAIT)  # others took over
        cluster.remove_node(cluster.list_all_nodes()[1], allow_graceful=False)
        (gate / "open").touch()

    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(lose)
        try:
            made = make(there, rows=4, on_progress=watch)
        finally:
            (gate / "open").touch()
        assert lost.done()
        lost.result()
    for features in made:
        assert_same(features, expected[features.key])
    assert len(watch.seen) == 6


def test_a_job_whose_driver_is_killed_goes_on_from_the_shards_that_are_there(tmp_path, cluster, gate):
    import ray

    expected, there, kind = gated_jobs(tmp_path, gate, 12)
    watch = Watch(there.open())
    code = (
        "from mixed_signals.store import Store; from mixed_signals.store.cluster import connected; import ray_jobs\n"
        f"with connected({cluster.address!r}):\n"
        f"    ray_jobs.make(ray_jobs.ask(Store.open({str(there.store)!r}), {kind!r}), rows=4)"
    )
    with started(code) as driver:
        until(lambda: marks(watch.store), WAIT, alive=driver)
        driver.kill()
        assert driver.stderr.read() == ""

    def all_idle():
        return ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]

    until(all_idle, WAIT)  # its workers have ended
    watch()
    assert len(watch.seen) == 1
    (gate / "open").touch()
    (features,) = make(there, rows=4, on_progress=watch)
    assert len(watch.seen) == 3
    assert_same(features, expected[features.key])


def test_the_command_goes_on_from_shards_made_by_hand_and_leaves_them_apart(tmp_path, cluster):
    pytest.importorskip("opensmile")
    store = make_sounds(tmp_path, [8_000 + 800 * i for i in range(6)])

    def extract(*words):
        ran = CliRunner().invoke(app, [str(store.path), "--audio", "egemaps", "--workers", "1", *words])
        assert ran.exit_code == 0, ran.exception
        return ran.output

    extract("--shard", "1/2")
    watch = Watch(store)
    watch()
    planned = extract("--ray", "--plan")
    said = extract("--ray", cluster.address, "--keep-shards")
    assert f"Ray at {cluster.address}: " in said
    assert "not merged" not in planned
    assert planned.splitlines()[-1] in said
    assert "audio: 3 utterances in 1 shard to be made, 1 shard more done" in said
    watch()
    assert len(watch.seen) == 2
    extract("--name", "local")
    features, local = store["audio/egemaps"], store["audio/egemaps.local"]
    assert features.virtual
    at = features.find(store.corpus.id_bytes)
    assert features.embedding[at].tobytes() == local.embedding.tobytes()


def test_ctrl_c_leaves_what_is_published(tmp_path, cluster, request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    store = make_store(tmp_path, ["x" * (i + 1) for i in range(16)])
    with (
        pytest.raises(MixedSignalsError, match="interrupted; it goes on"),
        interruptible("it goes on"),
    ):
        make(ask(store, "Letters"), rows=4, on_progress=lambda rows: os.kill(os.getpid(), signal.SIGINT))
    assert marks(store)
    assert not store.feature_path("text", "letters").exists()  # what was published was not put together


def test_more_data_than_the_object_stores_hold_goes_through(tmp_path, cluster):
    said = ["x" * (1 + 7 * i % 11) for i in range(36)]
    store = make_store(tmp_path, said)
    (features,) = make(ask(store, "Sums"), rows=6)  # 180 MB in shards of 30 MB; two nodes hold 160
    np.testing.assert_array_equal(features.embedding[:, 0], [len(text) for text in said])


def test_a_node_that_would_make_other_vectors_is_told_in_one_line(tmp_path, cluster):
    asked = ask(make_store(tmp_path, ["a", "bb"]), ("Elsewhere", {"here": os.getpid()}))
    with pytest.raises(MixedSignalsError) as caught:
        make(asked)
    said = str(caught.value)
    assert "weights: 'these' there, 'others' now" in said
    assert said.startswith("node ")
    assert "\n" not in said
    assert asked.open().shards() == {}


def test_a_worker_that_dies_each_time_ends_the_job_in_one_line(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(running, "_TRIES_AGAIN", 0)
    store = make_store(tmp_path, ["deadly"])
    with pytest.raises(
        MixedSignalsError, match=r"workers died again and again \(Actor\w+Error: The actor "
    ) as caught:
        make(ask(store, "Letters"))
    assert "\n" not in str(caught.value)


def test_a_job_that_goes_wrong_is_stopped_and_what_was_done_is_kept(tmp_path, cluster):
    store = make_store(tmp_path, ["broken"] * 9 + ["x"] * 7)
    with pytest.raises(TooManyFailures, match=r"of 16 rows failed.*--max-failures allows.*cannot be read"):
        make(ask(store, "Letters"), Options(max_failures=3), rows=8)
    assert store.shards()["text/letters"]
