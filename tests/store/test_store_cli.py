"""``mixed-signals store``: what is printed, what is JSON, and the exit codes."""

import json
import os
import shutil
import sys

import numpy as np
import pandas as pd
import pytest

from mixed_signals.store import Corpus, FeatureWriter, Recipe, Status, Store
from mixed_signals.store.cli import app
from mixed_signals.store.files import write_json, write_parquet
from mixed_signals.store.terminal import run_app

N, D = 12, 10


@pytest.fixture
def store(tmp_path):
    table = pd.DataFrame(
        {
            "utterance_id": [f"u{i}" for i in range(N)],
            "label": ["calm", "warm"] * (N // 2),
            "group": [f"g{i // 3}" for i in range(N)],
        }
    )
    store = Store.create(tmp_path / "my.store", Corpus("planted", table))
    X = np.random.default_rng(0).normal(size=(N, D))
    status = np.array([Status.OK] * (N - 5) + [Status.MISSING] * 5)
    reasons = [""] * (N - 5) + ["no sound"] * 5
    recipe = Recipe(
        "egemaps", "audio", weights="built in", preprocessing={"sample_rate": 16000}, pooling="mean"
    )
    ids = store.corpus.ids
    names = [f"loudness_{i}" for i in range(D)]
    versions = {"numpy": np.__version__}
    with FeatureWriter(
        store.feature_path("audio", "egemaps"), recipe, ids, ids, names, versions=versions
    ) as writer:
        writer.write(range(N), X, status, reasons)
    return store


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*words, width=80):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "argv", ["mixed-signals store", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            run_app(app)
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return run


def add_run(store, name="first"):
    folder = store.run_path(name)
    info = {"n_utterances": N, "target": "label", "features": {"audio": {"name": "egemaps"}}}
    write_json(folder / "run.json", info)
    write_json(
        folder / "metrics.json", [{"model": "majority"}, {"model": "logistic:audio"}, {"model": "majority"}]
    )
    for table in ("predictions", "gates"):
        write_parquet(folder / f"{table}.parquet", pd.DataFrame({"utterance_id": ["u0"]}))


def damage(store):
    """Change a byte of the first vector."""
    features = store["audio/egemaps"]
    with features.path.open("r+b") as file:
        file.seek(features.blocks["embedding"].offset)
        file.write(b"\x42")


def test_ls_lists_feature_sets_and_runs(store, call):
    add_run(store)
    code, out, err = call("ls", store.path)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    (line,) = [line for line in out.splitlines() if "audio/egemaps" in line and "float32" in line]
    for said in (
        "10 float32",
        "kB",
        "7 ok",
        store["audio/egemaps"].recipe_fingerprint[:8],
        f"numpy {np.__version__}",
    ):
        assert said in line
    assert "5 missing" in out
    (line,) = [line for line in out.splitlines() if "first" in line]
    assert line.split()[0] == "first"
    assert line.split()[3:] == ["2", "12", "label", "audio/egemaps"]


def test_ls_as_json(store, call):
    add_run(store)
    code, out, err = call("ls", store.path, "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    (features,), (run,) = said["feature_sets"], said["runs"]
    assert said["corpus"]["name"] == "planted"
    assert features["coverage"] == {"pending": 0, "ok": 7, "missing": 5, "failed": 0}
    assert features["bytes"] == store["audio/egemaps"].path.stat().st_size
    assert (run["name"], run["models"], run["target"]) == ("first", 2, "label")
    assert pd.Timestamp(run["made"]).tzinfo is not None


def test_ls_goes_on_past_what_cannot_be_read(store, call):
    add_run(store)
    add_run(store, "second")
    (store.run_path("first") / "metrics.json").write_text("no json")
    (store.path / "features" / "audio" / "broken.h5").write_text("no features")
    code, out, err = call("ls", store.path)
    assert code == 0
    assert "audio/egemaps" in out
    assert "second" in out
    assert "broken.h5: damaged, or no feature set" in err
    assert "metrics.json: not readable as JSON" in err
    said = json.loads(call("ls", store.path, "--json")[1])
    assert ["error" in one for one in said["feature_sets"]] == [True, False]


@pytest.mark.parametrize(
    "change",
    [
        {"target": 5},
        {"target": ["a"]},
        {"n_utterances": "many"},
        {"features": [1]},
        {"features": {"audio": {"name": 3}}},
        {"features": {"audio": "egemaps"}},
    ],
)
def test_ls_goes_on_past_a_run_that_says_what_cannot_be(store, call, change):
    add_run(store)
    add_run(store, "second")
    path = store.run_path("first") / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    code, out, err = call("ls", store.path)
    assert code == 0
    assert "second" in out
    assert "runs/first: run.json or metrics.json are not as fit-heads writes them" in err


def test_ls_reads_no_run_outside_the_store_and_waits_for_no_pipe(store, call, tmp_path):
    add_run(store)
    (store.path / "runs" / "odd name").mkdir()
    (store.path / "runs" / "odd name" / "run.json").touch()
    outside = tmp_path / "outside"
    shutil.copytree(store.path / "runs" / "first", outside)
    (store.path / "runs" / "evil").symlink_to(outside)
    (store.path / "runs" / "piped").mkdir()
    os.mkfifo(store.path / "runs" / "piped" / "run.json")
    code, out, err = call("ls", store.path)
    assert code == 0
    assert "first" in out
    assert "evil: refused: a link that leads out of the store" in err
    assert "run.json: refused: no ordinary file" in err
    assert "odd name" in err


def hostile(store, source):
    """Write a feature set whose provenance says what it likes."""
    ids, path = store.corpus.ids, store.feature_path("video", "odd")
    with FeatureWriter(path, Recipe("odd", "video"), ids, ids, ["a"], source=source) as writer:
        writer.write(range(N), np.ones((N, 1)), [Status.MISSING] * N, ["[red]gone\x1b[2J"] * N)


@pytest.mark.parametrize("said", ["[bold]x[/nothing]", ["a", 1], {"b": None}, 3, "\x1b[31mred\u202e"])
def test_what_a_file_says_is_shown_as_text(store, call, said):
    hostile(store, {"imported_from": said})
    for words in (("ls",), ("show", "video/odd"), ("doctor",)):
        code, out, err = call(words[0], store.path, *words[1:], width=200)
        assert code == 0
        assert not set(out + err) & {"\x1b", "\u202e"}
    shown = str(said).replace("\x1b", "\ufffd").replace("\u202e", "\ufffd")
    assert shown in call("show", store.path, "video/odd", width=200)[1]
    assert "[red]gone\ufffd[2J" in call("show", store.path, "video/odd", width=200)[1]


def test_what_is_printed_as_json_is_json(store, call):
    hostile(store, {"imported_from": float("nan"), "others": [float("inf")]})
    refuse = lambda constant: pytest.fail(f"{constant} is not JSON")
    said = json.loads(call("show", store.path, "video/odd", "--json")[1], parse_constant=refuse)
    assert said["provenance"]["others"] == [None]
    code, out, _ = call("ls", store.path, "--json")
    assert (code, json.loads(out, parse_constant=refuse)["feature_sets"][1]["imported_from"]) == (0, None)


def test_half_a_character_is_shown_and_is_json(store, call):
    add_run(store)
    path = store.run_path("first") / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target": "a\ud800"}))
    assert "a\ufffd" in call("ls", store.path, width=200)[1]
    assert json.loads(call("ls", store.path, "--json")[1])["runs"][0]["target"] == "a\ud800"
    code, _, err = call("ls", f"{store.path}\udcff")
    assert code == 2
    assert "\ufffd: no store here" in err


def test_too_little_memory_is_one_line(store, call, monkeypatch):
    from mixed_signals.store import listing

    def fill(store):
        return np.empty(1 << 55)

    monkeypatch.setattr(listing, "list_runs", fill)
    code, _, err = call("ls", store.path, width=200)
    assert code == 1
    assert err.startswith("error: not enough memory (Unable to allocate")
    assert err.count("\n") == 1


def test_ls_reads_no_row_of_a_feature_set(store, call, monkeypatch):
    from mixed_signals.store import FeatureSet

    def refuse(self):
        raise AssertionError("ls needs no rows")

    for name in ("ids", "row_hashes", "reasons"):
        monkeypatch.setattr(FeatureSet, name, property(refuse))
    assert call("ls", store.path)[0] == 0


def test_a_store_of_another_format_is_named(store, call):
    (store.path / "corpus.json").write_text('{"format": 1}')
    code, _, err = call("ls", store.path, width=500)
    assert code == 1
    assert "corpus.json" in err
    code, out, _ = call("doctor", store.path, "--strict", width=500)
    assert code == 1
    assert "corpus.json" in out


def test_ls_of_an_empty_store_says_how_to_go_on(tmp_path, call):
    Store.create(tmp_path / "s", Corpus("empty", pd.DataFrame({"utterance_id": ["a"]})))
    code, out, _ = call("ls", tmp_path / "s")
    assert code == 0
    assert "extract-features" in out
    assert "fit-heads" in out


def test_show_without_a_feature_set_shows_the_store(store, call):
    code, out, _ = call("show", store.path, width=200)
    assert code == 0
    assert out.strip() == str(store)
    assert json.loads(call("show", store.path, "--json")[1]) == json.loads(
        call("ls", store.path, "--json")[1]
    )


def test_show_says_where_vectors_come_from(store, call):
    code, out, _ = call("show", store.path, "audio/egemaps", width=200)
    assert code == 0
    said = dict(line.split(maxsplit=1) for line in out.splitlines() if len(line.split()) > 1)
    assert said["encoder"].strip() == "egemaps"
    assert said["preprocessing"].strip() == "sample rate 16000"
    assert said["recipe"].strip() == store["audio/egemaps"].recipe_fingerprint
    assert said["content"].strip() == store["audio/egemaps"].content_fingerprint
    assert "loudness_7, ..." in said["dimensions"]
    assert "{" not in out
    assert "5 missing: no sound (u7, u8, u9, ...)" in out


def test_show_all_names_every_dimension_and_utterance(store, call):
    _, out, _ = call("show", store.path, "audio/egemaps", "--all", width=200)
    assert "loudness_8, loudness_9" in out
    assert "5 missing: no sound (u7, u8, u9, u10, u11)" in out


def test_show_as_json(store, call):
    said = json.loads(call("show", store.path, "audio/egemaps", "--json")[1])
    assert said["gaps"] == [
        {"status": "missing", "reason": "no sound", "ids": [f"u{i}" for i in range(7, N)]}
    ]
    assert said["recipe"]["pooling"] == "mean"


@pytest.mark.parametrize("words", [["show", "text/none"], ["show", "none"]])
def test_a_feature_set_that_is_not_there_is_a_wrong_call(store, call, words):
    code, _, err = call(words[0], store.path, words[1])
    assert code == 2
    assert words[1] in err


@pytest.mark.parametrize("command", ["ls", "show", "doctor", "verify"])
def test_a_folder_without_a_store_is_a_wrong_call(tmp_path, call, command):
    code, _, err = call(command, tmp_path / "none")
    assert code == 2
    assert "no store here" in err


def test_doctor_prints_findings_with_their_mends(store, call):
    code, out, err = call("doctor", store.path)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "5 of 12 rows missing: no sound; e.g. u7, u8, u9" in " ".join(out.split())
    assert "mend: nothing, if so it is" in out
    assert out.strip().splitlines()[-1] == "1 note in 29 checks over 1 feature set"


def test_doctor_says_when_it_finds_nothing(tmp_path, call):
    table = pd.DataFrame({"utterance_id": ["a", "b"], "group": ["g", "h"]})
    Store.create(tmp_path / "s", Corpus("sound", table))
    code, out, _ = call("doctor", tmp_path / "s", "--strict")
    assert (code, out.strip()) == (0, "nothing found in 29 checks over 0 feature sets")
    assert json.loads(call("doctor", tmp_path / "s", "--json")[1]) == []


def test_strict_fails_over_a_warning_alone(tmp_path, call):
    Store.create(tmp_path / "s", Corpus("no groups", pd.DataFrame({"utterance_id": ["a"]})))
    assert call("doctor", tmp_path / "s")[0] == 0
    code, out, _ = call("doctor", tmp_path / "s", "--strict")
    assert code == 1
    assert "1 warning in" in out


def test_strict_fails_over_an_error_and_not_over_a_note(store, call):
    assert call("doctor", store.path, "--strict")[0] == 0
    (store.path / "features" / "audio" / "broken.h5").write_text("no features")
    assert call("doctor", store.path)[0] == 0
    code, out, _ = call("doctor", store.path, "--strict")
    assert code == 1
    assert "1 error, 1 note" in out
    code, out, _ = call("doctor", store.path, "--strict", "--json")
    assert code == 1
    assert [one["check"] for one in json.loads(out)] == ["readable", "missing-rows"]


def test_verify_prints_a_line_for_each_file(store, call):
    add_run(store)
    code, out, err = call("verify", store.path)
    assert (code, err) == (0, "")
    for name in ("corpus.json", "utterances.parquet", "features/audio/egemaps.h5", "runs/first/run.json"):
        (line,) = [line for line in out.splitlines() if name in line]
        assert line.split()[1] == "ok"
    assert "files read: all ok" in out.replace("in 7 files", "files")


def test_verify_names_corrupt_rows_and_fails(store, call):
    damage(store)
    code, out, _ = call("verify", store.path)
    assert code == 1
    (line,) = [line for line in out.splitlines() if "egemaps.h5" in line]
    assert "corrupt" in line
    assert "1 of 12 rows are not what was written: u0" in out
    assert "mend: remove it, then extract or import it again" in out
    assert "1 corrupt" in out.splitlines()[-1]
    code, out, _ = call("verify", store.path, "--json")
    assert code == 1
    assert [one["rows"] for one in json.loads(out) if not one["ok"]] == [["u0"]]


def test_a_long_look_shows_its_progress_beside_the_json(store, call, monkeypatch):
    from mixed_signals.store import cli

    monkeypatch.setattr(cli, "_SLOW_BYTES", 0)
    for command in ("doctor", "verify"):
        _, out, err = call(command, store.path, "--json")
        assert f"{N} done" in err
        json.loads(out)
