import pandas as pd
import pytest

from mixed_signals.store import Corpus, InvalidCorpus, Store, UsageError
from mixed_signals.store.corpora.tables import read_corpus


def table(**columns):
    return pd.DataFrame({"utterance_id": ["a", "b"], **columns})


def test_tables_come_back_as_they_were(tmp_path):
    corpus = Corpus(
        "two",
        table(text=["hi", None], label=["x", "y"], start=[0, None], end=["1.5", None], mood=[3, 4]),
        pd.DataFrame({"utterance_id": ["a", "a"], "value": ["x", "y"], "shown": ["audio+video", ""]}),
        media_root=tmp_path,
    )
    Store.create(tmp_path / "s", corpus)
    again = Store.open(tmp_path / "s").corpus
    pd.testing.assert_frame_equal(again.utterances, corpus.utterances, check_dtype=False)
    pd.testing.assert_frame_equal(again.ratings, corpus.ratings, check_dtype=False)
    assert list(again.utterances["text"]) == ["hi", ""]
    assert list(again.utterances["mood"]) == [3, 4]
    assert list(again.ratings["count"]) == [1, 1]
    assert again.targets[0].classes == ("x", "y")
    assert again.media_root == tmp_path


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"utterance_id": ["a", "a"]}, "comes 2 times"),
        ({"utterance_id": ["a", ""]}, "row 2: utterance_id is empty"),
        ({"start": [0, 2], "end": [1, 2]}, "utterance b: end 2.0 is not after start 2.0"),
        ({"start": [-1, 2]}, "utterance a"),
        ({"media": ["x.mp4", "../x.mp4"]}, "utterance b: media '../x.mp4'"),
        ({"media": ["/etc/passwd", ""]}, "utterance a: media '/etc/passwd'"),
    ],
)
def test_broken_utterances_are_refused_and_named(columns, named):
    with pytest.raises(InvalidCorpus) as caught:
        Corpus("broken", table(**{"utterance_id": ["a", "b"], **columns}))
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"utterance_id": ["zz"], "value": ["x"]}, "utterance 'zz' is not in the corpus"),
        ({"utterance_id": ["a"], "value": [""]}, "value is empty"),
        ({"utterance_id": ["a"], "value": ["x"], "shown": ["audio+smell"]}, "'smell'"),
        ({"utterance_id": ["a"], "value": ["x"], "count": [0]}, "count 0"),
        ({"utterance_id": ["a"], "value": ["x"], "count": [1.5]}, "count 1.5"),
    ],
)
def test_broken_ratings_are_refused_and_named(columns, named):
    with pytest.raises(InvalidCorpus) as caught:
        Corpus("broken", table(), pd.DataFrame(columns))
    assert named in str(caught.value)


def test_every_problem_is_listed():
    with pytest.raises(InvalidCorpus) as caught:
        Corpus("broken", pd.DataFrame({"utterance_id": ["a", "a", ""], "media": ["..", "/x", ""]}))
    assert len(caught.value.problems) == 4


def test_media_links_out_of_the_root_are_refused(tmp_path):
    root = tmp_path / "media"
    root.mkdir()
    (tmp_path / "secret.wav").write_bytes(b"")
    (root / "link.wav").symlink_to(tmp_path / "secret.wav")
    corpus = Corpus("linked", table(media=["link.wav", ""]), media_root=root)
    with pytest.raises(Exception, match="leads out of the media root"):
        corpus.media_path("link.wav")


def test_csv_with_its_own_column_names(tmp_path):
    source = tmp_path / "clips.csv"
    source.write_text('clip,who,said,feels\nc1,ann,"a, quoted\nline",sad\nc2,bob,,glad\n')
    columns = {"utterance_id": "clip", "group": "who", "text": "said", "label": "feels"}
    corpus = read_corpus([source], columns, name="own")
    assert list(corpus.ids) == ["c1", "c2"]
    assert list(corpus.utterances["text"]) == ["a, quoted\nline", ""]
    assert list(corpus.utterances["group"]) == list(corpus.utterances["who"]) == ["ann", "bob"]
    assert corpus.media_root == tmp_path


def test_a_missing_column_names_the_flag_and_what_there_is(tmp_path):
    source = tmp_path / "clips.csv"
    source.write_text("utterance_id,who\nc1,ann\n")
    with pytest.raises(
        UsageError, match=r"clips.csv: no column 'speaker' \(--group\); it has: utterance_id, who"
    ):
        read_corpus([source], {"group": "speaker"}, name="x")
    source.write_text("clip,who\nc1,ann\n")
    with pytest.raises(UsageError, match=r"no column 'utterance_id'.*--id"):
        read_corpus([source], {}, name="x")


def test_bad_cells_are_named_by_line_and_column(tmp_path):
    source = tmp_path / "clips.csv"
    source.write_text('utterance_id,start,text\nc1,0,"two\nlines"\nc2,soon,x\n,1,x\n')
    with pytest.raises(InvalidCorpus) as caught:
        read_corpus([source], {}, name="x")
    assert "line 4, column start: 'soon'" in str(caught.value)
    assert "line 5, column utterance_id: empty" in str(caught.value)


def test_ragged_rows_are_refused(tmp_path):
    source = tmp_path / "clips.csv"
    source.write_text("utterance_id,text\nc1,x,y\nc2,z\n")
    with pytest.raises(InvalidCorpus, match="line 2: 3 cells, the header has 2"):
        read_corpus([source], {}, name="x")


def test_all_formats_give_the_same_corpus(tmp_path):
    frame = pd.DataFrame(
        {"utterance_id": ["1", "2"], "start": [0.0, 1.0], "end": [1.0, 2.5], "label": ["x", "y"]}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    tables = [
        read_corpus([tmp_path / f"t.{e}"], {}, name="x").utterances for e in ("csv", "parquet", "jsonl")
    ]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_frame_equal(tables[0], tables[2])


def test_a_store_is_never_made_over_something(tmp_path):
    corpus = Corpus("two", table())
    Store.create(tmp_path / "s", corpus)
    with pytest.raises(UsageError, match="holds a store already"):
        Store.create(tmp_path / "s", corpus)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    with pytest.raises(UsageError, match="not empty"):
        Store.create(tmp_path / "other", corpus)
    with pytest.raises(UsageError, match="no store here"):
        Store.open(tmp_path / "nowhere")
