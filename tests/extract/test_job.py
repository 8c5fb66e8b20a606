"""The job with small encoders of its own: planning, resuming, faults, and workers that die."""

import os
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mixed_signals.extract import job, media_hashes
from mixed_signals.extract.encoders.base import Encoder
from mixed_signals.extract.media import Absent, Unreadable
from mixed_signals.store import Corpus, MixedSignalsError, Recipe, Status, Store, UsageError


class Lengths(Encoder):
    """The length of the text; some texts ask for trouble."""

    def __init__(self, batch_size=4, in_processes=False):
        self.recipe = Recipe("lengths", "text")
        self.dimensions = ["length"]
        self.batch_size, self.in_processes = batch_size, in_processes
        self.seen = []

    def load(self):
        self.loaded = True

    def vectors(self, clips):
        assert self.loaded
        self.seen += [clip.utterance_id for clip in clips]
        for clip in clips:
            if clip.text == "absent":
                raise Absent("nothing there")
            if clip.text == "broken":
                raise Unreadable("cannot be read")
            if clip.text == "surprise":
                raise KeyError("surprise")
            if clip.text == "die":
                os._exit(1)
        return [np.array([len(clip.text)]) for clip in clips]


def make_store(folder, said):
    ids = [f"u{i:02d}" for i in range(len(said))]
    return Store.create(folder / "s", Corpus("c", pd.DataFrame({"utterance_id": ids, "text": said})))


def run(store, encoder, monkeypatch, **options):
    monkeypatch.setattr(job, "make_encoder", lambda modality, name: encoder)
    (task,) = job.plan(store, [("text", "lengths")], **options)
    return job.run(store, task, workers=2), task


@pytest.mark.parametrize("in_processes", [False, True])
def test_each_row_gets_its_own_vector_and_its_own_fault(tmp_path, monkeypatch, in_processes):
    said = ["x" * (37 * i % 11 + 1) for i in range(30)]
    said[5], said[11], said[20] = "absent", "broken", "surprise"
    store = make_store(tmp_path, said)
    outcome, _ = run(store, Lengths(in_processes=in_processes), monkeypatch)
    features = outcome.features
    bad = {5: (Status.MISSING, "nothing there"), 11: (Status.FAILED, "cannot be read")}
    bad[20] = (Status.FAILED, "KeyError: 'surprise'")
    for row, text in enumerate(said):
        if row in bad:
            assert (features.status[row], features.reasons[row]) == bad[row]
            assert np.isnan(features.embedding[row]).all()
        else:
            assert features.embedding[row, 0] == len(text)
    assert features.provenance["recipe"]["encoder"] == "lengths"


def test_a_second_run_does_nothing_and_a_changed_text_is_done_alone(tmp_path, monkeypatch):
    store = make_store(tmp_path, ["a", "bb", "ccc"])
    run(store, Lengths(), monkeypatch)
    again = Lengths()
    outcome, task = run(store, again, monkeypatch)
    assert again.seen == []
    assert task.plan.reasons == {}
    table = store.corpus.utterances.assign(text=["a", "bbbb", "ccc"])
    Store.create(store.path, Corpus("c", table), replace=True)
    changed = Lengths()
    outcome, task = run(Store.open(store.path), changed, monkeypatch)
    assert changed.seen == ["u01"]
    assert task.plan.reasons == {"text changed": 1}
    np.testing.assert_array_equal(outcome.features.embedding[:, 0], [1, 4, 3])


def test_what_was_done_before_an_interruption_is_kept(tmp_path, monkeypatch):
    store = make_store(tmp_path, ["x"] * 20)

    class Interrupted(Lengths):
        def vectors(self, clips):
            if len(self.seen) >= 16:
                raise KeyboardInterrupt
            return super().vectors(clips)

    encoder = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        run(store, encoder, monkeypatch)
    assert store["text/lengths"].ok.sum() == 16
    rest = Lengths()
    outcome, task = run(store, rest, monkeypatch)
    assert len(rest.seen) == 4
    assert task.plan.reasons == {"not yet done": 4}
    assert outcome.features.ok.all()


def test_a_worker_that_dies_is_reported_and_costs_no_finished_row(tmp_path, monkeypatch):
    store = make_store(tmp_path, ["x"] * 40 + ["die"])
    monkeypatch.setattr(job, "make_encoder", lambda modality, name: Lengths(in_processes=True))
    (task,) = job.plan(store, [("text", "lengths")])
    done = []
    with pytest.raises(MixedSignalsError, match="a worker process died"):
        job.run(store, task, workers=1, on_progress=done.append)
    features = store["text/lengths"]
    assert 0 < sum(done) <= 40
    assert features.ok.sum() == sum(done)
    assert (np.asarray(features.embedding)[features.ok] == 1).all()


def test_utterances_that_left_the_corpus_are_told_and_dropped(tmp_path, monkeypatch):
    store = make_store(tmp_path, ["a", "bb", "ccc"])
    run(store, Lengths(), monkeypatch)
    fewer = store.corpus.utterances.iloc[1:].assign(label=["x", "y"])
    store = Store.create(store.path, Corpus("c", fewer), replace=True)
    with pytest.raises(MixedSignalsError, match="run extract-features again, which drops them"):
        store.views(text="lengths")
    encoder = Lengths()
    _, task = run(store, encoder, monkeypatch)
    assert (task.plan.reasons, task.plan.dropped, encoder.seen) == ({}, 1, [])
    assert list(store.views(text="lengths").X[:, 0]) == [2, 3]


def test_media_are_identified_by_content_and_times(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(b"one")
    table = pd.DataFrame(
        {
            "utterance_id": ["p", "q", "r"],
            "media": ["a.wav", "a.wav", "gone.wav"],
            "start": [0, 1, 0],
            "end": [1, 2, 1],
        }
    )
    store = Store.create(tmp_path / "s", Corpus("c", table, media_root=tmp_path))

    class Sizes(Lengths):
        def __init__(self):
            super().__init__()
            self.recipe = Recipe("lengths", "audio")

    monkeypatch.setattr(job, "make_encoder", lambda modality, name: Sizes())
    (task,) = job.plan(store, [("audio", "lengths")])
    first = task.row_hashes
    assert len(set(first)) == 3
    (tmp_path / "a.wav").write_bytes(b"two")
    (task,) = job.plan(store, [("audio", "lengths")])
    assert [x == y for x, y in zip(first, task.row_hashes, strict=True)] == [False, False, True]


def test_vectors_outlive_media_that_are_gone_for_a_while(tmp_path, monkeypatch):
    media = tmp_path / "media"
    media.mkdir()
    for name in ("a.wav", "b.wav"):
        (media / name).write_bytes(name.encode())
    table = pd.DataFrame({"utterance_id": ["p", "q"], "text": ["x", "xx"], "media": ["a.wav", "b.wav"]})
    store = Store.create(tmp_path / "s", Corpus("c", table, media_root=media))

    def encoder(modality, name):
        made = Lengths()
        made.recipe = Recipe("lengths", "audio")
        return made

    monkeypatch.setattr(job, "make_encoder", encoder)
    (task,) = job.plan(store, [("audio", "lengths")])
    assert job.run(store, task).features.ok.all()
    (media / "b.wav").unlink()
    (task,) = job.plan(store, [("audio", "lengths")])
    assert (task.plan.reasons, list(task.gone)) == ({}, ["q"])
    assert job.run(store, task).features.ok.all()
    media.rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="the media root is not there"):
        job.plan(store, [("audio", "lengths")])


def test_heads_are_not_trained_on_vectors_of_former_texts(tmp_path, monkeypatch):
    table = pd.DataFrame({"utterance_id": ["p", "q"], "text": ["x", "xx"], "label": ["m", "n"]})
    store = Store.create(tmp_path / "s", Corpus("c", table))
    run(store, Lengths(), monkeypatch)
    assert list(store.views(text="lengths").X[:, 0]) == [1, 2]
    store = Store.create(tmp_path / "s", Corpus("c", table.assign(text=["x", "xxxx"])), replace=True)
    with pytest.raises(
        MixedSignalsError, match=r"the text of 1 utterances changed since it was made, e.g. of \['q'\]"
    ):
        store.views(text="lengths")
    run(store, Lengths(), monkeypatch)
    assert list(store.views(text="lengths").X[:, 0]) == [1, 4]


def test_every_library_version_that_rows_were_made_with_is_kept(tmp_path, monkeypatch):
    store = make_store(tmp_path, ["x"] * 20)
    monkeypatch.setattr(job, "library_versions", lambda names: {"lib": "1"})

    class Interrupted(Lengths):
        def vectors(self, clips):
            if len(self.seen) >= 8:
                raise KeyboardInterrupt
            return super().vectors(clips)

    with pytest.raises(KeyboardInterrupt):
        run(store, Interrupted(), monkeypatch)
    half = store["text/lengths"]
    monkeypatch.setattr(job, "library_versions", lambda names: {"lib": "2"})
    rest = Lengths()
    run(store, rest, monkeypatch)
    assert len(rest.seen) == 12
    whole = store["text/lengths"]
    assert whole.provenance["versions"] == [{"lib": "1"}, {"lib": "2"}]
    assert whole.ok.all()
    assert whole.recipe_fingerprint == half.recipe_fingerprint
    assert whole.content_fingerprint != half.content_fingerprint


class Batched(Lengths):
    """Vectors that depend on what shares the batch, as those of padded batches do."""

    def __init__(self, stop_after=None):
        super().__init__(batch_size=8)
        self.stop_after = stop_after

    def vectors(self, clips):
        if self.stop_after is not None and len(self.seen) >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += [clip.utterance_id for clip in clips]
        longest = max(len(clip.text) for clip in clips)
        return [np.array([len(clip.text) / longest + len(clips)]) for clip in clips]


def test_an_interrupted_job_ends_with_the_vectors_of_an_uninterrupted_one(tmp_path, monkeypatch):
    said = ["x" * (37 * i % 101 + 1) for i in range(100)]
    (tmp_path / "one").mkdir()
    whole, _ = run(make_store(tmp_path / "one", said), Batched(), monkeypatch)
    store = make_store(tmp_path, said)
    for stop_after in (16, 8, 40):
        with pytest.raises(KeyboardInterrupt):
            run(store, Batched(stop_after), monkeypatch)
    assert store["text/lengths"].coverage["ok"] == 64
    resumed, _ = run(store, Batched(), monkeypatch)
    np.testing.assert_array_equal(resumed.features.embedding, whole.features.embedding)
    assert resumed.features.content_fingerprint == whole.features.content_fingerprint


def test_a_name_of_its_own_and_float16_make_another_feature_set(tmp_path, monkeypatch):
    store = make_store(tmp_path, ["a", "bb"])
    run(store, Lengths(), monkeypatch)
    with pytest.raises(UsageError, match="store_dtype: 'float32' there, 'float16' now"):
        run(store, Lengths(), monkeypatch, store_dtype="float16")
    outcome, _ = run(store, Lengths(), monkeypatch, store_dtype="float16", name="half")
    assert outcome.features.key == "text/lengths.half"
    assert outcome.features.dtype == np.float16
    assert store.feature_sets() == ["text/lengths", "text/lengths.half"]


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


class Sounds(Lengths):
    """The number that is written in the media file, plus the start."""

    def __init__(self):
        super().__init__()
        self.recipe = Recipe("lengths", "audio")

    def vectors(self, clips):
        self.seen += [clip.utterance_id for clip in clips]
        return [np.array([float(clip.media.read_text()) + (clip.start or 0)]) for clip in clips]


def sounds(store, monkeypatch):
    encoder = Sounds()
    monkeypatch.setattr(job, "make_encoder", lambda modality, name: encoder)
    (task,) = job.plan(store, [("audio", "lengths")])
    return job.run(store, task).features, task, encoder


def test_a_corpus_that_is_cut_anew_does_not_get_the_vectors_of_its_former_cuts(tmp_path, monkeypatch):
    store, media = media_store(tmp_path, a=b"1", b=b"2")
    table = store.corpus.utterances.assign(label=["x", "y"])
    store = Store.create(store.path, Corpus("c", table, media_root=media), replace=True)
    sounds(store, monkeypatch)
    assert list(store.views(audio="lengths").X[:, 0]) == [1, 2]
    for change, expected in (({"start": [5.0, 0.0]}, [6, 2]), ({"media": ["b.wav", "a.wav"]}, [2, 1])):
        cut = table.assign(**change)
        store = Store.create(store.path, Corpus("c", cut, media_root=media), replace=True)
        with pytest.raises(MixedSignalsError, match=r"the media, start or end of \d utterances changed"):
            store.views(audio="lengths")
        sounds(store, monkeypatch)
        assert list(store.views(audio="lengths").X[:, 0]) == expected


def test_a_file_under_another_name_is_not_encoded_again(tmp_path, monkeypatch):
    store, media = media_store(tmp_path, a=b"1", b=b"2")
    sounds(store, monkeypatch)
    (media / "a.wav").rename(media / "c.wav")
    table = store.corpus.utterances.assign(media=["c.wav", "b.wav"], label=["x", "y"])
    store = Store.create(store.path, Corpus("c", table, media_root=media), replace=True)
    _, task, encoder = sounds(store, monkeypatch)
    assert task.plan.reasons == {}
    assert encoder.seen == []
    assert list(store.views(audio="lengths").X[:, 0]) == [1, 2]


def test_vectors_of_another_cut_do_not_outlive_media_that_are_gone(tmp_path, monkeypatch):
    store, media = media_store(tmp_path, a=b"1", b=b"2")
    sounds(store, monkeypatch)
    for name in ("a", "b"):
        (media / f"{name}.wav").unlink()
    table = store.corpus.utterances.assign(start=[5.0, np.nan])
    store = Store.create(store.path, Corpus("c", table, media_root=media), replace=True)
    features, task, _ = sounds(store, monkeypatch)
    assert (task.plan.reasons, list(task.gone), task.without) == ({"audio changed": 1}, ["b"], 1)
    assert [Status(one).name for one in features.status] == ["FAILED", "OK"]


def test_an_encoder_that_gives_too_few_vectors_costs_only_rows_of_its_own(tmp_path, monkeypatch):
    class Dropping(Lengths):
        def vectors(self, clips):
            return super().vectors([clip for clip in clips if clip.utterance_id != "u01"])

    store = make_store(tmp_path, ["a", "bb", "ccc", "dddd"])
    outcome, _ = run(store, Dropping(), monkeypatch)
    features = outcome.features
    assert [Status(one).name for one in features.status] == ["OK", "FAILED", "OK", "OK"]
    assert features.reasons[1] == "ValueError: 0 vectors for 1 utterances"
    np.testing.assert_array_equal(features.embedding[[0, 2, 3], 0], [1, 3, 4])


def test_media_may_have_moved_and_a_url_says_how_to_go_on(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a.wav").write_bytes(b"a")
    table = pd.DataFrame({"utterance_id": ["p"], "media": ["a.wav"]})
    url = Corpus("c", table, media_root="https://example.org/corpus")
    store = Store.create(tmp_path / "s", url)
    with pytest.raises(MixedSignalsError, match="fetch them and name the folder with --media-root"):
        media_hashes.media_hashes(Store.open(store.path))
    outcome, _ = run(store, Lengths(), monkeypatch)  # words are here, wherever the media are
    assert outcome.features.ok.all()
    moved = Store.open(store.path, media_root=tmp_path / "here")
    assert set(media_hashes.media_hashes(moved)) == {"a.wav"}
    assert media_hashes.media_hashes(moved)["a.wav"] != media_hashes.ABSENT
    with pytest.raises(UsageError, match="not a folder"):
        Store.open(store.path, media_root=tmp_path / "nowhere")
