"""Sweeps on a Ray cluster of three nodes: the same numbers as on one machine, whatever is lost on the way."""

import os
import pickle
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pandas as pd
import psutil
import pytest
from other_processes import started, until
from small_cluster import STORE_BYTES, small_cluster
from small_store import add_vectors, planted_store, utterance_table
from typer.testing import CliRunner

from mixed_signals.models import on_ray, sweep
from mixed_signals.models.cli import app
from mixed_signals.models.heads import head_spec
from mixed_signals.models.keeping import unfinished_path
from mixed_signals.models.material import material
from mixed_signals.models.plan import plan
from mixed_signals.store import (
    Corpus,
    MixedSignalsError,
    Store,
    UsageError,
    folds,
    load_run,
)
from mixed_signals.store.cluster import connected

NAMES = dict.fromkeys(("text", "audio", "video"), "planted")
WAIT = 180  # seconds at the most for what happens on the cluster
HEADS = ("logistic", "xgboost@max_trees=8", "gated@max_epochs=3")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return planted_store(tmp_path_factory.mktemp("ray"), n=96)


@pytest.fixture(scope="module")
def cluster():
    with small_cluster(nodes=3) as made, connected(made.address):
        yield made


@pytest.fixture(scope="module")
def here(store):
    return swept(store)


def swept(store, **options):
    views = store.views(**NAMES)
    asked = {"folds": folds(views, 2), "seeds": (0, 1), "n_jobs": 1}
    return sweep(views, HEADS, **asked | options)


def assert_same(one, other):
    for table in ("predictions", "gates", "metrics"):
        pd.testing.assert_frame_equal(getattr(one, table), getattr(other, table), check_exact=True)
    assert set(one.heads) == set(other.heads)


def test_predictions_gates_and_metrics_are_those_of_one_machine(store, cluster, here):
    assert_same(here, swept(store, on_ray=True))


def test_cross_fitted_features_stay_with_their_folds(tmp_path, cluster):
    store = planted_store(tmp_path, n=48)
    other = store.views(**NAMES)["text"][::-1]
    add_vectors(store, "text/other", other)
    views = [store.views(**NAMES | {"text": name}) for name in ("planted", "other")]
    asked = {"folds": folds(views[0], 2), "views_by_fold": True, "seeds": (0,)}
    local = sweep(views, ("logistic",), n_jobs=1, **asked)
    assert_same(local, sweep(views, ("logistic",), on_ray=True, **asked))
    assert len({row["features"] for row in local.info["chosen_features"] if row["modality"] == "text"}) == 2


def raylet(node):
    """Return the id of the process that a node's workers are children of."""
    return node.all_processes["raylet"][0].process.pid


def fitting(*nodes):
    """Return the processes of these nodes that fit a block now."""
    parents = {raylet(node) for node in nodes}
    children = (child for parent in parents for child in psutil.Process(parent).children())
    return [child for child in children if "ray::_fit" in " ".join(_command_line(child))]


def _command_line(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_worker_and_a_node_that_are_lost_change_no_number(store, cluster, here, tmp_path, monkeypatch):
    def gated(*words):
        """Fit a block when a folder has a file `open`; say there who waits."""
        import ray

        (tmp_path / f"{os.getpid()}.{ray.get_runtime_context().get_node_id()}").touch()
        while not (tmp_path / "open").exists():
            time.sleep(0.02)
        return on_ray._fit(*words)

    monkeypatch.setattr(on_ray, "_fit", gated)
    *_, other, node = cluster.list_all_nodes()

    def waiting_on(node):
        return [int(mark.stem) for mark in tmp_path.glob(f"*.{node.node_id}")]

    def lose():
        os.kill(until(lambda: waiting_on(other), WAIT)[0], signal.SIGKILL)
        until(lambda: waiting_on(node), WAIT)
        cluster.remove_node(node, allow_graceful=False)
        until(lambda: len(waiting_on(other)) > 1, WAIT)  # another worker took over

    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(lose)
        lost.add_done_callback(lambda _: (tmp_path / "open").touch())
        found = swept(store, on_ray=True)
        assert lost.done()
        lost.result()
    assert_same(here, found)


LONG = [
    *("--heads", "logistic", "--fusion", "gated@max_epochs=40@n_scouts=0", "--subsets", "text,text+audio"),
    *("--folds", "6", "--seeds", "1", "--no-refit"),
]


@contextmanager
def fitting_heads(store, cluster, run):
    """Yield a process that does fit-heads and has kept a block, and the folder that it keeps them in."""
    words = ["fit-heads", str(store.path), *LONG, "--run", run, "--ray", cluster.address]
    code = f"import sys; sys.argv = {words!r}; from mixed_signals.models.cli import main; main()"
    folder = unfinished_path(store, run)
    with started(code) as process:
        until(lambda: list(folder.glob("*.npz")), WAIT, alive=process)
        yield process, folder


def test_a_command_that_is_killed_goes_on_from_what_it_kept(store, cluster):
    with fitting_heads(store, cluster, "killed") as (process, folder):
        process.kill()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("heads/*") if ".tmp" not in path.name}
    ran = CliRunner().invoke(app, [str(store.path), *LONG, "--run", "killed", "--ray", cluster.address])
    assert ran.exit_code == 0, ran.exception
    blocks = {
        path for path in kept if (load_folder(store, "killed") / path.name).stat().st_mtime_ns == kept[path]
    }
    assert blocks
    ran = CliRunner().invoke(app, [str(store.path), *LONG, "--run", "local", "--jobs", "1"])
    assert ran.exit_code == 0, ran.exception
    assert_same(*(load_run(store, name) for name in ("killed", "local")))


def load_folder(store, run):
    return store.run_path(run) / "heads"


def test_ctrl_c_ends_in_one_line_and_leaves_no_task(store, cluster):
    with fitting_heads(store, cluster, "stopped") as (process, folder):
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1].strip().splitlines()
    assert process.returncode == 1
    assert said[-1].startswith("error: interrupted; finished parts are kept")
    assert not any("Traceback" in line for line in said)
    assert list(folder.glob("*.npz"))
    until(lambda: not fitting(*cluster.list_all_nodes()), WAIT)


def prepared(store):
    """Return material and blocks of a sweep."""
    views = store.views(**NAMES)
    whole = material(views, views.groups)
    specs = [head_spec(name) for name in HEADS]
    return whole, plan(whole, specs, [("text", "audio")], folds(views, 2), (0,), 1, refit=False)


def test_arrays_are_put_once_and_no_task_carries_them(tmp_path, cluster, monkeypatch):
    import ray

    whole, blocks = prepared(planted_store(tmp_path, n=6000, width=30))
    put, n_put = ray.put, []
    monkeypatch.setattr(ray, "put", lambda value: n_put.append(value) or put(value))
    done = list(on_ray.fit_blocks(whole, blocks, "cpu", 2**30))
    assert len(done) == len(blocks) == 6
    assert len(n_put) == 1 + 2, "the material, and the rows of each of two folds"
    assert n_put[0].X.nbytes > 2_000_000
    assert max(len(pickle.dumps(on_ray._without_rows(block))) for block in blocks) < 2000


def test_what_a_block_cannot_do_is_said_as_on_one_machine(tmp_path, cluster):
    table = utterance_table(96, 8)
    store = Store.create(tmp_path / "store", Corpus("made", table))
    for modality, rows in (("text", table), ("audio", table[table["group"] == "g3"])):
        X = np.random.default_rng(0).normal(size=(len(rows), 3))
        add_vectors(store, f"{modality}/x", X, rows["utterance_id"])
    words = [str(store.path), "--heads", "logistic", "--missing", "mask", "--folds", "2", "--no-refit"]
    said = [
        CliRunner().invoke(app, [*words, *flags]).exception
        for flags in (["--jobs", "1"], ["--ray", cluster.address])
    ]
    assert [type(error) for error in said] == [UsageError, UsageError]
    assert str(said[0]) == str(said[1])


def test_a_gpu_is_asked_for_where_heads_are_trained_on_one(store, cluster, monkeypatch):
    with pytest.raises(UsageError, match="the Ray cluster has no GPU"):
        swept(store, on_ray=True, device="cuda")

    def assigned(shared, rows, block, device, memory, versions):
        import ray

        return {"gpus": len(ray.get_gpu_ids())}, [], 0.0

    monkeypatch.setattr(on_ray, "_fit", assigned)
    node = cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=STORE_BYTES)
    try:
        on_ray.check_device("cuda")
        with pytest.raises(UsageError, match="cpu or cuda"):
            on_ray.check_device("cuda:1")
        done = list(on_ray.fit_blocks(*prepared(store), "cuda", 2**30))
    finally:
        cluster.remove_node(node)
    assert {(one.block.base, one.choice["gpus"]) for one in done} == {
        ("logistic", 1),
        ("gated", 1),
        ("xgboost", 0),
    }


def test_a_node_with_another_library_is_refused(store):
    whole, blocks = prepared(store)
    rows = (blocks[0].train, blocks[0].test, None)
    with pytest.raises(
        MixedSignalsError, match=r"numpy is .* and 0\.1 where the command runs; install the same"
    ):
        on_ray._fit(whole, rows, blocks[0], "cpu", 2**30, {"numpy": "0.1"})


def test_a_number_of_workers_is_refused_beside_a_cluster(store):
    with pytest.raises(UsageError, match="--jobs: with --ray"):
        raise CliRunner().invoke(app, [str(store.path), "--ray", "--jobs", "2"]).exception
