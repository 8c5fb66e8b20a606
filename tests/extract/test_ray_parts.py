"""What a cluster's job is cut into, and what its workers do with it; no cluster is needed."""

import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from other_processes import environment
from ray_jobs import ask
from small_encoders import BatchedSeconds, Lengths, Seconds, make_sounds, make_store, run
from typer.testing import CliRunner

from mixed_signals.extract import job
from mixed_signals.extract.cli import app
from mixed_signals.extract.on_ray import dealing, parts, stages
from mixed_signals.extract.on_ray.dealing import count_shards, deal_all
from mixed_signals.extract.on_ray.parts_file import read_part, written_parts
from mixed_signals.extract.on_ray.running import Cluster, assemble, job_of, run_on_cluster
from mixed_signals.extract.pipeline import Options
from mixed_signals.store import Corpus, FeatureSet, Store, UsageError
from mixed_signals.store.locks import sole_writer
from mixed_signals.store.merging import merge

BYTES_A_ROW = 1200  # what the driver's memory may grow by, of texts of sixty letters


def dealt_and_job(request):
    store = request.open()
    (dealt,) = deal_all(store, request.plan(store, request.make_encoders()))
    return dealt, job_of(request, dealt, Options(workers=1), "cpu", 2 << 30)


def passed(dealt, the_job):
    """What the stages make of every shard, one after the other."""
    decode = stages.Decode(the_job)
    encode = stages.Encode(the_job) if stages.needs_networks(dealt.encoders) else lambda block: block
    with written_parts(dealt, the_job.parts):
        blocks = [pa.table({"item": [at]}) for at in range(len(dealt.numbers))]
        return [parts.from_block(stages.write(encode(decode(block)), the_job)) for block in blocks]


def test_shards_are_as_many_as_what_is_read_of_them_asks_for():
    texts, ten_seconds = np.full(20_000, 60.0), np.full(20_000, 10.0)
    assert count_shards([Lengths()], texts) == 5  # of 4,096 rows
    assert count_shards([BatchedSeconds()], ten_seconds) == 56  # an hour of media
    assert count_shards([BatchedSeconds(rate=48_000)], ten_seconds) == 287  # 128 MB
    assert count_shards([Lengths()], texts[:640], n_workers=64) == 10
    assert count_shards([Lengths()], texts[:3], n_workers=64) == 1
    assert count_shards([Lengths()], texts[:0]) == 1


def test_what_is_on_its_way_arrives_as_it_was(tmp_path):
    store = make_sounds(tmp_path, [800, 960, 1120, 0], start=[0.0, 0.01, None, None])
    urls = store.corpus.utterances.assign(media=["u00.wav", "u01.wav", "u02.wav", "memory://bucket/ä.wav"])
    fsspec.filesystem("memory").pipe("/bucket/ä.wav", b"sound")
    store = Store.create(store.path, Corpus("c", urls, media_root=tmp_path / "media"), replace=True)
    dealt, the_job = dealt_and_job(ask(store, "BatchedSeconds", "Seconds"))
    (part,) = dealt.parts()
    with written_parts(dealt, the_job.parts):
        arrived = read_part(the_job.parts, 0)
    assert (arrived.number, arrived.clips) == (1, part.clips)
    for column in ("ids", "entries", "lengths"):
        np.testing.assert_array_equal(getattr(arrived, column), getattr(part, column))
    for goal in range(3):
        np.testing.assert_array_equal(arrived.wanted[goal], part.wanted[goal])
        np.testing.assert_array_equal(arrived.hashes[goal], part.hashes[goal])
    assert not the_job.parts.exists()


def test_a_shard_that_is_published_is_not_written_again(tmp_path):
    store = make_store(tmp_path, ["a", "bb", "ccc"])
    dealt, the_job = dealt_and_job(ask(store, "Lengths"))
    (first,) = passed(dealt, the_job)
    path = store.shard_path("text", "lengths", 1, 1)
    before = path.stat()
    (again,) = passed(dealt, the_job)  # as an attempt that was held to be lost
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert first.rows == again.rows == [3]
    assert [one.name for one in path.parent.iterdir() if ".tmp" in one.name] == []
    (later,) = deal_all(store, job.plan(store, [Lengths()]))
    assert (later.numbers, later.done) == ([], 1)


def test_a_second_attempt_waits_for_one_that_still_writes(tmp_path):
    store = make_store(tmp_path, ["a", "bb", "ccc"])
    dealt, the_job = dealt_and_job(ask(store, "Lengths"))
    first = sole_writer(store.shard_path("text", "lengths", 1, 1))
    first.__enter__()
    later, began = threading.Timer(1.0, lambda: first.__exit__(None, None, None)), time.monotonic()
    later.start()
    (written,) = passed(dealt, the_job)
    later.join()
    assert time.monotonic() - began > 0.9
    assert written.rows == [3]


def test_what_another_set_writes_beside_it_stays(tmp_path):
    store = make_store(tmp_path, ["a"])
    dealt, the_job = dealt_and_job(ask(store, "Lengths"))
    path = store.shard_path("text", "lengths", 1, 1)
    path.parent.mkdir(parents=True)
    other = path.with_name(f".xlm-{path.name}.host-1.tmp")
    left = [
        path.with_name(f"{dots}{path.name}.host-1.tmp{ending}")
        for dots, ending in ((".", ""), ("..", ".1.tmp"))
    ]
    for one in (other, *left):
        one.touch()
    passed(dealt, the_job)
    assert other.exists()
    assert not any(one.exists() for one in left)


def test_a_shard_whose_failures_are_tried_again_is_made_again(tmp_path):
    store = make_store(tmp_path, ["a", "broken"])
    dealt, the_job = dealt_and_job(ask(store, "Lengths"))
    assert passed(dealt, the_job)[0].failed == [1]
    path = store.shard_path("text", "lengths", 1, 1)
    before = path.stat().st_mtime_ns
    dealt, the_job = dealt_and_job(ask(store, "Lengths", retry_failed=True))
    assert passed(dealt, the_job)[0].last == [("u01", "cannot be read")]
    assert path.stat().st_mtime_ns != before


def test_shards_add_to_what_is_there(tmp_path):
    store = make_sounds(tmp_path, [800, 960, 1120])
    run(store, Seconds())
    table = store.corpus.utterances
    more = table.assign(utterance_id=["a", "b", "c"], media=["u00.wav", "u00.wav", "u01.wav"], start=0.02)
    table = pd.concat([table, more], ignore_index=True)
    store = Store.create(store.path, Corpus("c", table, media_root=tmp_path / "media"), replace=True)
    request = ask(store, "Seconds")
    dealt, the_job = dealt_and_job(request)
    assert dealt.rows == [3]
    passed(dealt, the_job)
    (features,) = assemble(store, dealt.tasks)
    assert features.embedding[:, 0].tolist() == [800, 960, 1120, 640, 640, 800]


def test_a_set_that_reads_its_shards_follows_a_corpus_that_changed(tmp_path):
    store = make_store(tmp_path, ["a", "bb", "ccc"])
    dealt, the_job = dealt_and_job(ask(store, "Lengths"))
    passed(dealt, the_job)
    (features,) = assemble(store, dealt.tasks, keep_shards=True)
    assert features.virtual
    (again,) = assemble(store, job.plan(store, [Lengths()]), keep_shards=True)
    assert again.virtual
    table = store.corpus.utterances.assign(text=["a", "bb", "other"])
    request = ask(Store.create(store.path, Corpus("c", table), replace=True), "Lengths")
    dealt, the_job = dealt_and_job(request)
    assert dealt.rows == [3]  # the shard is made again, with all that it had
    passed(dealt, the_job)
    (changed,) = assemble(request.open(), dealt.tasks, keep_shards=True)
    assert changed.virtual
    assert changed.embedding[:, 0].tolist() == [1, 2, 5]


def test_utterances_stay_in_the_shards_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(dealing, "_MOST_ROWS", 8)
    said = ["x" * (37 * i % 101 + 1) for i in range(80)]
    store = make_store(tmp_path, said)
    dealt, the_job = dealt_and_job(ask(store, "Letters"))
    assert len(dealt.numbers) == 10
    passed(dealt, the_job)
    for changed in ([*said[:3], "y" * 250, *said[4:]], [*said, "x" * 30]):
        table = make_store(tmp_path / str(len(changed)), changed).corpus.utterances
        Store.create(store.path, Corpus("c", table), replace=True)
        dealt, _ = dealt_and_job(ask(store, "Letters"))
        assert (len(dealt.numbers), dealt.done) == (1, 9)


def test_shards_that_no_utterance_is_in_any_more_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(dealing, "_MOST_ROWS", 2)
    store = make_store(tmp_path, ["x" * (i + 1) for i in range(12)])
    dealt, the_job = dealt_and_job(ask(store, "Letters"))
    passed(dealt, the_job)
    first = FeatureSet(store.shard_path("text", "letters", 1, 6))
    table = store.corpus.utterances
    Store.create(store.path, Corpus("c", table[table["utterance_id"].isin(first.ids)]), replace=True)
    request = ask(store, "Letters")
    dealt, _ = dealt_and_job(request)
    assert (len(dealt.empty), dealt.of, dealt.numbers) == (5, 6, [])
    passed(dealt, the_job)
    run_on_cluster(
        request, dealt_and_job(request)[0], Cluster("here:1", 1, 1.0, 0.0, 0.0)
    )  # nothing is left for a cluster
    (features,) = assemble(request.open(), dealt.tasks)
    assert features.ids.tolist() == first.ids.tolist()
    assert store.shards() == {}


def test_a_node_that_sees_no_store_or_another_says_so(tmp_path):
    (tmp_path / "one").mkdir()
    store, other = make_store(tmp_path, ["a"]), make_store(tmp_path / "one", ["b"])
    dealt, the_job = dealt_and_job(ask(store, "Lengths"))
    for path, said in ((tmp_path / "none", "no store here"), (other.path, "another store")):
        wrong = replace(the_job, request=replace(the_job.request, store=path))
        (broken,) = passed(dealt, wrong)
        assert isinstance(broken, parts.Broken)
        assert said in broken.what
        assert "on a file system that all nodes share" in broken.what


def test_a_node_that_cannot_open_media_elsewhere_ends_the_job_and_marks_nothing(tmp_path):
    store = make_sounds(tmp_path, [800, 960])
    serve = partial(SimpleHTTPRequestHandler, directory=store.corpus.media_root)
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever).start()
        request = replace(ask(store, "Seconds"), media_root=f"http://127.0.0.1:{server.server_port}")
        dealt, the_job = dealt_and_job(request)
        server.shutdown()
    (broken,) = passed(dealt, the_job)
    assert isinstance(broken, parts.Broken)
    assert "see that the address is right and the environment has what opens it" in broken.what
    assert store.shards() == {}


def test_a_file_that_wants_more_memory_than_a_decoding_process_may_take_fails_alone(tmp_path):
    store = make_sounds(tmp_path, [800, 960, 1120])
    dealt, the_job = dealt_and_job(ask(store, ("Greedy", {"lengths": [960]})))
    (written,) = passed(dealt, the_job)
    assert written.failed == [1]
    (utterance, reason) = written.last[0]
    assert utterance == "u01"
    assert "Unable to allocate 3.00 GiB" in reason


def test_without_ray_the_command_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    store = make_sounds(tmp_path, [800])
    ran = CliRunner().invoke(app, [str(store.path), "--audio", "egemaps", "--ray"])
    assert isinstance(ran.exception, UsageError)
    assert "pip install 'mixed-signals[ray]'" in str(ran.exception)


def test_devices_are_those_of_the_cluster():
    without, with_gpus = (Cluster("here:1", 2, 8.0, n, 1e10) for n in (0.0, 2.0))
    assert [without.device("auto"), with_gpus.device("auto"), with_gpus.device("cpu")] == [
        "cpu",
        "cuda",
        "cpu",
    ]
    with pytest.raises(UsageError, match="no node of the Ray cluster has a GPU"):
        without.device("cuda")
    with pytest.raises(UsageError, match="with --ray it is auto, cpu or cuda"):
        with_gpus.device("cuda:1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ray", "--shard", "1/2"], "--ray and --shard: use one of them"),
        (["--ray", "--devices", "cpu"], "--ray and --devices"),
        (["--ray", "--check"], "--ray and --check"),
        (["--keep-shards"], "--keep-shards: goes with --ray"),
    ],
)
def test_flags_that_do_not_go_together_are_named(tmp_path, words, said):
    ran = CliRunner().invoke(app, [str(make_store(tmp_path, ["a"]).path), "--text", "minilm", *words])
    assert isinstance(ran.exception, UsageError)
    assert said in str(ran.exception)


def test_planning_takes_little_memory_for_each_utterance(tmp_path):
    script = Path(__file__).parents[1] / "ray_memory.py"
    taken = []
    for n in (10_000, 100_000):
        for _ in range(2):  # the first makes the store
            words = [sys.executable, str(script), str(tmp_path / str(n)), str(n)]
            ran = subprocess.run(words, env=environment(), capture_output=True, check=True)
        taken.append(int(ran.stdout))
    assert (taken[1] - taken[0]) / 90_000 < BYTES_A_ROW


def test_merged_shards_are_the_whole(tmp_path):
    said = ["x" * (37 * i % 101 + 1) for i in range(300)]
    store = make_store(tmp_path, said)
    dealt, the_job = dealt_and_job(ask(store, "Lengths"))
    passed(dealt, the_job)
    np.testing.assert_array_equal(merge(store, "text/lengths").embedding[:, 0], [len(text) for text in said])
