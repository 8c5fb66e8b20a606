"""The command analyze-disagreement: output at two widths, one-line errors, exit codes, a quick --help."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

import pytest
from synthetic_study import study_store
from typer.testing import CliRunner

from mixed_signals.analysis.cli import app, main
from mixed_signals.analysis.explore import report_folder
from mixed_signals.store import Corpus, Store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "st"
    study_store(path, n=120, n_seeds=5)
    return path


@pytest.mark.parametrize("width", [80, 100])
def test_tables_fit_and_the_report_is_named(store, width):
    result = CliRunner(env={"COLUMNS": str(width)}).invoke(
        app, [str(store), "--run", "study", "--head", "gated", "--all"]
    )
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(len(line) for line in lines if not line.startswith(("report: ", "files: "))) <= width
    for words in (
        "majority",
        "gated:text+audio+video 0.",
        "audio / fusion",
        "agree right",
        "AUROC of the modalities",
        "above the seed floor",
    ):
        assert words in " ".join(result.stdout.split())
    rows = [line for line in lines if line.startswith(("text / ", "audio / ", "video / "))]
    assert len(rows) == 6
    assert all(row.count("(") == row.count(")") == 2 for row in rows)
    (named,) = (line.removeprefix("report: ") for line in lines if line.startswith("report: "))
    assert named == str(store / "runs" / "study" / "analysis" / "report" / "index.html")


def test_notes_go_to_standard_error(tmp_path):
    study_store(tmp_path / "st", n=60, n_seeds=1, rated=False)
    result = CliRunner().invoke(
        app, [str(tmp_path / "st"), "--run", "study", "--report", str(tmp_path / "out")]
    )
    assert result.exit_code == 0
    assert "no ratings" in result.stderr
    assert "the seed floor needs at least 5 seeds, this run has 1 seed" in result.stderr
    assert "no ratings" not in result.stdout
    assert report_folder(Store.open(tmp_path / "st"), "study") == (tmp_path / "out").resolve()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{store}", "--run", "nothing"], "no run 'nothing'"),
        (["{store}", "--run", "study", "--head", "svm"], "--head: no head 'svm' in this run; it has gated"),
        (["{store}/runs", "--run", "study"], "no store here"),
        (["{store}", "--value", "other"], "--value: expected KEY=VALUE, got 'other'"),
        (["{store}", "--value", "a=b"], "--value a=b: 'b' is no label ("),
        (["{store}", "--value", "a=b", "--only", "typology"], "--value: tells people what ratings mean"),
    ],
)
def test_wrong_calls_are_one_line_and_exit_2(store, arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["analyze-disagreement", *(a.format(store=store) for a in arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert error.strip().count("\n") == 0


@pytest.mark.parametrize("with_run", [True, False])
def test_answers_that_are_no_label_are_counted_once_a_flag_says_what_they_mean(tmp_path, with_run):
    path = tmp_path / "st"
    corpus = study_store(path, n=60, n_seeds=1).corpus
    heard = corpus.ratings.assign(shown="audio")
    heard.loc[::5, "value"] = "other"
    heard.loc[1::5, "value"] = "none of these"
    rated = Store.create(tmp_path / "rated", Corpus("rated", corpus.utterances, ratings=heard)).path
    if with_run:
        shutil.copytree(path / "runs", rated / "runs")
    call = [str(rated), "--only", "people", "--no-refit", "--resamples", "100"]
    said = CliRunner().invoke(app, call)
    assert said.exit_code == 0, said.output
    assert "Nothing is said of people: every channel (audio) is left out" in said.stderr
    label = corpus.utterances["label"].iloc[0]
    mapped = CliRunner().invoke(app, [*call, "--value", f"other=other,none of these={label}"])
    assert mapped.exit_code == 0, mapped.output
    assert "left out" not in mapped.stderr
    assert "shown audio" in " ".join(mapped.stdout.split())


def test_help_has_an_example_and_loads_nothing_heavy():
    code = (
        "import sys\nfrom mixed_signals.analysis.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('numpy', 'pandas', 'scipy', 'matplotlib', 'torch') if m in sys.modules])"
    )
    import mixed_signals.store

    root = str(mixed_signals.store.__file__).split("mixed_signals")[0]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": root}
    )
    assert time.perf_counter() - started < 5
    assert done.stdout.strip().endswith("[]")
    assert "Example" in done.stdout
    assert "--run" in done.stdout
