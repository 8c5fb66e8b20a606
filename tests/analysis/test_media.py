"""What the page plays of each utterance: links that lead to the file, clips, or a sentence that says why not."""

import os
import shutil
import threading
import time
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import av
import pandas as pd
import pytest
from media_files import pictures, rising_tone, sound, write

from mixed_signals.analysis.report import helpers
from mixed_signals.analysis.report.helpers import Helpers, probing
from mixed_signals.analysis.report.media import clip_stem, describe_media
from mixed_signals.store import Corpus

FILM = pictures(50), sound(rising_tone(2), "aac")
OLD_FILM = pictures(50, "mpeg1video"), sound(rising_tone(2), "mp2")


def corpus_of(root, *cuts):
    """Return a corpus with an utterance for each (media, start, end), called u0, u1, ..."""
    table = pd.DataFrame(cuts, columns=["media", "start", "end"])
    table["utterance_id"] = [f"u{i}" for i in range(len(table))]
    table["label"] = "calm"
    return Corpus("media", table, media_root=root)


def described(corpus, folder, **options):
    return describe_media(corpus, list(corpus.ids), folder, **options)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "media"
    folder.mkdir()
    return folder


def test_links_lead_to_the_file_whatever_it_is_called(root, tmp_path):
    write(root / "a.wav", sound(rising_tone(0.2)))
    names = [
        "a #1.wav",
        "b?x=1.wav",
        "100%.wav",
        "100%25.wav",
        'it\'s "q".wav',
        "ünï&<b>.wav",
        "מדיה.wav",
    ]
    for name in names:
        shutil.copy(root / "a.wav", root / name)
    corpus = corpus_of(root, *((name, None, None) for name in names))
    page = (tmp_path / "out" / "index.html").as_uri()
    for name, medium in zip(names, described(corpus, tmp_path / "out"), strict=True):
        assert medium["kind"] == "audio"
        address = urlsplit(urljoin(page, medium["src"]))
        assert (address.query, address.fragment) == ("", "")
        assert Path(unquote(address.path)) == root / name
        assert set(medium["src"]) <= set(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789%/._-~"
        )


def test_start_and_end_come_with_the_link_in_the_order_asked_for(root, tmp_path):
    write(root / "a.mp4", *FILM)
    corpus = corpus_of(root, ("a.mp4", 0.5, 1.25), ("a.mp4", None, None), ("a.mp4", 0.25, None))
    found = describe_media(corpus, ["u2", "u0", "u1", "u9"], tmp_path / "out")
    assert [(one["start"], one["end"]) for one in found[:3]] == [(0.25, None), (0.5, 1.25), (None, None)]
    assert found[0]["src"] == "../media/a.mp4"
    assert found[0]["kind"] == "video"
    assert found[3] == {"why": "The corpus does not hold this utterance any more."}


def test_another_drive_gets_a_whole_address(root, tmp_path, monkeypatch):
    write(root / "a b.wav", sound(rising_tone(0.2)))

    def other_drive(*_):
        raise ValueError("path is on mount 'C:', start on mount 'D:'")

    monkeypatch.setattr(os.path, "relpath", other_drive)
    (medium,) = described(corpus_of(root, ("a b.wav", None, None)), tmp_path / "out")
    assert medium["src"] == (root / "a b.wav").as_uri()


def test_why_there_is_nothing_to_play_is_a_sentence(root, tmp_path):
    (root / "text.mp4").write_text("no film")
    (root / "empty.mp4").write_bytes(b"")
    (tmp_path / "secret.wav").write_bytes(b"x")
    (root / "link.wav").symlink_to(tmp_path / "secret.wav")
    corpus = corpus_of(
        root,
        ("", None, None),
        ("gone.mp4", 0, 1),
        ("text.mp4", 0, 1),
        ("link.wav", 0, 1),
        ("empty.mp4", 0, 1),
    )
    for clips in (False, True):
        whys = [medium["why"] for medium in described(corpus, tmp_path / "out", clips=clips)]
        assert whys[0] == "The corpus names no recording of this utterance."
        assert whys[1] == "The recording gone.mp4 is not there any more."
        assert whys[2].startswith("The recording text.mp4 cannot be shown (Invalid data")
        assert whys[3] == "The media entry link.wav leads out of the media root."
        assert whys[4].startswith("The recording empty.mp4 cannot be shown (")
    (unknown,) = described(corpus_of(None, ("a.mp4", 0, 1)), tmp_path)
    assert unknown["why"].endswith("import it again with --media-root.")


def test_recordings_elsewhere_are_named_and_linked_where_a_browser_needs_no_key(tmp_path):
    cuts = ("a b.mp4", 0.5, 1.25), ("a b.mp4", None, None), ("s3://bucket/c.mp4", 0, 1)
    for clips in (False, True):
        first, whole, keyed = described(corpus_of("https://host/m", *cuts), tmp_path, clips=clips)
        assert first["why"].startswith("The recording is at https://host/m/a%20b.mp4 and not on this machine")
        assert (first["href"], whole["href"]) == (
            "https://host/m/a%20b.mp4#t=0.5,1.25",
            "https://host/m/a%20b.mp4",
        )
        assert keyed["why"].startswith("The recording is at s3://bucket/c.mp4 and not on this machine")
        assert "href" not in keyed
    (rootless,) = described(corpus_of(None, ("s3://bucket/c.mp4", 0, 1)), tmp_path)
    assert rootless["why"].startswith("The recording is at s3://bucket/c.mp4")


def test_clips_are_cut_once_for_each_cut_and_not_again(root, tmp_path):
    write(root / "a.mp4", *FILM)
    write(root / "b.wav", sound(rising_tone(2)))
    out, told = tmp_path / "out", []
    cuts = [("a.mp4", 0.5, 1.0), ("b.wav", 0.25, 0.75), ("a.mp4", 0.5, 1.0), ("a.mp4", 9, 10)]
    corpus = corpus_of(root, *cuts)
    first = described(corpus, out, clips=True, on_clip=lambda *progress: told.append(progress))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert [medium.get("kind") for medium in first] == ["video", "audio", "video", None]
    assert first[0] == first[2]
    assert first[0]["start"] is first[0]["end"] is None
    assert first[3]["why"] == "The recording a.mp4 cannot be shown (it holds nothing between 9 s and 10 s)."
    with av.open(str(out / first[0]["src"])) as clip:
        assert clip.duration / 1e6 == pytest.approx(0.5, abs=0.01)
    times = {path.name: path.stat().st_mtime_ns for path in (out / "assets/clips").iterdir()}
    assert len(times) == 2

    corpus = corpus_of(root, *cuts[:3][::-1])
    told.clear()
    assert described(corpus, out, clips=True, on_clip=lambda *progress: told.append(progress)) == first[2::-1]
    assert told == []
    assert {path.name: path.stat().st_mtime_ns for path in (out / "assets/clips").iterdir()} == times

    write(root / "b.wav", sound(rising_tone(1.5)))
    (other, *_) = describe_media(corpus, ["u1"], out, clips=True)
    assert other["src"] != first[1]["src"]
    assert [path.name for path in (out / "assets/clips").iterdir()] == [Path(other["src"]).name]


def test_what_browsers_cannot_play_is_cut_without_being_asked_for(root, tmp_path):
    write(root / "a.mpg", *OLD_FILM)
    write(root / "b.mp4", *FILM)
    corpus = corpus_of(root, ("a.mpg", 0.2, 0.6), ("b.mp4", 0.2, 0.6), ("a.mpg", None, None))
    old, new, whole = described(corpus, tmp_path / "out")
    assert old["src"] == f"assets/clips/{clip_stem('a.mpg', root / 'a.mpg', (0.2, 0.6))}.mp4"
    assert (tmp_path / "out" / old["src"]).is_file()
    assert (new["src"], new["start"]) == ("../media/b.mp4", 0.2)
    assert whole["start"] is None
    assert whole["src"] != old["src"]


def test_a_damaged_file_among_others_costs_its_own_row(root, tmp_path):
    whole = write(root / "a.mp4", *FILM).read_bytes()
    for k in range(6):
        damaged = bytearray(whole)
        damaged[200 + 900 * k : 260 + 900 * k] = os.urandom(60)
        (root / f"d{k}.mp4").write_bytes(bytes(damaged[: len(whole) - 400 * k]))
    corpus = corpus_of(root, *((f"d{k}.mp4", 0.1, 0.5) for k in range(6)), ("a.mp4", 0.1, 0.5))
    found = described(corpus, tmp_path / "out", clips=True)
    assert all("why" in one or (tmp_path / "out" / one["src"]).is_file() for one in found)
    assert any("why" in one for one in found)
    assert found[-1]["kind"] == "video"
    assert not list((tmp_path / "out").rglob("*.tmp"))


def held_up(root):
    """Return a recording that makes whoever reads it wait."""
    os.mkfifo(root / "pipe.wav")
    return root / "pipe.wav"


def test_a_decoder_that_dies_costs_one_recording(root):
    pipe, film = held_up(root), write(root / "a.mp4", *FILM)
    with Helpers(1) as one:
        assert one.ask(probing(film))["kind"] == "video"
        threading.Timer(0.3, lambda: one._children[0]._process.kill()).start()
        assert one.ask(probing(pipe)) == {"why": "its decoder crashed, exit code -9"}
        assert one.ask(probing(film)) == {"kind": "video", "type": "video/mp4"}


def test_a_decoder_that_hangs_is_given_up(root, monkeypatch):
    monkeypatch.setitem(helpers.LONGEST, "probe", 0.3)
    with Helpers(1) as one:
        assert one.ask(probing(held_up(root))) == {"why": "not done within 0.3 s"}


def test_an_interruption_ends_the_children_and_leaves_no_halves(root, tmp_path):
    write(root / "a.mp4", *FILM)
    corpus = corpus_of(root, *(("a.mp4", k / 40, k / 40 + 0.5) for k in range(40)))

    def interrupt(done, total):
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        described(corpus, tmp_path / "out", clips=True, on_clip=interrupt)
    assert time.monotonic() - began < 10
    assert len(list((tmp_path / "out" / "assets/clips").glob("*.mp4"))) < 10
    told = []
    described(corpus, tmp_path / "out", clips=True, on_clip=lambda *progress: told.append(progress))
    assert len(told) < 40  # what was cut is cut
    assert len(list((tmp_path / "out" / "assets/clips").iterdir())) == 40


def test_of_many_files_that_are_alike_a_sample_is_looked_into(root, tmp_path, monkeypatch):
    write(root / "film.mp4", *FILM)
    (root / "many").mkdir()
    (root / "mixed").mkdir()
    for k in range(100):
        os.link(root / "film.mp4", root / "many" / f"{k:03}.mp4")
        os.link(root / "film.mp4", root / "mixed" / f"{k:03}.mp4")
    looked = []
    ask = Helpers.ask
    monkeypatch.setattr(Helpers, "ask", lambda self, job: looked.append(job["probe"]) or ask(self, job))
    corpus = corpus_of(root, *((f"many/{k:03}.mp4", None, None) for k in range(100)))
    assert {one["kind"] for one in described(corpus, tmp_path)} == {"video"}
    assert len(looked) <= 20
    looked.clear()
    os.unlink(root / "mixed" / "000.mp4")
    write(root / "mixed" / "000.mp4", sound(rising_tone(0.2), "aac"))
    corpus = corpus_of(root, *((f"mixed/{k:03}.mp4", None, None) for k in range(100)))
    assert [one["kind"] for one in described(corpus, tmp_path)] == ["audio"] + ["video"] * 99
    assert len(looked) == 100
