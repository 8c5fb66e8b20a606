import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from mixed_signals.store import InvalidCorpus, MixedSignalsError, Store, UsageError
from mixed_signals.store.corpora.huggingface import read_corpus
from mixed_signals.store.corpora.huggingface_media import StoredMedia
from mixed_signals.store.corpora.published import Faults
from mixed_signals.store.corpora.reading import Rows
from mixed_signals.store.corpus_cli import app

WAV = b"RIFF\x04\x00\x00\x00WAVE"


def saved(folder, columns, features, split=None, shards=1):
    """Write what ``save_to_disk`` writes, for what the library would not write: its older and broken layouts."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    files = []
    for shard in range(shards):
        rows = np.array_split(np.arange(len(table)), shards)[shard]
        files.append({"filename": f"data-{shard:05d}-of-{shards:05d}.arrow"})
        with pa.ipc.new_stream(str(folder / files[-1]["filename"]), table.schema) as writer:
            writer.write_table(table.take(rows))
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": split}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


def stored(path=None, content=None):
    return {"bytes": content, "path": path}


AUDIO = {"_type": "Audio"}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A data set that the library itself wrote: two splits, one of them in two files."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    source = tmp_path_factory.mktemp("data") / "talks"
    rows = {
        "sentence": ["a", "b", "c"],
        "emotion": [1, 0, -1],
        "feelings": [[0, 1], [], None],
        "speaker_id": [7, 8, 7],
        "vector": [[1.0], [2.0], [3.0]],
        "audio": [stored("../../evil.wav", WAV + b"1"), stored("x.flac", b"fLaC2"), stored("y", b"?3")],
    }
    whole = datasets.Dataset.from_dict(rows)
    whole = whole.cast_column("emotion", datasets.ClassLabel(names=["sad", "glad"]))
    whole = whole.cast_column("feelings", datasets.Sequence(datasets.ClassLabel(names=["p", "q"])))
    whole = whole.cast_column("audio", datasets.Audio())
    splits = datasets.DatasetDict(train=whole, test=whole.select([2, 0]))
    splits.save_to_disk(str(source), num_shards={"train": 2, "test": 1})
    whole.save_to_disk(str(source.with_name("whole")))
    return source


def test_what_the_library_saved_is_read_without_it(library, tmp_path):
    root = tmp_path / "media"
    corpus = read_corpus(library, media_root=root)
    table = corpus.utterances
    assert corpus.name == "talks"
    assert list(corpus.ids) == ["train-0", "train-1", "train-2", "test-0", "test-1"]
    assert list(table["split"]) == ["train"] * 3 + ["test"] * 2
    assert list(table["text"]) == ["a", "b", "c", "c", "a"]
    assert list(table["label"]) == ["glad", "sad", "", "", "glad"]
    assert list(table["group"]) == list(table["speaker"]) == ["7", "8", "7", "7", "7"]
    assert "vector" not in table
    assert {target.name: (target.kind, target.classes) for target in corpus.targets} == {
        "label": ("nominal", ("sad", "glad")),
        "feelings": ("multilabel", ("p", "q")),
    }
    np.testing.assert_array_equal(corpus.labels("feelings")[:3], [[1, 1], [0, 0], [np.nan, np.nan]])


def test_embedded_media_are_named_by_id_and_not_by_paths_of_the_data(library, tmp_path):
    root = tmp_path / "media"
    corpus = read_corpus(library, media_root=root)
    media = ["train-0.wav", "train-1.flac", "train-2", "test-0", "test-1.wav"]
    assert list(corpus.utterances["media"]) == media
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted([*media, "media"])
    assert [(root / name).read_bytes() for name in media[:3]] == [WAV + b"1", b"fLaC2", b"?3"]
    before = (root / media[0]).stat().st_mtime_ns
    read_corpus(library, media_root=root)
    assert (root / media[0]).stat().st_mtime_ns == before
    (root / media[0]).write_bytes(b"else")
    with pytest.raises(MixedSignalsError, match=r"train-0\.wav: holds something else"):
        read_corpus(library, media_root=root)


def test_a_single_data_set_needs_no_split(library, tmp_path):
    table = read_corpus(library.with_name("whole"), media_root=tmp_path).utterances
    assert list(table["utterance_id"]) == ["row-0", "row-1", "row-2"]
    assert set(table["split"]) == {""}


@pytest.mark.parametrize("root", [None, "https://x.org/media"])
def test_embedded_media_need_a_folder(library, root):
    with pytest.raises(UsageError, match="name a folder to unpack them into"):
        read_corpus(library, media_root=root)


def test_ids_that_are_no_file_names_cannot_leave_the_media_root(tmp_path):
    ids = ["../../up", "/etc/x", "a/b", "..", "plain", "x" * 300, "ä"]
    columns = {"id": ids, "audio": [stored(None, WAV)] * len(ids)}
    source = saved(tmp_path / "set", columns, {"audio": AUDIO})
    corpus = read_corpus(source, media_root=tmp_path / "media")
    assert list(corpus.ids) == ids
    assert corpus.utterances["media"].is_unique
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - set(source.iterdir())
    assert {path.name for path in written} == set(corpus.utterances["media"])
    assert {path.parent for path in written} == {tmp_path / "media"}


def test_nothing_is_unpacked_of_a_data_set_that_is_refused(tmp_path):
    columns = {"id": ["a", "a"], "audio": [stored(None, WAV)] * 2}
    source = saved(tmp_path / "set", columns, {"audio": AUDIO})
    with pytest.raises(InvalidCorpus, match="arrow row 2, column id: 'a' stands in an earlier row"):
        read_corpus(source, media_root=tmp_path / "media")
    assert not (tmp_path / "media").exists()


def test_paths_become_media_below_the_root_and_others_are_listed(tmp_path):
    source = tmp_path / "set"
    paths = ["clips/a.wav", str(source / "clips" / "b.wav"), None, "../../etc/passwd", "/etc/passwd"]
    columns = {"id": list("abcde"), "clip": [stored(path) for path in paths]}
    saved(
        source, {name: values[:3] for name, values in columns.items()}, {"clip": {"_type": "Video"}}, shards=2
    )
    assert list(read_corpus(source).utterances["media"]) == ["clips/a.wav", "clips/b.wav", ""]
    saved(source, columns, {"clip": {"_type": "Video"}}, shards=2)
    with pytest.raises(InvalidCorpus) as caught:
        read_corpus(source)
    mend = "is not below the media root; name a folder that holds it (--media-root)"
    shard = f"{source}/data-00001-of-00002.arrow"
    assert caught.value.lines == [
        f"{shard} row 1, column clip: '../../etc/passwd' {mend}",
        f"{shard} row 2, column clip: '/etc/passwd' {mend}",
    ]


def test_video_is_preferred_and_a_column_of_paths_alone_is_read(tmp_path):
    columns = {"audio": ["a.wav"], "video": ["a.mp4"], "split": ["dev"]}
    source = saved(tmp_path / "set", columns, {"audio": AUDIO, "video": {"_type": "Video"}}, split="train")
    table = read_corpus(source).utterances
    assert list(table.loc[0, ["utterance_id", "media", "split"]]) == ["train-0", "a.mp4", "train"]
    assert "audio" not in table


def test_classes_that_do_not_exist_are_listed(tmp_path):
    label = {"_type": "ClassLabel", "names": ["x", "y"]}
    columns = {"label": [0, 2, 1, None], "many": [[0], [1], [5], None]}
    source = saved(tmp_path / "set", columns, {"label": label, "many": [label]})
    with pytest.raises(InvalidCorpus) as caught:
        read_corpus(source)
    shard = f"{source}/data-00000-of-00001.arrow"
    assert caught.value.lines == [
        f"{shard} row 2, column label: 2 is none of the 2 classes, 0 and up",
        f"{shard} row 3, column many: [5] names none of the 2 classes, 0 and up",
    ]


def test_our_own_names_are_taken_first_and_other_columns_are_kept(tmp_path):
    columns = {"id": ["i"], "utterance_id": ["u"], "speaker": ["s"], "group": ["g"], "mood": [3]}
    table = read_corpus(saved(tmp_path / "set", columns, {})).utterances
    assert list(table.loc[0, ["utterance_id", "id", "group", "speaker", "mood"]]) == ["u", "i", "g", "s", 3]


def test_folders_that_are_not_sound_are_refused(tmp_path):
    source = saved(tmp_path / "set", {"id": ["a"]}, {})
    (source / "data-00000-of-00001.arrow").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(MixedSignalsError, match="not readable as an Arrow stream"):
        read_corpus(source)
    for name in ("../../outside.arrow", "/etc/passwd", "..", None):
        (source / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
        with pytest.raises(MixedSignalsError, match="no file of its folder"):
            read_corpus(source)
    (source / "state.json").write_text("{}")
    with pytest.raises(MixedSignalsError, match="no '_data_files' in it"):
        read_corpus(source)
    (source / "dataset_dict.json").write_text(json.dumps({"splits": ["../other"]}))
    with pytest.raises(MixedSignalsError, match="no file of its folder"):
        read_corpus(source)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="neither a folder that save_to_disk wrote, nor one with metadata"):
        read_corpus(tmp_path / "empty")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_folders_with_metadata_are_read_split_by_split(tmp_path, suffix):
    for split, names in {"test": ["c.wav"], "train": ["a.wav", "sub/b.wav"]}.items():
        (tmp_path / split).mkdir()
        table = pd.DataFrame({"file_name": names, "transcription": "hi", "emotion": "sad"})
        path = tmp_path / split / f"metadata.{suffix}"
        if suffix == "csv":
            table.to_csv(path, index=False)
        elif suffix == "jsonl":
            table.to_json(path, orient="records", lines=True)
        else:
            table.to_parquet(path)
    table = read_corpus(tmp_path).utterances
    assert list(table["utterance_id"]) == ["test-0", "train-0", "train-1"]
    assert list(table["media"]) == ["test/c.wav", "train/a.wav", "train/sub/b.wav"]
    assert list(table["text"]) == ["hi"] * 3
    assert "file_name" not in table
    above = read_corpus(tmp_path, media_root=tmp_path.parent).utterances
    assert list(above["media"]) == [f"{tmp_path.name}/{media}" for media in table["media"]]


def tell(folder, *files):
    """Write metadata of one file, and empty files."""
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("file_name\na.wav\n" if path.name == "metadata.csv" else "")
    return folder


@pytest.mark.parametrize(
    ("files", "left_out"),
    [
        (["metadata.csv", "train/metadata.csv"], "train/metadata.csv"),
        (["train/metadata.csv", "train/more/metadata.csv"], "train/more/metadata.csv"),
        (["train/metadata.csv", "train/metadata.jsonl"], "train/metadata.jsonl"),
        (["train/metadata.csv", "extra/deep/x.wav"], "extra"),
        (["train/metadata.csv", "x.MP4"], "x.MP4"),
    ],
    ids=lambda value: None if isinstance(value, list) else value,
)
def test_what_metadata_would_leave_out_is_listed(files, left_out, tmp_path):
    with pytest.raises(InvalidCorpus) as caught:
        read_corpus(tell(tmp_path, *files))
    assert [line.split(": ")[0] for line in caught.value.lines] == [str(tmp_path / left_out)]


def test_media_that_metadata_can_tell_of_and_other_folders_are_no_fault(tmp_path):
    assert len(read_corpus(tell(tmp_path / "a", "metadata.csv", "clips/a.wav", "b.wav"))) == 1
    assert (
        len(read_corpus(tell(tmp_path / "b", "train/metadata.csv", "train/x/a.wav", "doc/x.md", ".x/a.wav")))
        == 1
    )


def test_metadata_paths_are_stripped_and_must_be_text(tmp_path):
    tell(tmp_path, "train/metadata.csv")
    (tmp_path / "train" / "metadata.csv").write_text("file_name,id\n a.wav,a\n,b\n")
    assert list(read_corpus(tmp_path).utterances["media"]) == ["train/a.wav", ""]
    (tmp_path / "train" / "metadata.csv").unlink()
    (tmp_path / "train" / "metadata.jsonl").write_text('{"file_name": ["a.wav"], "id": [1]}\n')
    with pytest.raises(InvalidCorpus) as caught:
        read_corpus(tmp_path)
    assert [line.split(": ")[0].split(", ")[1] for line in caught.value.lines] == [
        "column id",
        "column file_name",
    ]


def test_lists_in_metadata_are_the_classes_of_a_declared_target(tmp_path):
    lines = '{"file_name": "a.wav", "feelings": ["p", "q"]}\n{"file_name": "b.wav", "feelings": []}\n'
    (tmp_path / "metadata.jsonl").write_text(lines)
    words = ["import", "huggingface", str(tmp_path), "--store", str(tmp_path / "s")]
    ran = CliRunner().invoke(app, [*words, "--target", "feelings=multilabel"])
    assert ran.exit_code == 0, ran.exception
    assert Store.open(tmp_path / "s").corpus.labels("feelings").tolist() == [[1, 1], [0, 0]]


def test_whole_numbers_with_a_gap_stay_what_they_are(tmp_path):
    large = 2**53 + 1
    columns = {"id": [large, large - 1], "session": pa.array([large, None])}
    corpus = read_corpus(saved(tmp_path / "set", columns, {}))
    assert list(corpus.ids) == [str(large), str(large - 1)]
    assert int(corpus.utterances["session"][0]) == large


def test_metadata_paths_that_leave_the_folder_are_refused(tmp_path):
    (tmp_path / "metadata.csv").write_text("file_name,id\na.wav,a\n../b.wav,b\n/etc/c.wav,c\n")
    with pytest.raises(InvalidCorpus) as caught:
        read_corpus(tmp_path)
    assert [line.split(": ")[0] for line in caught.value.lines] == [
        f"{tmp_path}/metadata.csv line 3, column file_name",
        f"{tmp_path}/metadata.csv line 4, column file_name",
    ]
    (tmp_path / "metadata.csv").write_text("path,id\na.wav,a\n")
    with pytest.raises(UsageError, match="no column 'file_name'; it has: path, id"):
        read_corpus(tmp_path)


def test_media_of_bytes_alone_are_embedded():
    media = StoredMedia("audio", pa.chunked_array([[b"x", None]]))
    assert list(media.embedded) == [True, False]


NAMES = st.text(alphabet="./\\\0aé~%:", max_size=12)


@given(st.lists(st.tuples(NAMES, st.one_of(st.none(), NAMES), st.booleans()), min_size=1, max_size=5))
@example([("..", "/", True), ("..", "//a", False), ("", "a/../..", False)])
def test_no_id_and_no_path_leads_out_of_the_media_root(rows):
    root = Path("/media/root")
    media = StoredMedia(
        "audio", pa.chunked_array([[stored(path, b"" if held else None) for _, path, held in rows]])
    )
    table, faults = Rows(pd.DataFrame(), [f"row {row}" for row in range(len(rows))]), Faults()
    for entry in media.entries([name for name, _, _ in rows], root, table, faults):
        assert Path(os.path.normpath(root / entry)).is_relative_to(root)
        assert not entry.startswith("/")
