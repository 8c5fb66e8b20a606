"""The notebooks run from top to bottom, a second time too, and leave what is in the store as it is.

They are executed against a small store with the layout of the demo's: its plan of utterances, its words, its raters,
its feature sets by name and its run. Vectors are planted in the place of rendered and encoded media.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from mixed_signals.analysis.explore import report_folder
from mixed_signals.extract.demo.plan import plan_utterances, rate_utterances
from mixed_signals.extract.demo.words import reply
from mixed_signals.models import sweep
from mixed_signals.store import Corpus, Store, folds, import_features

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "analysis" / "notebooks"
FIRST, ANNOTATORS, OWN = (
    FOLDER / name
    for name in ("first_look.ipynb", "annotators_and_ambiguity.ipynb", "bring_your_own_features.ipynb")
)
FEATURES = {"text": "minilm", "audio": "egemaps", "video": "blendshapes"}
SENTENCES = {FIRST: "sentences", ANNOTATORS: "sentences", OWN: "analysis"}  # cells that print findings
SECONDS = 300


class _ThisInterpreter(KernelSpecManager):
    """Knows one kernel: the interpreter that runs the tests."""

    def get_kernel_spec(self, kernel_name):
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name=kernel_name, language="python")


def execute(path, folder, store, times=1):
    """Run a notebook from top to bottom, and again in the same kernel; an error in a cell is raised.

    Returns the notebook with its outputs, as it was after each time.
    """
    notebook = nbformat.read(path, as_version=4)
    for name in ("ipython", "temporary", "runtime"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "_tree"),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "TMPDIR": str(folder / "temporary"),
        "LOKY_MAX_CPU_COUNT": "1",  # a worker process costs more than it saves here
        "MIXED_SIGNALS_STORE": str(store),
    }
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        km=AsyncKernelManager(kernel_spec_manager=_ThisInterpreter()),
        resources={"metadata": {"path": str(folder)}},
    )
    found = []
    with client.setup_kernel(env=environment):
        for _ in range(times):
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
            found.append(deepcopy(notebook))
    return found


def small_demo(folder, *, n=48, channels=False):
    """Make a store as the demo leaves it; with `channels`, with ratings of single modalities and fewer votes."""
    planned = plan_utterances(n, 12, 0.3, seed=0)
    rng = np.random.default_rng(0)
    utterances = pd.DataFrame(
        {
            "utterance_id": [u.utterance_id for u in planned],
            "text": [reply(u.affect["text"], u.strength["text"], rng) for u in planned],
            "label": [u.label for u in planned],
            "group": [f"s{u.speaker:02d}" for u in planned],
        }
    )
    ratings = pd.DataFrame(rate_utterances(planned, seed=0))
    if channels:
        ratings = pd.concat([ratings.groupby("utterance_id").head(2), *alone(planned, rng)])
    store = Store.create(folder, Corpus("demo", utterances, ratings))
    for modality, name in FEATURES.items():
        vectors = rng.normal(size=(n, 12))
        vectors[:, 0] += [3 * u.warmth(modality) for u in planned]
        source = folder.parent / f"{folder.name}-{name}.npz"
        np.savez(source, utterance_id=utterances["utterance_id"].to_numpy(str), embedding=vectors)
        import_features(store, source, modality, name)
    views = store.views(**FEATURES)
    subsets = [*((modality,) for modality in FEATURES), tuple(FEATURES)]
    run = sweep(views, ("gated",), subsets, folds(views, 2), seeds=range(2), n_jobs=1)
    run.save(store, "demo")
    return folder


def alone(planned, rng):
    """Return ratings of people who were shown one modality."""
    for modality in FEATURES:
        warm = [rng.binomial(4, 1 / (1 + np.exp(-3 * u.warmth(modality)))) for u in planned]
        for value, counts in (("empathetic", warm), ("neutral", [4 - k for k in warm])):
            table = pd.DataFrame(
                {
                    "utterance_id": [u.utterance_id for u in planned],
                    "rater": "",
                    "shown": modality,
                    "value": value,
                    "count": counts,
                }
            )
            yield table[table["count"] > 0]


def contents(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A store, and what was in it at first."""
    folder = small_demo(tmp_path_factory.mktemp("demo") / "store")
    return folder, contents(folder)


@pytest.fixture(scope="module", params=[FIRST, ANNOTATORS, OWN], ids=lambda path: path.stem)
def executed(request, demo, tmp_path_factory):
    """Each notebook, as it is after it was run, and after it was run again."""
    path = request.param
    return path, *execute(path, tmp_path_factory.mktemp(path.stem), demo[0], times=2)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook, kind):
    """Return what cells showed, as one of the kinds of `image/png`, `text/html`, `stdout`, `stderr`, by cell id."""
    found = {}
    for cell in code_cells(notebook):
        for output in cell.outputs:
            shown = output["text"] if output.get("name") == kind else output.get("data", {}).get(kind)
            if shown is not None:
                found[cell.id] = shown
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs_and_explains_every_cell(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in code_cells(notebook):
        assert cell.execution_count is None
        assert cell.outputs == []
        assert not cell.metadata
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[:2] == ["markdown", "code"]
    assert "codecode" not in "".join(kinds).replace("markdown", "-")


def test_there_are_three_notebooks_and_the_first_has_ten_cells():
    assert set(FOLDER.glob("*.ipynb")) == {FIRST, ANNOTATORS, OWN}
    assert len(code_cells(nbformat.read(FIRST, as_version=4))) <= 10


def test_a_notebook_runs_without_a_warning(executed):
    _, notebook, _ = executed
    assert outputs(notebook, "stderr") == {}
    assert all(cell.execution_count for cell in code_cells(notebook))


def test_a_notebook_shows_a_picture_wherever_it_draws_one(executed):
    _, notebook, _ = executed
    draws = {cell.id for cell in code_cells(notebook) if "plots." in cell.source}
    assert draws
    assert draws == set(outputs(notebook, "image/png"))


def test_a_notebook_ends_with_a_report_that_is_there(executed):
    _, notebook, _ = executed
    (told,) = (text for text in outputs(notebook, "stdout").values() if "report: /" in text)
    report, explore = told.splitlines()
    assert Path(report.removeprefix("report: ")).is_file()
    command = shlex.split(explore.removeprefix("with sound and picture: "))
    assert command[:2] + command[3:4] == ["mixed-signals", "explore", "--report"]
    assert report_folder(Store.open(command[2]), None, Path(command[4])) == Path(command[4])


def test_a_notebook_adds_to_the_store_and_changes_nothing_in_it(executed, demo):
    path, *_ = executed
    folder, before = demo
    after = contents(folder)
    assert {name: after.get(name) for name in before} == before
    allowed = {
        FIRST: ("runs/first-look/",),
        ANNOTATORS: ("runs/first-look/", "runs/demo/analysis/disagreement+"),
        OWN: ("runs/first-look/", "runs/demo/analysis/disagreement+"),
    }
    assert all(name.as_posix().startswith(allowed[path]) for name in after.keys() - before.keys())


def test_a_notebook_runs_a_second_time(executed):
    path, first, again = executed
    assert outputs(again, "stderr") == {}
    assert set(outputs(again, "image/png")) == set(outputs(first, "image/png"))
    sentences = SENTENCES[path]
    assert outputs(again, "stdout")[sentences] == outputs(first, "stdout")[sentences]


def test_a_notebook_shows_what_ratings_of_single_channels_tell(tmp_path):
    folder = small_demo(tmp_path / "store", n=120, channels=True)
    (notebook,) = execute(ANNOTATORS, tmp_path, folder)
    assert outputs(notebook, "stderr") == {}
    tables = outputs(notebook, "text/html")
    assert "log loss added" in tables["control"]
    assert "spearman" in tables["channels"]


@pytest.mark.parametrize("place", [".", "analysis/notebooks"])
@pytest.mark.parametrize("path", [FIRST, ANNOTATORS, OWN], ids=lambda path: path.stem)
def test_a_notebook_finds_the_demo_from_the_root_and_from_its_own_folder(path, place, tmp_path, monkeypatch):
    first = code_cells(nbformat.read(path, as_version=4))[0].source
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / place)
    monkeypatch.delenv("MIXED_SIGNALS_STORE", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(SystemExit, match="make demo"):
        exec(first, {})  # noqa: S102
    (tmp_path / "demo" / "store").mkdir(parents=True)
    found = {}
    exec(first, found)  # noqa: S102
    assert Path(found["STORE"]).resolve() == tmp_path / "demo" / "store"
