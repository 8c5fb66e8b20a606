"""Models of the hub are fetched and found again; what it refuses is said in one line, with the mend."""

import hashlib
import http.server
import json
import threading
from pathlib import Path

import pytest
import torch
from checkpoint_files import one_line, tiny, write
from typer.testing import CliRunner

from mixed_signals.extract.checkpoints import fetched, resolve
from mixed_signals.extract.encoders import PRESETS, make_encoder, on_this_machine
from mixed_signals.extract.encoders.presets import Preset
from mixed_signals.extract.hub import TAUGHT
from mixed_signals.extract.weights_cli import app
from mixed_signals.store import MixedSignalsError, UsageError
from mixed_signals.store.provenance import fingerprint

pytestmark = pytest.mark.usefixtures("own_caches")

SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """A hub on this machine: models by name, and the status and code with which it refuses some."""

    def __init__(self):
        self.models = {}
        self.refused = {}
        self.asked = []
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                status, body, headers = hub.answer(self.path)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path):
        path = path.partition("?")[0].strip("/").split("/")
        about = path[:2] == ["api", "models"]
        path = path[2:] if about else path
        name, (what, revision, *file) = "/".join(path[:2]), (*path[2:], "main", "main")[: len(path[2:]) or 2]
        if name in self.refused:
            status, code = self.refused[name]
            return status, b"", {"X-Error-Code": code} if code else {}
        if name not in self.models:
            return 404, b"", {"X-Error-Code": "RepoNotFound"}
        if revision not in ("main", "v1", SHA):
            return 404, b"", {"X-Error-Code": "RevisionNotFound"}
        folder = self.models[name]
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        if not about:
            self.asked.append("/".join(file))
            body = files["/".join(file)]
            etag = hashlib.sha1(body, usedforsecurity=False).hexdigest()
            return 200, body, {"ETag": f'"{etag}"', "X-Repo-Commit": SHA}
        if what == "tree":
            listed = [
                {"type": "file", "path": path, "size": len(body), "oid": SHA} for path, body in files.items()
            ]
        else:
            listed = {"id": name, "sha": SHA, "siblings": [{"rfilename": path} for path in files]}
        return 200, json.dumps(listed).encode(), {"Content-Type": "application/json"}


def point_to(monkeypatch, url):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(monkeypatch):
    one = Hub()
    point_to(monkeypatch, one.url)
    yield one
    one.server.shutdown()
    one.server.server_close()


def test_a_hub_model_is_fetched_without_what_is_not_used_and_then_found_here(tmp_path, hub, monkeypatch):
    source = write(tiny("BertModel"), tmp_path / "source")
    for name in ("pytorch_model.bin", "tf_model.h5", "code.py", "onnx/model.onnx", "training_args.bin"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(b"unused")
    hub.models["org/tiny"] = source
    found = resolve("org/tiny", revision="v1")
    assert sorted(set(hub.asked)) == ["config.json", "model.safetensors", "vocab.txt"]
    assert (found.name, found.revision) == ("tiny", "v1")
    assert found.folder.name == SHA
    assert found.fingerprint == resolve(str(source)).fingerprint
    hub.server.shutdown()
    hub.server.server_close()
    assert resolve("org/tiny", revision="v1", fetch=False) == found
    assert fetched("org/tiny", revision="v1") == found  # the hub does not answer, and need not
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert resolve("org/tiny", revision="v1") == found
    with pytest.raises(MixedSignalsError, match="not on this machine"):
        resolve("org/tiny")  # main was never asked for


def test_a_tuned_model_says_what_it_was_trained_on_when_it_comes_back_from_the_hub(tmp_path, hub):
    hub.models["org/tuned"] = source = write(tiny("BertModel"), tmp_path / "tuned")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, TAUGHT: fingerprint(["u1", "u2"])}))
    plain = resolve(str(source)).fingerprint
    (source / "training.json").write_text(json.dumps({"trained_on": ["u1", "u2"]}))
    assert make_encoder("text", "org/tuned", device="cpu").trained_on == ("u1", "u2")
    found = resolve("org/tuned")
    assert found.fingerprint == plain
    (found.folder / "training.json").unlink()  # as other programs leave it, which do not fetch it
    with pytest.raises(MixedSignalsError, match="not on this machine"):
        resolve("org/tuned", fetch=False)
    assert make_encoder("text", "org/tuned", device="cpu").trained_on == ("u1", "u2")


def test_pickles_come_from_the_hub_only_where_there_is_nothing_else(tmp_path, hub):
    hub.models["org/tiny"] = write(tiny("BertModel"), tmp_path / "source", pickled=True)
    found = resolve("org/tiny")
    assert "pytorch_model.bin" in hub.asked
    assert found.folder.parent == tmp_path / "cache/converted"
    torch.testing.assert_close(found.model().state_dict(), tiny("BertModel").state_dict())
    assert resolve("org/tiny", fetch=False).fingerprint == found.fingerprint


def test_what_is_here_in_part_is_fetched_whole(tmp_path, hub):
    hub.models["org/tiny"] = write(tiny("BertModel"), tmp_path / "source")
    found = resolve("org/tiny")
    for gone in ("vocab.txt", "model.safetensors"):
        (found.folder / gone).unlink()
        with pytest.raises(MixedSignalsError, match="not on this machine"):
            resolve("org/tiny", fetch=False)
        assert resolve("org/tiny") == found


def test_offline_says_which_model_where_it_was_looked_for_and_what_to_do(tmp_path):
    with pytest.raises(MixedSignalsError) as caught:
        resolve("org/tiny", revision="v1")
    said = one_line(caught)
    folder = tmp_path / "hub/models--org--tiny"
    fetch = "'mixed-signals weights fetch org/tiny --revision v1'"
    both = "org/tiny: not on this machine, neither as a folder here nor as a model of the hub"
    for part in (both, str(folder), "HF_HUB_OFFLINE is set", "correct the path, or", fetch, "copy that"):
        assert part in said


def test_no_connection_is_told_from_being_switched_off(monkeypatch):
    point_to(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(
        MixedSignalsError, match=r"and no connection to http://127\.0\.0\.1:9: correct the path, or run 'm"
    ):
        resolve("org/tiny")


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "RepoNotFound", "no public model on the hub: check the name, or log in"),
        (401, "", "answered 401: log in"),
        (
            403,
            "GatedRepo",
            "its authors ask for consent: agree at http.*/org/tiny, log in with 'hf auth login'",
        ),
        (403, "", "answered 403: log in"),
        (500, "", "answered 500: try again later"),
    ],
)
def test_what_the_hub_refuses_is_said_with_the_mend(hub, status, code, said):
    hub.refused["org/tiny"] = (status, code)
    with pytest.raises(MixedSignalsError, match=said) as caught:
        resolve("org/tiny")
    assert one_line(caught).startswith("org/tiny: ")


def test_an_unknown_revision_is_named(tmp_path, hub):
    hub.models["org/tiny"] = write(tiny("BertModel"), tmp_path / "source")
    with pytest.raises(MixedSignalsError, match="org/tiny: no revision 'v9': give a branch"):
        resolve("org/tiny", revision="v9")


def test_a_hub_model_that_is_not_for_transformers_is_refused(tmp_path, hub):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/weights.h5").write_bytes(b"x")
    hub.models["org/tiny"] = tmp_path / "source"
    with pytest.raises(MixedSignalsError, match=r"has no config\.json with model\.safetensors") as caught:
        resolve("org/tiny")
    one_line(caught)


def test_a_hub_preset_keeps_its_name_and_is_fetched_by_making_it(tmp_path, hub, monkeypatch):
    hub.models["org/long-name"] = write(tiny("BertModel"), tmp_path / "source")
    monkeypatch.setitem(PRESETS, "short", Preset("text", 8, "MIT", "x", hub="org/long-name"))
    assert not on_this_machine("short")
    encoder = make_encoder("text", "short", revision="v1")
    assert encoder.name == "short"
    assert encoder.outputs[0].recipe.revision == "v1"
    assert make_encoder("text", "org/long-name", revision="v1").name == "long-name"
    make_encoder("text", "short")
    assert on_this_machine("short")


def test_the_weights_command_takes_presets_and_hub_models(tmp_path, hub, monkeypatch):
    hub.models["org/tiny"] = write(tiny("BertModel"), tmp_path / "source", pickled=True)
    monkeypatch.setitem(PRESETS, "short", Preset("text", 8, "MIT", "x", hub="org/tiny"))
    monkeypatch.setenv("COLUMNS", "100")
    run = CliRunner().invoke

    def here():
        (row,) = [line for line in run(app, ["ls"]).stdout.splitlines() if line.startswith("short ")]
        return row.split()[2]

    assert isinstance(run(app, ["path", "short"]).exception, MixedSignalsError)
    assert here() == "no"
    fetched = run(app, ["fetch", "short,org/tiny"])
    assert fetched.exit_code == 0
    folder = tmp_path / "cache/converted"
    assert [line.partition(": ")[2].startswith(str(folder)) for line in fetched.stdout.splitlines()] == [
        True
    ] * 2
    assert here() == "yes"
    assert Path(run(app, ["path", "short"]).stdout.strip()).name == SHA
    assert run(app, ["fetch", "org/tiny", "--revision", "v1"]).exit_code == 0
    for wrong in (["fetch", "short,org/tiny", "--revision", "v1"], ["fetch", "./here"], ["fetch", "emobase"]):
        assert isinstance(run(app, wrong).exception, UsageError)
