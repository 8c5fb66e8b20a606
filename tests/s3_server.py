"""An S3 server on this machine (moto's), whose answers are noted and can be made to break off, wait or refuse."""

import os
import threading
import time
import warnings
from functools import cache
from typing import NamedTuple

import pytest

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
"""What AWS's own documentation uses; the tests look for them wherever they should not be."""


class Request(NamedTuple):
    """One request: its method, path, query, the range asked for, and the bytes of the answer's body."""

    method: str
    path: str
    query: str
    range: str
    bytes: int


class S3Server:
    """moto's server behind a gate.

    Attributes
    ----------
    requests : list of Request
    cut_after : int or None
        Objects are broken off when so many bytes of them were sent, each time.
    refuse : set of str
        Paths (``/bucket/key``) that are answered with 403.
    delay : float
        Seconds before an answer.
    """

    def __init__(self) -> None:
        import boto3

        with warnings.catch_warnings(action="ignore"):  # that not all of moto[server] is installed
            from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Silent(WSGIRequestHandler):
            def log(self, *_: object) -> None:
                return

        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Silent)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._note = threading.Lock()
        self.reset()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )

    def reset(self) -> None:
        self.requests: list[Request] = []
        self.cut_after: int | None = None
        self.refuse: set[str] = set()
        self.delay = 0.0

    def put(self, path: str, content: bytes) -> None:
        """Keep an object at ``bucket/key``, and forget the requests that it took."""
        bucket, _, key = path.partition("/")
        self._client.create_bucket(Bucket=bucket)
        self._client.put_object(Bucket=bucket, Key=key, Body=content, ACL="public-read")
        self.requests.clear()

    def gets(self, path: str) -> list[Request]:
        """Return the requests for bytes of one object."""
        return [one for one in self.requests if one.method == "GET" and one.path == path]

    def _answer(self, environ, start_response):
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        told = {}
        time.sleep(self.delay)
        if path in self.refuse:
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            said = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            body = b"" if method == "HEAD" else said
        else:
            body = b"".join(self._app(environ, lambda status, headers, *_: told.update(s=status, h=headers)))
            body = b"" if method == "HEAD" else body
            start_response(told["s"], told["h"])
        ranged = environ.get("HTTP_RANGE", "")
        with self._note:
            self.requests.append(Request(method, path, environ["QUERY_STRING"], ranged, len(body)))
        if self.cut_after is not None and method == "GET" and ranged and len(body) > self.cut_after:
            yield body[: self.cut_after]
            raise ConnectionResetError("cut by the test")
        yield body


@cache
def _server() -> S3Server:
    return S3Server()


def s3_server(monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Return the server of this process, as new but for its objects, and let this process and its children find it.

    Skips where moto, what its server needs, or s3fs is not installed.
    """
    for module in ("moto", "flask", "flask_cors", "s3fs"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    server = _server()
    server.reset()
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    return server


def environment(server: S3Server) -> dict[str, str]:
    """Return the environment by which processes find the server, in place of any credentials of this machine."""
    return {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
