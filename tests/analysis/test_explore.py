"""The server of a report: what it streams, to whom, and what it gives to nobody."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import pandas as pd
import pytest
from media_files import pictures, rising_tone, sound, write

from mixed_signals.analysis.explore import report_folder
from mixed_signals.analysis.report.folder import ELSEWHERE, MARK
from mixed_signals.analysis.report.media import clip_stem
from mixed_signals.store import Corpus, Store, UsageError
from mixed_signals.store.files import write_json

PAGE = '<!DOCTYPE html>\n<html lang="en">\n<body data-heads="1">report</body>\n</html>\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store with films, a run and a report, and things beside them that are nobody's business."""
    root = tmp_path_factory.mktemp("explore")
    media, report = root / "media", root / "st/runs/first/analysis/report"
    media.mkdir()
    write(media / "a.mp4", pictures(50), sound(rising_tone(2), "aac"))
    write(media / "old.mpg", pictures(50, "mpeg1video"), sound(rising_tone(2), "mp2"))
    write(media / "b.wav", sound(rising_tone(2)))
    (media / "text.mp4").write_text("no film")
    (root / "secret.wav").write_bytes((media / "b.wav").read_bytes())
    (media / "link.wav").symlink_to(root / "secret.wav")
    rows = [
        ("film", "a.mp4", 0.5, 1.0), ("ü/#&?<i>", "a.mp4", None, None), ("old", "old.mpg", 0.2, 0.6),
        ("voice", "b.wav", None, None), ("none", "", None, None), ("gone", "gone.mp4", None, None),
        ("text", "text.mp4", None, None), ("link", "link.wav", None, None), ("clip", "a.mp4", 0.1, 0.4),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["utterance_id", "media", "start", "end"])
    Store.create(root / "st", Corpus("c", table, media_root=media))
    (report / "assets/clips").mkdir(parents=True)
    (report / "index.html").write_text(PAGE)
    (report / "assets/page.css").write_text("p {}")
    (report / "assets/side.js").write_text('"use strict";')
    (report / "private.txt").write_text("secret")
    (report / "assets/out").symlink_to(root)
    (report / "assets/secret.css").symlink_to(root / "secret.wav")
    (report / f"assets/clips/{clip_stem('a.mp4', media / 'a.mp4', (0.1, 0.4))}.mp4").write_bytes(b"the clip")
    (root / "st/runs/first/run.json").write_text("{}")
    return root


def command(*words, **options):
    call = [sys.executable, "-m", "mixed_signals.analysis.explore_cli", *map(str, words), "--no-browser"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.Popen(
        call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )


@contextmanager
def served(*words, **options):
    """Yield (the process, the address)."""
    process = command(*words, **options)
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def address(place):
    with served(place / "st", "--run", "first") as (_, found):
        yield found


def ask(address, path="", method="GET", **headers):
    """Return (status, headers, body)."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    connection.putrequest(method, parts.path + path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def media(utterance):
    return f"media?id={quote(utterance, safe='')}"


def test_the_page_is_told_that_it_is_served_and_the_rest_is_as_it_is(address):
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", address)
    for path in ("", "index.html"):
        status, headers, body = ask(address, path)
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert body.decode() == PAGE.replace("<html", "<html data-served")
        assert ask(address, path, "HEAD")[2] == b""
    status, headers, body = ask(address, "assets/side.js")
    assert (status, body, headers["Content-Type"]) == (
        200,
        b'"use strict";',
        "text/javascript; charset=utf-8",
    )
    assert ask(address, "assets/page.css")[1]["Content-Type"] == "text/css; charset=utf-8"


@pytest.mark.parametrize("path", ["", "assets/side.js", "media?id=film", "nothing"])
def test_every_answer_carries_what_keeps_others_out(address, path):
    headers = ask(address, path)[1]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe-eval" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Server" not in headers


def test_without_the_token_there_is_nothing(address):
    parts = urlsplit(address)
    bare = f"http://{parts.netloc}"
    token = parts.path.strip("/")
    wrong = ("", token, f"{token[:-1]}/", f"{token}x/", "/", "x/media?id=film", "%ff/", f"{token}/{token}/")
    for path in (*(f"/{path}" for path in wrong), "/media?id=film", "/index.html"):
        assert ask(bare, path)[0] == 404, path


@pytest.mark.parametrize(("host", "status"), [
    ("127.0.0.1", 200), ("localhost:1", 200), ("evil.example", 403), ("127.0.0.1.evil.example", 403), ("[::1]", 403),
    ("localhost@evil.example", 400),
])  # fmt: skip
def test_a_name_that_leads_here_is_not_enough(address, host, status):
    assert ask(address, Host=host)[0] == status


@pytest.mark.parametrize(
    "path",
    [
        "../findings.json", "%2e%2e/findings.json", "assets/../private.txt", "private.txt", "assets/..%2fprivate.txt",
        "assets/../../../run.json", "assets/%2e%2e/%2e%2e/%2e%2e/run.json", "/etc/passwd", "%2fetc%2fpasswd",
        "assets/%00", "assets/side.js%00", "assets/out/secret.wav", "assets/secret.css", "assets/", "assets/out",
        "assets/..%5c..%5cprivate.txt", "assets/" + "x" * 5000, "assets//etc/passwd", "media/", "assets/%ff",
        "media", "media?id=", "media?id=nobody", "media?id=%ff", "media?id=../a.mp4", "media?id=a.mp4", "media?id=none",
        "media?id=gone", "media?id=text", "media?id=link", "media?id=film%00",
    ],
)  # fmt: skip
def test_nothing_else_is_served(address, path):
    status, _, body = ask(address, path)
    assert status == 404
    assert re.fullmatch(rb"404 [\w ]+\n", body)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_is_changed(address, method):
    assert ask(address, "assets/side.js", method)[0] == 405


def test_media_is_sent_whole_and_in_parts(address, place):
    whole = (place / "media/a.mp4").read_bytes()
    for utterance in ("film", "ü/#&?<i>"):
        status, headers, body = ask(address, media(utterance))
        assert (status, body, headers["Content-Type"]) == (200, whole, "video/mp4")
    assert headers["Accept-Ranges"] == "bytes"
    assert ask(address, media("voice"))[1]["Content-Type"] == "audio/wav"
    for asked, start, stop in (("10-19", 10, 20), ("0-0", 0, 1), ("-5", -5, None), (f"7-{10**9}", 7, None)):
        status, headers, body = ask(address, media("film"), Range=f"bytes={asked}")
        assert (status, body) == (206, whole[start:stop])
        assert int(headers["Content-Length"]) == len(body)
        first = len(whole) + start if start < 0 else start
        assert headers["Content-Range"] == f"bytes {first}-{first + len(body) - 1}/{len(whole)}"
    for asked in (f"{len(whole)}-", f"{10**30}-", "-0"):
        status, headers, _ = ask(address, media("film"), Range=f"bytes={asked}")
        assert (status, headers["Content-Range"]) == (416, f"bytes */{len(whole)}")
    for odd in ("bytes=x-y", "lines=1-2", "bytes=1-2,4-5"):
        assert ask(address, media("film"), Range=odd)[2] == whole


def test_head_tells_what_get_would_send(address, place):
    for extra in ({}, {"Range": "bytes=5-9"}):
        status, headers, body = ask(address, media("film"), "HEAD", **extra)
        assert (status, body) == (206 if extra else 200, b"")
        assert int(headers["Content-Length"]) == (5 if extra else (place / "media/a.mp4").stat().st_size)


def test_a_part_of_a_file_that_changed_is_not_joined_to_what_was_sent_before(address):
    etag = ask(address, media("film"))[1]["Etag"]
    assert ask(address, media("film"), Range="bytes=1-2", If_Range=etag)[0] == 206
    assert ask(address, media("film"), Range="bytes=1-2", If_Range='"other"')[0] == 200
    assert ask(address, media("film"), If_Range='"other"')[0] == 200
    assert ask(address, media("film"), If_None_Match=etag)[0] == 304


def test_what_browsers_cannot_play_is_cut_once_and_meanwhile_others_are_served(address):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(ask(address, media("old")))) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        began = time.monotonic()
        assert ask(address)[0] == 200
        assert time.monotonic() - began < 3
    (status, headers, body), *others = answers
    assert (status, headers["Content-Type"]) == (200, "video/mp4")
    assert body[4:8] == b"ftyp"
    assert all(other[2] == body and other[1]["Etag"] == headers["Etag"] for other in others)
    assert ask(address, media("old"), Range="bytes=4-7")[2] == b"ftyp"


def test_clips_of_the_report_come_from_the_report_and_recordings_by_id(address, place):
    film = place / "media/a.mp4"
    clip = f"assets/clips/{clip_stem('a.mp4', film, (0.1, 0.4))}.mp4"
    assert ask(address, clip)[2] == b"the clip"
    assert ask(address, media("clip"))[2] == film.read_bytes()


def test_a_report_that_is_made_again_is_served_as_it_is_now(address, place):
    page = place / "st/runs/first/analysis/report/index.html"
    page.unlink()
    assert ask(address)[0] == 404
    page.write_text(PAGE.replace("report", "another"))
    assert b"another" in ask(address)[2]
    page.write_text(PAGE)


def test_players_that_read_slowly_hold_nobody_up_and_large_files_stay_on_disk(place, tmp_path):
    (tmp_path / "media").mkdir()
    header, _, samples = (place / "media/b.wav").read_bytes().partition(b"data")
    with (tmp_path / "media/b.wav").open("wb") as large:
        large.write(header + b"data" + (2**31 - len(header) - 8).to_bytes(4, "little") + samples[4:])
        large.truncate(2**31)
    with served(place / "st", "--run", "first", "--media-root", tmp_path / "media") as (process, address):
        parts, players = urlsplit(address), []
        for _ in range(5):
            player = socket.create_connection((parts.hostname, parts.port))
            player.sendall(
                f"GET {parts.path}media?id=voice HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
            )
            assert b" 200 " in player.recv(200)
            players.append(player)
        assert ask(address, media("voice"), Range=f"bytes={2**31 - 3}-")[2] == bytes(3)
        assert ask(address, media("film"))[0] == 404  # which is not in this root
        memory = Path(f"/proc/{process.pid}/status")
        if memory.exists():
            assert int(re.search(r"VmRSS:\s+(\d+)", memory.read_text())[1]) < 600_000  # kB
        for player in players:
            player.close()


def test_ctrl_c_ends_it_in_one_line_and_leaves_nothing_behind(place, tmp_path):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        with served(place / "st") as (process, address):
            assert ask(address, media("old"))[0] == 200
            assert list(temporary.glob("mixed-signals-*/*.mp4"))
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
            assert process.stderr.read() == "Ctrl-C ends it\nstopped\n"
            assert process.stdout.read() == ""
    assert not list(temporary.glob("mixed-signals-*"))


def failed(*words):
    process = command(*words)
    said = process.communicate(timeout=60)
    return process.returncode, *said


def test_wrong_calls_are_told_in_one_line(place, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, said = failed(place / "st", "--port", port)
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith(f"error: --port {port}: cannot be had (")
    (tmp_path / "st").mkdir()
    for file in (place / "st").glob("*.*"):
        (tmp_path / "st" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "st/runs/second").mkdir(parents=True)
    (tmp_path / "st/runs/second/run.json").write_text("{}")
    for words, wanted in (
        ((), f"error: run second has no report yet; open one in another folder with --report FOLDER, "
             f"or make it with: analyze-disagreement {tmp_path}/st --run second\n"),
        (("--run", "x"), f"error: --run x: no such run in {tmp_path}/st (runs: second)\n"),
        (("--report", tmp_path), f"error: --report {tmp_path}: no report here; make one with: analyze-disagreement "
                                 f"{tmp_path}/st --report {tmp_path}\n"),
    ):  # fmt: skip
        assert failed(tmp_path / "st", *words) == (2, "", wanted)


def test_a_store_without_runs_says_what_makes_a_report(place, tmp_path):
    store = shutil.copytree(place / "st", tmp_path / "st", ignore=shutil.ignore_patterns("runs"))
    for run in (None, "first"):
        with pytest.raises(
            UsageError, match="this store has no runs; explore shows the report of a run"
        ) as refused:
            report_folder(Store.open(store), run)
        for mend in ("fit-heads", f"analyze-disagreement {store}", "--report FOLDER"):
            assert mend in str(refused.value)


def test_a_report_elsewhere_is_served(place, tmp_path):
    (tmp_path / "index.html").write_text(PAGE.replace("report", "elsewhere"))
    with served(place / "st", "--report", tmp_path) as (_, address):
        assert b"elsewhere" in ask(address)[2]
        assert ask(address, media("film"))[0] == 200


def test_a_report_elsewhere_is_found_again_and_one_of_another_run_is_refused(place, tmp_path):
    store = tmp_path / "st"
    shutil.copytree(place / "st", store, symlinks=True)
    elsewhere = tmp_path / "out"
    (store / "runs/first/analysis/report").rename(elsewhere)
    (elsewhere / "index.html").write_text(f'{MARK}\n<meta name="mixed-signals-run" content="second">')
    (store / "runs/second/analysis").mkdir(parents=True)
    (store / "runs/second/run.json").write_text("{}")
    write_json(store / "runs/second/analysis" / ELSEWHERE, {"report": str(elsewhere)})
    opened = Store.open(store)
    assert report_folder(opened, "second") == elsewhere
    assert report_folder(opened, "second", elsewhere) == elsewhere
    with pytest.raises(UsageError, match="is of run second; leave --run out"):
        report_folder(opened, "first", elsewhere)
    with pytest.raises(UsageError, match="run first has no report yet"):
        report_folder(opened, "first")
