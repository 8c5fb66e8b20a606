"""The commands as a person calls them: help at once, wrong calls in one line with the right exit code."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
SUBCOMMANDS = (
    "demo",
    "corpus",
    "store",
    "weights",
    "extract",
    "finetune",
    "fit",
    "predict",
    "analyze",
    "explore",
)
COMMANDS = [
    ["mixed-signals"],
    ["extract-features"],
    ["finetune-encoders"],
    ["fit-heads"],
    ["analyze-disagreement"],
    *(["mixed-signals", name] for name in SUBCOMMANDS),
]
ODD = "my [/b] :ox: store"  # what a console that reads markup or emoji would not print as it is


def call(*words, **options):
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
    command = [str(BIN / words[0]), *map(str, words[1:])]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, **options)


@pytest.fixture(autouse=True)
def _installed():
    if not (BIN / "mixed-signals").exists():
        pytest.skip("the commands are not installed beside this Python (make test installs them)")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_answers_without_loading_anything_heavy(words):
    ran = call(*words, "--help")
    assert ran.returncode == 0, ran.stderr
    assert "Usage" in ran.stdout
    code = (
        "import sys\n"
        "from importlib.metadata import entry_points\n"
        f"main = entry_points(group='console_scripts')[{words[0]!r}].load()\n"
        f"sys.argv = [*{words!r}, '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'pandas', 'torch', 'h5py', 'sklearn', 'mediapipe', 'matplotlib', 'transformers'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "loaded: []" in ran.stderr


def test_help_takes_less_than_half_a_second():
    """Of processor time, the best of five: wall time is that of whatever else the machine does."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        call("mixed-signals", "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.5


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["extract-features", "no.store", "--text", "minilm"], 2, "no.store: no store here"),
        (["finetune-encoders", "no.store", "--text", "minilm"], 2, "no.store: no store here"),
        (["fit-heads", "no.store"], 2, "no.store: no store here"),
        (["analyze-disagreement", "no.store", "--run", "x"], 2, "no.store: no store here"),
        (["mixed-signals", "store", "ls", "no.store"], 2, "no.store: no store here"),
        (["mixed-signals", "corpus", "import", "csv", "no.csv", "--store", "s"], 2, "no.csv: no such file"),
        (["mixed-signals", "corpus", "import", "xls", "no.csv", "--store", "s"], 2, "'xls': one of csv"),
        (["mixed-signals", "weights", "fetch", "a/b/c"], 2, "no name of a model"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_calls_give_one_clear_line(words, code, said, tmp_path):
    ran = call(*words, cwd=tmp_path)
    assert ran.returncode == code
    lines = ran.stderr.strip().splitlines()
    assert len(lines) == 1, ran.stderr
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert "Traceback" not in ran.stderr
    assert "Traceback" in call(*words, "--debug", cwd=tmp_path).stderr


def test_a_csv_with_a_missing_column(tmp_path):
    (tmp_path / "clips.csv").write_text("utterance_id,text\na,hello\n")
    import_clips = ["mixed-signals", "corpus", "import", "csv", "clips.csv", "--store", "s"]
    ran = call(*import_clips, "--group", "speaker", cwd=tmp_path)
    assert ran.returncode == 2
    assert ran.stderr.strip() == "error: clips.csv: no column 'speaker' (--group); it has: utterance_id, text"
    assert not (tmp_path / "s").exists()
    assert call(*import_clips, cwd=tmp_path).returncode == 0
    ran = call("extract-features", "s", "--text", "word2vec", cwd=tmp_path)
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: word2vec: not on this machine, neither as a folder here nor ")
    assert ran.stderr.count("\n") == 1
    ran = call("extract-features", "s", "--audio", "roberta-base", cwd=tmp_path)
    assert ran.returncode == 2
    assert ran.stderr == "error: --audio roberta-base: is a text encoder: use --text roberta-base\n"


def test_a_text_file_named_mp4(tmp_path):
    (tmp_path / "a.mp4").write_text("this is no film")
    (tmp_path / "clips.csv").write_text("utterance_id,media\na,a.mp4\n")
    call("mixed-signals", "corpus", "import", "csv", "clips.csv", "--store", "s", cwd=tmp_path)
    ran = call("extract-features", "s", "--audio", "egemaps", cwd=tmp_path)
    assert ran.returncode == 1
    assert "audio/egemaps: 1 failed: not readable as media" in ran.stderr
    assert ran.stderr.strip().splitlines()[-1] == "error: every utterance failed in audio/egemaps"


def test_table_to_report(tmp_path):
    """The whole line on a corpus without media: import, features from elsewhere, heads, report; then again."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    n = 96
    label = rng.permutation(np.resize(["[/calm]", "warm"], n))
    ids = [f"u{i}" for i in range(n)]
    table = pd.DataFrame({"clip": ids, "who [/w]": [f"s{i % 8}" for i in range(n)], "feels [b]": label})
    table.to_csv(tmp_path / "clips.csv", index=False)
    columns = ["--id", "clip", "--group", "who [/w]", "--label", "feels [b]"]
    ran = call(
        "mixed-signals", "corpus", "import", "csv", "clips.csv", "--store", ODD, *columns, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    for modality in ("audio", "video"):
        X = rng.normal(size=(n, 4)) + 2 * (label == "warm")[:, None]
        np.savez(tmp_path / "x.npz", utterance_id=ids, embedding=X)
        place = ["--modality", modality, "--name", "mine"]
        ran = call("mixed-signals", "store", "import", ODD, "x.npz", *place, cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
    fit = [
        "fit-heads",
        ODD,
        "--heads",
        "logistic",
        "--fusion",
        "gated@max_epochs=4",
        "--seeds",
        "2",
        "--folds",
        "4",
    ]
    ran = call(*fit, "--group", "who [/w]", "--run", "first", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "audio+video" in ran.stdout
    assert "group-majority" in ran.stdout
    assert f"run 'first' is in {ODD}/runs/first" in ran.stdout
    assert "[/calm] 48, warm 48" in ran.stdout
    ran = call("analyze-disagreement", ODD, "--run", "first", "--report", "out", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "out" / "index.html").stat().st_size > 1000
    ran = call(
        "mixed-signals",
        "predict",
        ODD,
        "--run",
        "first",
        "--model",
        "logistic:audio",
        "--out",
        "p.csv",
        cwd=tmp_path,
    )
    assert ran.returncode == 1
    assert "the run or its encoders were trained on all that have audio" in ran.stderr
    again = call(*fit, "--run", "first", cwd=tmp_path)
    assert again.returncode == 2
    assert f"--run first: {ODD} has such a run" in again.stderr
    for wrong, said in (
        (["--heads", "gated"], "gated goes with --fusion"),
        (["--heads", "svm"], "--heads 'svm'"),
        (["--features", "audio"], "expected MODALITY=NAME"),
        (["--features", "audio=other"], "audio/mine"),
        (["--group", "dialog"], "no column 'dialog'"),
        (["--folds", "9"], "8 groups cannot make 9 folds"),
        (["--group", "none"], "--allow-shared-groups"),
        (["--memory", "much"], "--memory 'much': write e.g. 500M or 4G"),
        (["--fusion", "gated@size=3"], "no setting 'size'"),
        (["--subsets", "audio+smell"], "no 'smell' among audio, video"),
        (["--split", "split"], "leave out --folds"),
    ):
        ran = call(*fit, *wrong, cwd=tmp_path)
        assert ran.returncode == 2
        assert said in ran.stderr
    quick = ["fit-heads", ODD, "--heads", "logistic", "--folds", "4", "--subsets", "audio,video,audio+video"]
    ran = call(*quick, "--group", "none", "--allow-shared-groups", "--run", "shared", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    told = call("analyze-disagreement", ODD, "--run", "shared", cwd=tmp_path)
    for output in (ran.stdout, told.stdout + told.stderr):
        assert "96 test rows are of groups (8, e.g." in " ".join(output.split())
    assert "[/calm] 48, warm 48" in call("mixed-signals", "corpus", "show", ODD, cwd=tmp_path).stdout
    assert call("mixed-signals", "store", "ls", ODD, cwd=tmp_path).returncode == 0
    shutil.rmtree(tmp_path / ODD)
