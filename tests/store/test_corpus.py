import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixed_signals.store import Corpus, InvalidCorpus, MixedSignalsError, Store, UsageError
from mixed_signals.store.corpora.published import Faults
from mixed_signals.store.corpora.reading import read_rows
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
        ({"utterance_id": ["a", "a"]}, "utterances row 2, utterance_id: 'a' stands in an earlier row"),
        ({"utterance_id": ["a", ""]}, "utterances row 2, utterance_id: is empty"),
        ({"start": [0, 2], "end": [1, 2]}, "utterances row 2, end: 2 is not after the start, 2"),
        ({"start": [-1, 2]}, "utterances row 1, start: -1 is before the beginning"),
        ({"media": ["x.mp4", "../x.mp4"]}, "utterances row 2, media: '../x.mp4'"),
        ({"media": ["/etc/passwd", ""]}, "utterances row 1, media: '/etc/passwd'"),
        ({"start": ["soon", 2]}, "utterances row 1, start: 'soon' is not a number"),
        ({"end": ["inf", 2]}, "utterances row 1, end: 'inf' is not a number"),
        ({"turn": [1, 2.5]}, "utterances row 2, turn: 2.5 is not a whole number"),
        (
            {"turn": [1, 1], "dialog": ["d", "d"], "group": ["s", "t"]},
            "utterances row 2, turn: 1 stands in an earlier row of dialog 'd' too",
        ),
        (
            {"turn": [1, 1], "group": ["g", "g"]},
            "utterances row 2, turn: 1 stands in an earlier row of group 'g' too",
        ),
        ({"transcript_confidence": [0.5, 1.5]}, "utterances row 2, transcript_confidence: 1.5 is not within"),
    ],
)
def test_broken_utterances_are_refused_and_named(columns, named):
    with pytest.raises(InvalidCorpus) as caught:
        Corpus("broken", table(**{"utterance_id": ["a", "b"], **columns}))
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"utterance_id": ["zz"], "value": ["x"]}, "ratings row 1, utterance_id: 'zz' is not an utterance"),
        ({"utterance_id": ["a"], "value": [""]}, "ratings row 1, value: is empty"),
        ({"utterance_id": ["a"], "value": ["x"], "shown": ["audio+smell"]}, "'smell'"),
        ({"utterance_id": ["a"], "value": ["x"], "count": [0]}, "ratings row 1, count: 0 is not"),
        ({"utterance_id": ["a"], "value": ["x"], "count": [1.5]}, "ratings row 1, count: 1.5 is not"),
    ],
)
def test_broken_ratings_are_refused_and_named(columns, named):
    with pytest.raises(InvalidCorpus) as caught:
        Corpus("broken", table(), pd.DataFrame(columns))
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "media",
    [
        *("..", "a/../../b", "/etc/passwd", "~/secret.wav", "a\\b.wav", "C:x.wav", "file:///etc/passwd"),
        *(
            "ftp://host/a.wav",
            "local:///a.wav",
            "zip://a::s3://b/c",
            "s3://b/../a.wav",
            "s3:///a.wav",
            "s3://b\\a",
        ),
        *("a\0.wav", "a\nb.wav", "a\x9b.wav", "a\udcff.wav"),
    ],
)
def test_media_that_could_lead_elsewhere_are_refused(media):
    with pytest.raises(InvalidCorpus) as caught:
        Corpus("broken", table(media=pd.Series(["fine/clip 1..2 é.mp4", media], dtype=object)))
    assert [(p.row, p.column) for p in caught.value.problems] == [(1, "media")]


@given(st.lists(st.text(st.sampled_from("ab./~:\\ \n"), max_size=8), min_size=1, max_size=6))
def test_whatever_media_are_accepted_stand_below_the_root(entries):
    table = pd.DataFrame({"utterance_id": [str(i) for i in range(len(entries))], "media": entries})
    root = Path("/nowhere/at/all")
    try:
        corpus = Corpus("any", table, media_root=root)
    except InvalidCorpus as error:
        refused = {problem.row for problem in error.problems}
        plain = [row for row, entry in enumerate(entries) if entry.strip("ab") == ""]
        assert refused
        assert not refused & set(plain)
    else:
        assert all(corpus.media_path(entry).is_relative_to(root) for entry in entries if entry)


def test_optional_columns_are_kept_only_where_given(tmp_path):
    plain = Corpus("two", table())
    assert not {"speaker", "dialog", "turn", "transcript_source"} & set(plain.utterances)
    corpus = Corpus(
        "two",
        table(
            turn=["2", ""],
            dialog=["d", "d"],
            speaker=[7.0, None],
            transcript_source=["manual", "whisper"],
            transcript_confidence=["", "0.9"],
        ),
    )
    again = Store.create(tmp_path / "s", corpus).corpus.utterances
    assert again["turn"].isna().tolist() == [False, True]
    assert again["turn"][0] == 2
    assert list(again["speaker"]) == ["7", ""]
    assert again["transcript_confidence"].isna().tolist() == [True, False]


def test_turns_repeat_only_in_other_dialogs_and_where_the_dialog_is_unknown():
    Corpus("two", table(turn=[1, 1], dialog=["d", "e"], group=["g", "g"]))
    Corpus("two", table(turn=[1, 1]))


def test_columns_of_several_types_become_text_that_a_store_can_hold(tmp_path):
    source = tmp_path / "clips.jsonl"
    source.write_text('{"utterance_id": 1, "x": 1, "y": [1]}\n{"utterance_id": 2, "x": "a", "y": null}\n')
    again = Store.create(tmp_path / "s", read_corpus([source], {})).corpus
    assert list(again.ids) == ["1", "2"]
    assert list(again.utterances["x"]) == ["1", "a"]
    assert list(again.utterances["y"]) == ["[1]", ""]


def test_tables_without_ids_rows_or_distinct_columns_are_refused():
    with pytest.raises(InvalidCorpus, match="the utterances have no column utterance_id"):
        Corpus("none", pd.DataFrame({"id": ["a"]}))
    with pytest.raises(InvalidCorpus, match="there is no utterance"):
        Corpus("none", table().iloc[:0])
    with pytest.raises(InvalidCorpus, match="the ratings have no column utterance_id"):
        Corpus("two", table(), pd.DataFrame({"value": ["x"]}))
    with pytest.raises(InvalidCorpus, match="the utterances have two columns 'text'"):
        Corpus("two", pd.DataFrame([["a", "x", "y"]], columns=["utterance_id", "text", "text"]))
    assert Corpus("two", table(), pd.DataFrame()).ratings is None


def test_what_was_shown_is_one_condition_in_any_order():
    ratings = pd.DataFrame(
        {"utterance_id": ["a", "a"], "value": ["x", "y"], "shown": ["video+audio", "audio+video"]}
    )
    assert list(Corpus("two", table(), ratings).ratings["shown"]) == ["audio+video"] * 2


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


def test_media_links_within_the_root_are_followed_also_by_folder(tmp_path):
    root = tmp_path / "media"
    (root / "real").mkdir(parents=True)
    (root / "real" / "a.wav").write_bytes(b"")
    (root / "linked").symlink_to(root / "real")
    (root / "away").symlink_to(tmp_path)
    corpus = Corpus("linked", table(media=["linked/a.wav", "away/b.wav"]), media_root=str(root))
    assert corpus.media_path("linked/a.wav") == (root / "real" / "a.wav").resolve()
    for entry in ("away/b.wav", "..", "linked/../../b.wav"):
        with pytest.raises(MixedSignalsError, match="leads out of the media root"):
            corpus.media_path(entry)


def test_media_at_a_url_are_named_by_it(tmp_path):
    corpus = Corpus("far", table(media=["x/a b.wav", ""]), media_root="s3://bucket/clips/")
    assert corpus.media_root == "s3://bucket/clips/"
    assert corpus.media_path("") is None
    assert corpus.media_path("x/a b.wav") == "s3://bucket/clips/x/a b.wav"
    web = Corpus("web", table(media=["a b?.wav", ""]), media_root="https://host/clips")
    assert web.media_path("a b?.wav") == "https://host/clips/a%20b%3F.wav"
    mixed = Corpus("mixed", table(media=["gs://bucket//a.wav", "b.wav"]), media_root=tmp_path)
    assert [mixed.media_path(entry) for entry in mixed.utterances["media"]] == [
        "gs://bucket//a.wav",
        tmp_path.resolve() / "b.wav",
    ]


def test_a_media_root_as_a_file_url_is_that_folder(tmp_path):
    folder = tmp_path / "my clips"
    assert Corpus("near", table(), media_root=folder.as_uri()).media_root == folder


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAIOSFODNN7EXAMPLE:pass/word@bucket/clips",
        "https://me:password@host/clips",
        " https://me:password@host/clips",
        "https://password@host:8080/clips",
        "https://host/clips?X-Amz-Signature=password",
        "https://host/clips?any=password",
        "s3://bucket/clips?token=password",
        "gs://bucket/a%3FX-Goog-Signature=password",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url):
    with pytest.raises(
        InvalidCorpus, match=r"holds credentials or a signature; .* in the environment"
    ) as cell:
        Corpus("c", table(media=["a.wav", f"{url}/a.wav"]))
    with pytest.raises(UsageError, match=r"holds credentials or a signature; .* in the environment") as root:
        Corpus("c", table(), media_root=url)
    for caught in (cell, root):
        assert "pass" not in str(caught.value)
        assert "AKIA" not in str(caught.value)


def test_a_signature_behind_a_path_is_refused_too():
    with pytest.raises(InvalidCorpus, match="holds credentials"):
        Corpus("c", table(media=["a.wav?X-Amz-Signature=0f", ""]), media_root="https://host")


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


def test_bad_cells_are_named_by_line_and_the_files_own_column(tmp_path):
    source = tmp_path / "clips.csv"
    source.write_text('clip,from,to,text\nc1,0,1,"two\nlines"\nc2,soon,x,x\n,1,2,x\n')
    columns = {"utterance_id": "clip", "start": "from", "end": "to"}
    with pytest.raises(InvalidCorpus) as caught:
        read_corpus([source], columns, name="x")
    assert caught.value.lines == [
        f"{source} line 4, column from: 'soon' is not a number; write e.g. 12.5, or leave it empty",
        f"{source} line 4, column to: 'x' is not a number; write e.g. 12.5, or leave it empty",
        f"{source} line 5, column clip: is empty; every row needs one",
    ]
    source.write_text("clip,from,to\nc1,0,1\nc1,3,2\n,1,2\n")
    votes = tmp_path / "votes.csv"
    votes.write_text("utterance_id,value\nc1,x\nc9,y\n")
    with pytest.raises(InvalidCorpus) as caught:
        read_corpus([source], columns, name="x", ratings=votes)
    assert caught.value.lines == [
        f"{source} line 3, column clip: 'c1' stands in an earlier row too; ids must be unique",
        f"{source} line 3, column to: 2 is not after the start, 3",
        f"{source} line 4, column clip: is empty; every row needs one",
        f"{votes} line 3, column utterance_id: 'c9' is not an utterance of the corpus",
    ]


def test_columns_may_trade_names(tmp_path):
    """A file whose own column names are ours, meant otherwise: each flag reads the file's own column."""
    source = tmp_path / "clips.csv"
    source.write_text("clip,utterance_id,sentiment,label\nA,vid1.mp4,pos,spk1\nB,vid2.mp4,neg,spk2\n")
    columns = {"utterance_id": "clip", "media": "utterance_id", "label": "sentiment", "group": "label"}
    table = read_corpus([source], columns, name="x").utterances
    assert list(table["utterance_id"]) == ["A", "B"]
    assert list(table["media"]) == ["vid1.mp4", "vid2.mp4"]
    assert list(table["label"]) == ["pos", "neg"]
    assert list(table["group"]) == ["spk1", "spk2"]


def test_other_separators_and_encodings_are_named(tmp_path):
    source = tmp_path / "clips.csv"
    source.write_text("utterance_id;text\na;hello, you\n")
    with pytest.raises(UsageError, match="separated by ';'"):
        read_corpus([source], {}, name="x")
    source.write_bytes("utterance_id,text\na,grün\n".encode("latin-1"))
    with pytest.raises(MixedSignalsError, match="save it as UTF-8"):
        read_corpus([source], {}, name="x")


def test_names_are_stripped_and_absolute_paths_below_the_root_are_taken(tmp_path):
    source = tmp_path / "clips.csv"
    source.write_text(f"utterance_id,label,media\n a, pos,{tmp_path}/x/a.mp4\nb,pos ,b.mp4\n")
    corpus = read_corpus([source], {}, name="x")
    assert list(corpus.ids) == ["a", "b"]
    assert corpus.targets[0].classes == ("pos",)
    assert list(corpus.utterances["media"]) == ["x/a.mp4", "b.mp4"]
    with pytest.raises(UsageError, match="not a folder"):
        read_corpus([source], {}, name="x", media_root=tmp_path / "nowhere")


def test_any_column_can_be_a_target():
    corpus = Corpus("two", table(label=["x", "y"], mood=[1.0, None]))
    assert corpus.target("mood").classes == ("1",)
    assert list(corpus.labels("mood")) == ["1", ""]
    with pytest.raises(UsageError, match="no labels in a column 'age'"):
        corpus.target("age")


def test_ragged_rows_are_refused(tmp_path):
    source = tmp_path / "clips.csv"
    source.write_text("utterance_id,text\nc1,x,y\nc2,z\n")
    with pytest.raises(InvalidCorpus, match="line 2: 3 cells, the header has 2"):
        read_corpus([source], {}, name="x")


def test_unreadable_rows_are_named_by_line(tmp_path):
    source = tmp_path / "clips.csv"
    source.write_text('utterance_id,text\nc1,x\nc2,"open\n')
    with pytest.raises(InvalidCorpus, match="line 3: not readable"):
        read_corpus([source], {})
    lines = tmp_path / "clips.jsonl"
    lines.write_text('{"utterance_id": "a"}\n\n{"utterance_id": "b"\n["c"]\n{"utterance_id": "\\ud83d"}\n')
    with pytest.raises(InvalidCorpus) as caught:
        read_corpus([lines], {})
    assert [line.split(" (")[0] for line in caught.value.lines] == [
        "line 3: not JSON",
        "line 4: not an object with a key per column",
        "line 5: holds half a character",
    ]


def test_rows_of_several_files_keep_their_places(tmp_path):
    for name, text in (("a", 'utterance_id,text\nc1,"two\nlines"\n'), ("b", "utterance_id,text\n\nc1,x\n")):
        (tmp_path / f"{name}.csv").write_text(text)
    with pytest.raises(InvalidCorpus) as caught:
        read_corpus([tmp_path / "a.csv", tmp_path / "b.csv"], {})
    assert caught.value.lines[0].startswith(f"{tmp_path / 'b.csv'} line 3, column utterance_id: 'c1' stands")


def test_numbers_of_a_column_name_the_cells_that_are_none(tmp_path):
    source = tmp_path / "clips.csv"
    source.write_text('ms\n 1500 \n""\n2e3\nsoon\n')
    rows = read_rows(source)
    faults = Faults()
    assert faults.numbers(rows, "ms").tolist()[::2] == [1500, 2000]
    assert np.isnan(faults.numbers(rows, "ms")[[1, 3]]).all()
    assert faults.lines[-1] == f"{source} line 5, column ms: 'soon' is not a number; write e.g. 12.5"
    assert faults.lines[-2] == f"{source} line 3, column ms: is empty; a number is needed"


def test_an_index_of_ids_in_parquet_is_a_column(tmp_path):
    table(text=["x", "y"]).set_index("utterance_id").to_parquet(tmp_path / "t.parquet")
    assert list(read_corpus([tmp_path / "t.parquet"], {}).ids) == ["a", "b"]


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


@pytest.mark.parametrize("moment", range(6))
def test_a_replacement_that_is_killed_leaves_the_old_corpus_or_the_new_one(tmp_path, monkeypatch, moment):
    ratings = pd.DataFrame({"utterance_id": ["a"], "value": ["x"]})
    Store.create(tmp_path / "s", Corpus("old", table(label=["x", "y"]), ratings))
    calls, real = 0, os.replace

    def killed(source, target):
        nonlocal calls
        if calls == moment:
            raise KeyboardInterrupt
        calls += 1
        real(source, target)

    monkeypatch.setattr(os, "replace", killed)
    new = Corpus("new", table(label=["p", "q"]), ratings.assign(value="q") if moment % 2 else None)
    try:
        Store.create(tmp_path / "s", new, replace=True)
        killed_at_all = False
    except KeyboardInterrupt:
        killed_at_all = True
    monkeypatch.undo()
    if moment == 4:  # at once the next one, killed too, before all of it is written
        monkeypatch.setattr(os, "replace", lambda source, target: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Store.create(tmp_path / "s", new, replace=True)
        monkeypatch.undo()
    found = Store.open(tmp_path / "s").corpus
    assert (found.name, list(found.utterances["label"])) in (("old", ["x", "y"]), ("new", ["p", "q"]))
    if found.name == "new":
        assert (found.ratings is None) == (new.ratings is None)
    else:
        assert killed_at_all
        assert list(found.ratings["value"]) == ["x"]
    again = Store.create(tmp_path / "s", new, replace=True).corpus
    assert again.name == "new"
    assert (again.ratings is None) == (new.ratings is None)
    assert not list((tmp_path / "s").glob(".new-*"))


def test_a_store_is_never_made_over_something(tmp_path):
    corpus = Corpus("two", table())
    Store.create(tmp_path / "s", corpus)
    with pytest.raises(UsageError, match="holds a store already"):
        Store.create(tmp_path / "s", corpus)
    changed = Store.create(tmp_path / "s", Corpus("two", table(text=["new", ""])), replace=True)
    assert list(changed.corpus.utterances["text"]) == ["new", ""]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    with pytest.raises(UsageError, match="not empty"):
        Store.create(tmp_path / "other", corpus)
    with pytest.raises(UsageError, match="no store here"):
        Store.open(tmp_path / "nowhere")
