"""A server of one report, for this machine only, that streams the recordings of the corpus.

All addresses are below a random token, and only those that the page needs: ``index.html``, what is in ``assets/``,
and ``media?id=ID``, the recording of an utterance. Sent is a clip, if the report has one of that utterance; else the
recording itself, by range; or, of one that browsers cannot play, a clip cut for the occasion.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import re
import secrets
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, StaticFileHandler

from mixed_signals.analysis.report.folder import ELSEWHERE, PAGE, run_shown
from mixed_signals.analysis.report.helpers import Helpers, cutting, probing
from mixed_signals.analysis.report.media import clip_file, clip_stem, locate, times_of
from mixed_signals.store import MixedSignalsError, Store, UsageError
from mixed_signals.store.files import read_json

HOST = "127.0.0.1"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "media-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content security policy: the page's own without files, and no page of others holds this one in a frame."""

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".mp4": "video/mp4",
    ".m4a": "audio/mp4",
    ".webm": "video/webm",
    ".weba": "audio/webm",
}
_OTHER = "application/octet-stream"
_HTML = re.compile(r"<html\b")


def report_folder(store: Store, run: str | None, report: Path | None = None) -> Path:
    """Return the folder of a run's report.

    Parameters
    ----------
    store : Store
    run : str or None
        None: the only one.
    report : Path, optional
        Where the report is, if not in the run's own folder.

    Raises
    ------
    UsageError
        If there is no such run, or no report of it.
    """
    if report is not None:
        call = f"{_analyze(store, run)} --report {report}"
        if not (report / PAGE).is_file():
            raise UsageError(f"--report {report}: no report here; make one with: {call}")
        if run is not None and (shown := run_shown(report)) not in (None, run):
            raise UsageError(
                f"--report {report}: is of run {shown}; leave --run out, or make it anew with: {call}"
            )
        return report
    runs = store.runs()
    if not runs:
        raise UsageError(
            f"{store.path}: this store has no runs; explore shows the report of a run: make a run with fit-heads and "
            f"its report with {_analyze(store, None)}, or open one in another folder with --report FOLDER"
        )
    if run is None and len(runs) != 1:
        raise UsageError(f"--run: say which run of {store.path} (runs: {', '.join(runs)})")
    name = run or runs[0]
    if name not in runs:
        raise UsageError(f"--run {name}: no such run in {store.path} (runs: {', '.join(runs)})")
    folder = store.run_path(name, "analysis", "report")
    if not (folder / PAGE).is_file():
        if (elsewhere := folder.with_name(ELSEWHERE)).is_file():
            return report_folder(store, name, Path(read_json(elsewhere)["report"]))
        raise UsageError(
            f"run {name} has no report yet; open one in another folder with --report FOLDER, or make it with: "
            f"{_analyze(store, name)}"
        )
    return folder


def _analyze(store: Store, run: str | None) -> str:
    return f"analyze-disagreement {store.path}" + (f" --run {run}" if run else "")


async def serve(
    store: Store, folder: Path, *, port: int = 0, on_ready: Callable[[str], None] = lambda address: None
) -> None:
    """Serve a report and the recordings of its corpus until the process is told to end, or this task is cancelled.

    Parameters
    ----------
    store : Store
    folder : Path
        Of the report.
    port : int
        0: any that is free.
    on_ready : callable
        Called with the address.

    Raises
    ------
    UsageError
        If the port is taken.
    """
    try:
        sockets = bind_sockets(port, HOST)
    except OSError as error:
        for_free = "leave --port out for one that is free"
        raise UsageError(f"--port {port}: cannot be had ({error.strerror}); {for_free}") from None
    told_to_end = asyncio.Event()
    with suppress(
        NotImplementedError, ValueError, RuntimeError
    ):  # not on this system, or not the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_end.set)
    with tempfile.TemporaryDirectory(prefix="mixed-signals-") as clips, Helpers() as helpers:
        token = secrets.token_urlsafe(24)
        recordings = _Recordings(store, Path(clips), helpers)
        server = HTTPServer(_application(token, folder, recordings))
        server.add_sockets(sockets)
        try:
            on_ready(f"http://{HOST}:{sockets[0].getsockname()[1]}/{token}/")
            await told_to_end.wait()
        finally:
            helpers.close()
            server.stop()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(server.close_all_connections(), 1)


def _application(token: str, folder: Path, recordings: _Recordings) -> Application:
    logging.getLogger("tornado").addHandler(logging.NullHandler())
    given = {"token": token}
    return Application(
        [
            (r"/([^/]*/media)", _Media, given | {"recordings": recordings}),
            (r"/(.*)", _Page, given | {"folder": folder}),
        ]
    )


class _Recordings:
    """Finds what is to be played of an utterance, and has it cut where browsers cannot play it."""

    def __init__(self, store: Store, clips: Path, helpers: Helpers) -> None:
        self._corpus, self._clips, self._helpers = store.corpus, clips, helpers
        self._rows = {utterance: row for row, utterance in enumerate(self._corpus.ids)}
        self._under_way: dict[str, asyncio.Task[dict[str, Any]]] = {}

    async def find(self, utterance: str) -> tuple[Path, str]:
        """Return the file to send and its media type; raise 404 if there is none."""
        if utterance not in self._rows:
            raise HTTPError(404, reason="No Such Utterance")
        row = self._corpus.utterances.iloc[self._rows[utterance]]
        path = locate(self._corpus, row["media"])
        if not isinstance(path, Path):
            raise HTTPError(404, reason="No Recording")
        times = times_of(row["start"], row["end"])
        stem = clip_stem(row["media"], path, times)
        if clip := clip_file(self._clips, stem):
            return clip, _TYPES[clip.suffix]
        medium = await self._once(f"probe {path} {path.stat().st_mtime_ns}", probing(path))
        if "kind" in medium and medium["type"]:
            return path, medium["type"]
        cut = await self._once(stem, cutting(path, *times, self._clips / stem))
        if "file" not in cut:
            raise HTTPError(404, reason="Not Readable")
        return self._clips / cut["file"], _TYPES[Path(cut["file"]).suffix]

    async def _once(self, key: str, job: dict[str, Any]) -> dict[str, Any]:
        """Have a job done beside the server, and once only, however many ask for it."""
        if key not in self._under_way:
            self._under_way[key] = asyncio.create_task(asyncio.to_thread(self._helpers.ask, job))
        try:
            return await asyncio.shield(self._under_way[key])
        except MixedSignalsError:  # the disk may have room again
            self._under_way.pop(key, None)
            raise


class _Guarded(StaticFileHandler):
    """Answers only those who know the token and came by this machine's own name; sends files by range."""

    _sent: Path | None = None
    _type = _OTHER

    def initialize(self, token: str) -> None:  # type: ignore[override]
        super().initialize("")
        self._token = token

    def set_default_headers(self) -> None:
        """Set what goes with every answer, errors too."""
        self.clear_header("Server")
        for name, value in (
            ("Content-Security-Policy", POLICY),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cache-Control", "no-cache"),
        ):
            self.set_header(name, value)

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        """Return a part of the address as text; there is nothing at one that is no text."""
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise HTTPError(404) from None

    def prepare(self) -> None:
        """Refuse strangers; a name that someone else made to lead here would make this server a part of their site."""
        if self.request.host_name not in (HOST, "localhost"):
            raise HTTPError(403)
        token, slash, path = self.path_args[0].partition("/")
        if not hmac.compare_digest(token.encode(), self._token.encode()) or not slash:
            raise HTTPError(404)
        self.path_args = [path]

    async def get(self, path: str, include_body: bool = True) -> None:
        """Send what `find` finds, or the part of it that is asked for."""
        self._sent, self._type = await self.find(path)
        only_if = self.request.headers.get("If-Range", self.compute_etag())
        if only_if != self.compute_etag():
            self.request.headers.pop("Range", None)
        await super().get("", include_body)

    async def head(self, path: str) -> None:
        """Send the headers that GET would."""
        await self.get(path, include_body=False)

    async def find(self, path: str) -> tuple[Path, str]:
        """Return the file at an address below the token, and its media type; raise 404 if there is none."""
        raise HTTPError(404)

    @classmethod
    def get_absolute_path(cls, root: str, path: str) -> str:
        """Return nothing of use: which file is sent is for `find` to say."""
        return path

    def validate_absolute_path(self, root: str, absolute_path: str) -> str:
        """Return the file that `find` found."""
        return str(self._sent)

    def compute_etag(self) -> str | None:
        """Return what changes when the file does."""
        if self._sent is None:
            return None
        stat = self._sent.stat()
        return f'"{stat.st_size:x}-{stat.st_mtime_ns:x}"'

    def get_content_type(self) -> str:
        """Return the media type by which browsers are to take the file."""
        return self._type

    def write_error(self, status_code: int, **_: Any) -> None:
        """Answer with one plain line."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code} {self._reason}\n")


class _Media(_Guarded):
    """The recording of an utterance."""

    def initialize(self, token: str, recordings: _Recordings) -> None:  # type: ignore[override]
        super().initialize(token)
        self._recordings = recordings

    async def find(self, path: str) -> tuple[Path, str]:
        """Return what is to be played of the utterance that is asked for."""
        (asked,) = self.request.query_arguments.get("id", [])[:1] or [b""]
        return await self._recordings.find(self.decode_argument(asked))


class _Page(_Guarded):
    """The page and what is in its assets, as they are on disk now."""

    def initialize(self, token: str, folder: Path) -> None:  # type: ignore[override]
        super().initialize(token)
        self._folder = os.path.realpath(folder)

    async def find(self, path: str) -> tuple[Path, str]:
        """Return a file of the report."""
        try:
            real = os.path.realpath(os.path.join(self._folder, path))
        except (ValueError, OSError):  # a null byte, a name that is too long
            raise HTTPError(404) from None
        if not real.startswith(os.path.join(self._folder, "assets", "")) or not os.path.isfile(real):
            raise HTTPError(404)
        return Path(real), _TYPES.get(os.path.splitext(real)[1], _OTHER)

    async def get(self, path: str, include_body: bool = True) -> None:
        """Send the page, which is told that it is served, or a file of its assets."""
        if path not in ("", "index.html"):
            await super().get(path, include_body)
            return
        page = os.path.join(self._folder, "index.html")
        if os.path.realpath(page) != page or not os.path.isfile(page):
            raise HTTPError(404)
        text = await asyncio.to_thread(Path(page).read_text, encoding="utf-8")
        self.set_header("Content-Type", _TYPES[".html"])
        self.finish(_HTML.sub("<html data-served", text, count=1))
