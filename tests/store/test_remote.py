"""Remote files against an S3 server on this machine: which requests are made, and what becomes of broken ones."""

import os
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from s3_server import s3_server

from mixed_signals.store import MixedSignalsError, UsageError, remote


@pytest.fixture
def server(monkeypatch):
    return s3_server(monkeypatch)


@pytest.fixture
def place(server, request):
    """A folder of this test's own, ``bucket/folder``."""
    return f"remote/{request.node.name.replace('[', '-').strip(']')}"


def test_only_the_blocks_that_are_read_are_fetched_and_each_once(server, place):
    content = os.urandom(5 * remote.BLOCK_BYTES + 1000)
    server.put(f"{place}/a.bin", content)
    url = f"s3://{place}/a.bin"
    with remote.reading(url) as file:
        assert file.size == len(content)
        assert file.read(100) == content[:100]
        file.seek(-500, os.SEEK_END)
        assert file.read() == content[-500:]
        file.seek(50)
        assert file.read(1000) == content[50:1050]
    with remote.reading(url) as file:  # a second look costs nothing
        assert (file.tell(), file.read(10)) == (0, content[:10])
        file.seek(remote.BLOCK_BYTES * 2 - 5)
        assert file.read(10) == content[remote.BLOCK_BYTES * 2 - 5 :][:10]
    ranges = [one.range for one in server.gets(f"/{place}/a.bin")]
    block = remote.BLOCK_BYTES
    spans = [(0, block), (5 * block, 6 * block), (block, 2 * block), (2 * block, 3 * block)]
    assert ranges == [f"bytes={start}-{stop - 1}" for start, stop in spans]
    assert len(server.requests) == len(ranges) + 1  # and one that asks for its size and version


def test_a_folder_is_listed_once_for_many_files(server, place, monkeypatch):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")  # files a page; a thousand at AWS
    names = [f"{place}/{number}.wav" for number in range(25)]
    for name in names[:-1]:
        server.put(name, name.encode())
    marks = remote.look(f"s3://{name}" for name in names)
    assert [one.method for one in server.requests] == ["GET"] * 3
    assert marks.pop(f"s3://{names[-1]}") is None
    assert len({mark.identity for mark in marks.values()}) == 24
    assert all(mark.size == len(url) - len("s3://") for url, mark in marks.items())


def test_few_files_are_asked_for_each_and_as_they_are_now(server, place):
    for name in ("a", "b"):
        server.put(f"{place}/{name}", name.encode())
    urls = [f"s3://{place}/{name}" for name in ("a", "b", "none")]
    first = remote.look(urls)
    assert [one.method for one in server.requests].count("HEAD") == 3
    assert first[urls[2]] is None
    listed = remote.look([*urls, *(f"s3://{place}/x{number}" for number in range(remote.LISTED))])
    assert {url: listed[url] for url in urls} == first  # however they are asked for
    server.put(f"{place}/b", b"B")
    second = remote.look(urls)
    assert second[urls[0]] == first[urls[0]]
    assert second[urls[1]] != first[urls[1]]


def test_what_may_not_be_read_is_told_apart_from_what_is_not_there(server, place):
    server.put(f"{place}/a", b"a")
    server.put(f"{place}/b", b"b")
    server.refuse = {f"/{place}/b"}
    urls = [f"s3://{place}/{name}" for name in ("a", "b", "none")]
    marks = remote.look(urls)
    assert [marks[url] is None for url in urls] == [False, True, True]
    for url, why, kind in ((urls[1], "no permission", "refused"), (urls[2], "does not exist", "absent")):
        with pytest.raises(remote.Unreachable, match=why) as caught, remote.reading(url):
            pass
        assert caught.value.kind == kind
    with pytest.raises(MixedSignalsError, match=f"{urls[1]}: there is no permission .*--media-root"):
        remote.look([urls[1]])


def test_a_machine_without_keys_says_so(server, place, monkeypatch):
    from s3fs import S3FileSystem

    server.put(f"{place}/a", b"a")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    S3FileSystem.clear_instance_cache()  # of one that has them
    try:
        with (
            pytest.raises(remote.Unreachable, match="has no keys to read it with") as caught,
            remote.reading(f"s3://{place}/a"),
        ):
            pass
        assert caught.value.kind == "refused"
        with pytest.raises(MixedSignalsError, match="has no keys to read it with"):
            remote.look([f"s3://{place}/a"])
    finally:
        S3FileSystem.clear_instance_cache()


def test_a_broken_connection_is_no_end_of_the_file(server, place):
    server.put(f"{place}/a.bin", bytes(3 * remote.BLOCK_BYTES))
    url = f"s3://{place}/a.bin"

    def read_on():
        with remote.reading(url) as file:
            assert len(file.read(10)) == 10
            server.cut_after = 1000
            file.seek(remote.BLOCK_BYTES)
            for _ in range(3):  # a decoder goes on as if it were the end
                with pytest.raises(remote.Unreachable):
                    file.read(10)

    with pytest.raises(remote.Unreachable, match="could not be read over the network"):
        read_on()
    assert len(server.gets(f"/{place}/a.bin")) == 1 + 5  # s3fs's own tries, of the first read alone
    server.cut_after = None
    with remote.reading(url) as file:
        assert len(file.read()) == 3 * remote.BLOCK_BYTES


def test_a_file_that_changes_while_it_is_read_is_not_mixed(server, place):
    server.put(f"{place}/a.bin", b"1" * 2 * remote.BLOCK_BYTES)

    def read_both():
        with remote.reading(f"s3://{place}/a.bin") as file:
            file.read(10)
            server.put(f"{place}/a.bin", b"2" * 2 * remote.BLOCK_BYTES)
            file.seek(remote.BLOCK_BYTES)
            file.read(10)

    with pytest.raises(remote.Unreachable, match="could not be read"):
        read_both()


@pytest.fixture
def web(tmp_path):
    """A web server of a folder whose ETags are those of nginx: the time of the last change, and the size."""

    class Answers(SimpleHTTPRequestHandler):
        def end_headers(self):
            file = os.stat(self.translate_path(self.path))
            self.send_header("ETag", f'"{int(file.st_mtime):x}-{file.st_size:x}"')
            super().end_headers()

        def log_message(self, *_):
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Answers, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_files_of_one_size_and_time_are_not_one_file_on_the_web(web, tmp_path):
    """As recordings of one length are, that were unpacked together."""
    for name, content in (("a.wav", b"one"), ("b.wav", b"two")):
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, (10**9, 10**9))
    urls = [f"{web}/a.wav", f"{web}/b.wav"]
    first = remote.look(urls)
    assert len({mark.identity for mark in first.values()}) == 2
    assert remote.look(urls) == first
    os.utime(tmp_path / "b.wav", (10**9 + 5, 10**9 + 5))
    second = remote.look(urls)
    assert [second[url] == first[url] for url in urls] == [True, False]


def test_what_s3_keeps_twice_is_known_by_its_content(server, place):
    for name in ("a", "b"):
        server.put(f"{place}/{name}", b"the same")
    one, other = remote.look([f"s3://{place}/a", f"s3://{place}/b"]).values()
    assert one == other


def test_a_server_that_gives_more_than_was_asked_for_is_no_source(monkeypatch):
    """Its parts would be put together out of place."""
    from fsspec.implementations.memory import MemoryFileSystem

    content = os.urandom(3 * remote.BLOCK_BYTES)
    MemoryFileSystem().pipe("/long.bin", content)

    class Long:
        size = len(content)

        def tell(self):
            return 0

        def read(self, n):
            return content[: n + 1]

    file = remote.RemoteFile("memory://long.bin")
    file._file = Long()
    with pytest.raises(remote.Unreachable, match="not as many bytes came as were asked for"):
        file.read(10)


def test_a_library_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    why = r"not installed \(Please install gcsfs"
    with pytest.raises(remote.Unreachable, match=why), remote.reading("gs://bucket/a.wav"):
        pass
    with pytest.raises(UsageError, match=rf"gs://bucket.*{why}"):
        remote.look(["gs://bucket/a.wav"])


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(
        MixedSignalsError, match=r"http://127.0.0.1:9/a.wav: it could not be read over the network"
    ):
        remote.look(["http://127.0.0.1:9/a.wav"])
