"""Content hashes of media: read once, read again when a file may have changed."""

import os
import shutil
import time
from types import SimpleNamespace

import pandas as pd
import pytest

from mixed_signals.extract import media_hashes
from mixed_signals.store import Corpus, Store


@pytest.fixture
def reads(monkeypatch):
    """The names of the media files that are read for their hash."""
    names, real = [], media_hashes.file_hash
    monkeypatch.setattr(media_hashes, "file_hash", lambda path: names.append(path.name) or real(path))
    return names


def media_store(folder, **files):
    media = folder / "media"
    media.mkdir()
    for name, content in files.items():
        (media / f"{name}.wav").write_bytes(content)
    table = pd.DataFrame({"utterance_id": list(files), "media": [f"{name}.wav" for name in files]})
    return Store.create(folder / "s", Corpus("c", table, media_root=media)), media


def test_media_that_did_not_change_are_not_read_again(tmp_path, reads, monkeypatch):
    store, media = media_store(tmp_path, old=b"old", new=b"new")
    time.sleep(0.05)
    (media / "new.wav").write_bytes(b"new")
    old, new = ((media / name).stat().st_ctime_ns for name in ("old.wav", "new.wav"))
    monkeypatch.setattr(media_hashes, "time", SimpleNamespace(time_ns=lambda: new))
    monkeypatch.setattr(
        media_hashes, "_SETTLED_NS", (new - old) // 2
    )  # the old file has settled, the new one has not
    first = media_hashes.media_hashes(store)
    assert media_hashes.media_hashes(store) == first
    assert sorted(reads) == [
        "new.wav",
        "new.wav",
        "old.wav",
    ]  # the new one could change within its time stamp
    stat = (media / "old.wav").stat()
    (media / "old.wav").write_bytes(b"OLD")
    os.utime(media / "old.wav", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as cp -p and rsync -t do
    assert media_hashes.media_hashes(store)["old.wav"] != first["old.wav"]


def test_media_elsewhere_are_other_media(tmp_path, monkeypatch):
    store, media = media_store(tmp_path, a=b"one")
    other = tmp_path / "other"
    shutil.copytree(media, other)
    (other / "a.wav").write_bytes(b"two")
    monkeypatch.setattr(media_hashes, "_SETTLED_NS", -(10**12))  # every file has settled
    here = media_hashes.media_hashes(store)
    assert media_hashes.media_hashes(Store.open(store.path, media_root=other)) != here


def test_a_file_that_cannot_be_read_costs_its_own_row(tmp_path, monkeypatch):
    store, _ = media_store(tmp_path, a=b"one", b=b"two")
    real = media_hashes.file_hash

    def broken(path):
        if path.name == "a.wav":
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(media_hashes, "file_hash", broken)
    hashes = media_hashes.media_hashes(store)
    assert hashes["a.wav"] == media_hashes.ABSENT
    assert hashes["b.wav"] != media_hashes.ABSENT


@pytest.mark.parametrize("junk", [b"", b"PAR1 and nothing", pd.DataFrame({"x": [1]}).to_parquet()])
def test_a_damaged_memory_of_hashes_is_no_memory(tmp_path, junk):
    store, _ = media_store(tmp_path, a=b"one")
    (store.path / "features").mkdir()
    (store.path / "features" / ".media.parquet").write_bytes(junk)
    assert media_hashes.media_hashes(store)["a.wav"] != media_hashes.ABSENT
