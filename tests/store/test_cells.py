"""What the cells of a corpus's tables say: the same whatever the reader, and what says nothing is a fault."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixed_signals.store import Corpus, InvalidCorpus, Store, Target, UsageError
from mixed_signals.store.corpora.tables import read_corpus

FORMATS = ("csv", "jsonl", "parquet")
LARGE = 2**53 + 1  # not a float64


def written(folder, suffix, **columns):
    """Write columns of Python values as a table of the given kind."""
    path = folder / f"clips.{suffix}"
    if suffix == "csv":
        pd.DataFrame(columns, dtype=object).to_csv(path, index=False)
    elif suffix == "jsonl":
        rows = zip(*columns.values(), strict=True)
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
    else:
        pq.write_table(pa.table(columns), path)
    return path


def faults(make, *arguments, **options):
    with pytest.raises(InvalidCorpus) as caught:
        make(*arguments, **options)
    return [line.partition(", column ")[2] or line for line in caught.value.lines]


def table(**columns):
    return pd.DataFrame({"utterance_id": ["a", "b"], **columns}, dtype=object)


@pytest.mark.parametrize("suffix", FORMATS)
def test_spaces_around_a_cell_mean_nothing_except_in_a_text(suffix, tmp_path):
    source = written(
        tmp_path,
        suffix,
        id=[" a", "b\t"],
        who=["spk3 ", "spk3"],
        feels=[" joy", "joy"],
        mood=["up", "up "],
        media=[" x.wav", f" {tmp_path}/x.wav"],
        text=[" hm ", ""],
    )
    columns = {"utterance_id": "id", "group": "who", "label": "feels"}
    made = read_corpus([source], columns).utterances
    assert list(made["utterance_id"]) == ["a", "b"]
    assert list(made["media"]) == ["x.wav", "x.wav"]
    for column in ("who", "group", "feels", "label", "mood"):
        assert made[column][0] == made[column][1], column
    assert list(made["text"]) == [" hm ", ""]


def test_spaces_in_ratings_and_in_tables_of_ones_own_mean_nothing_either():
    rated = pd.DataFrame({"utterance_id": ["a ", " b"], "value": ["x ", "x"], "shown": [" audio", "audio"]})
    corpus = Corpus("two", table(label=["x", " x"]), rated, declared=(Target("v", "nominal", votes="audio"),))
    assert list(corpus.labels("v")) == list(corpus.labels("label")) == ["x", "x"]


def test_whole_numbers_with_a_gap_in_parquet_stay_what_they_are(tmp_path):
    numbers = pa.array([LARGE, LARGE - 1, None])
    source = written(tmp_path, "parquet", utterance_id=["a", "b", "c"], who=numbers, session=numbers)
    made = Store.create(tmp_path / "s", read_corpus([source], {"group": "who"})).corpus.utterances
    assert list(made["group"]) == [str(LARGE), str(LARGE - 1), ""]
    assert list(map(int, made["session"][:2])) == [LARGE, LARGE - 1]
    assert made["session"].isna().tolist() == [False, False, True]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_lists_are_the_classes_of_a_multilabel_target_and_else_stay_text(suffix, tmp_path):
    lists = [["joy", " calm"], [], None]
    source = written(tmp_path, suffix, utterance_id=["a", "b", "c"], feelings=lists, others=lists)
    corpus = read_corpus([source], {}, targets=[Target("feelings", "multilabel")])
    assert list(corpus.utterances["feelings"]) == ["joy|calm", "none", ""]
    assert corpus.target("feelings").classes == ("calm", "joy")
    np.testing.assert_array_equal(corpus.labels("feelings"), [[1, 1], [0, 0], [np.nan, np.nan]])
    assert list(corpus.utterances["others"]) == ["['joy', ' calm']", "[]", ""]


@pytest.mark.parametrize("cell", [["x|y"], [""], ["x", None], [["x"]], [True], [float("nan")]], ids=str)
def test_a_list_that_is_not_of_classes_is_named(cell, tmp_path):
    source = written(tmp_path, "jsonl", utterance_id=["a", "b"], m=["x", cell])
    found = faults(read_corpus, [source], {}, targets=[Target("m", "multilabel")])
    assert len(found) == 1
    assert found[0].startswith("m: ")
    assert found[0].endswith("is a list; write each class as a text without a |")


NO_VALUES = [(["x"], "a list"), ({"x": "y"}, "an object"), (True, "a truth value")]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("column", "cell", "what"),
    [
        (column, *no_value)
        for column in ("utterance_id", "media", "text", "label", "group")
        for no_value in NO_VALUES
        if (column, no_value[0]) != ("label", True)  # true and false are labels
    ],
    ids=str,
)
def test_a_cell_of_ours_that_is_no_single_value_is_named(column, cell, what, suffix, tmp_path):
    columns = {"utterance_id": ["a", "b"]} | {column: [None, cell]}
    source = written(tmp_path, suffix, **columns)
    found = faults(read_corpus, [source], {})
    assert f"{column}: {str(cell)!r} is {what}; write one text or number" in found
    assert len(found) == (2 if column == "utterance_id" else 1)


def test_a_list_in_a_target_of_one_class_is_named(tmp_path):
    source = written(tmp_path, "jsonl", utterance_id=["a", "b"], mood=["x", ["x", "y"]])
    found = faults(read_corpus, [source], {}, targets=[Target("mood", "nominal")])
    assert found == ["""mood: "['x', 'y']" is a list; write one text or number"""]


def test_columns_of_true_and_false_are_kept_and_can_be_targets(tmp_path):
    source = written(tmp_path, "jsonl", utterance_id=["a", "b"], ironic=[True, None], label=[True, False])
    assert list(read_corpus([source], {}).labels("label")) == ["True", "False"]
    corpus = read_corpus([source], {}, targets=[Target("ironic", "nominal")])
    corpus = Store.create(tmp_path / "s", corpus).corpus
    assert list(corpus.labels("ironic")) == ["True", ""]
    assert corpus.utterances["ironic"][0] is True


def test_bytes_in_parquet_are_text_in_utf_8(tmp_path):
    source = written(tmp_path, "parquet", utterance_id=[b"a", b"b"], text=["gr\xfcn".encode(), None])
    made = read_corpus([source], {})
    assert list(made.ids) == ["a", "b"]
    assert list(made.utterances["text"]) == ["grün", ""]
    written(tmp_path, "parquet", utterance_id=["a", "b"], text=[b"x", b"gr\xfcn"])
    fault = f"{source}: row 2, column text: not UTF-8 text; save it as text, or leave the column out"
    with pytest.raises(InvalidCorpus) as caught:
        read_corpus([source], {})
    assert str(caught.value) == fault


def test_an_index_survives_the_reading_of_bytes(tmp_path):
    frame = pd.DataFrame({"utterance_id": ["a"], "x": [b"y"]}).set_index("utterance_id")
    frame.to_parquet(tmp_path / "t.parquet")
    made = read_corpus([tmp_path / "t.parquet"], {})
    assert (list(made.ids), list(made.utterances["x"])) == (["a"], ["y"])


@pytest.mark.parametrize(
    ("cells", "kept"),
    [
        ([2**64, 1], [str(2**64), "1"]),
        ([LARGE, 0.5], [str(LARGE), "0.5"]),
        ([LARGE, None], [LARGE, None]),
        ([2, 0.5], [2.0, 0.5]),
        ([-(2**70), None], [str(-(2**70)), ""]),
    ],
    ids=str,
)
def test_whole_numbers_of_any_size_are_kept(cells, kept, tmp_path):
    source = written(tmp_path, "jsonl", utterance_id=["a", "b"], x=cells)
    made = Store.create(tmp_path / "s", read_corpus([source], {})).corpus.utterances["x"]
    assert [None if pd.isna(cell) else cell for cell in made] == kept


@pytest.mark.parametrize("number", [1e19, 10**400, -(10**15)], ids=["1e19", "10**400", "-10**15"])
def test_turns_and_counts_have_a_bound(number, tmp_path):
    source = written(tmp_path, "jsonl", utterance_id=["a", "b"], turn=[1, number])
    (found,) = faults(read_corpus, [source], {})
    assert found.startswith("turn: ")
    (tmp_path / "votes").mkdir()
    votes = written(tmp_path / "votes", "jsonl", utterance_id=["a", "a"], value=["x", "x"], count=[1, number])
    source = written(tmp_path, "jsonl", utterance_id=["a", "b"])
    (found,) = faults(read_corpus, [source], {}, ratings=votes)
    assert found.startswith("count: ")


@pytest.mark.parametrize(
    ("utterance", "fault"),
    [
        ("a\0", "'a\\x00' holds a control character; remove it"),
        ("a\x9fb", "'a\\x9fb' holds a control character; remove it"),
        ("\udc80", "holds half a character (\\ud800 to \\udfff alone); remove it"),
        ("é" * 251, "is longer than 500 bytes in UTF-8; shorten it"),
    ],
    ids=["NUL", "C1", "half", "long"],
)
def test_ids_that_files_cannot_hold_are_named(utterance, fault):
    found = faults(Corpus, "two", pd.DataFrame({"utterance_id": ["é" * 250, utterance]}, dtype=object))
    assert found == [f"utterances row 2, utterance_id: {fault}"]


@pytest.mark.parametrize("column", ["text", "label", "group", "mood"])
def test_half_a_character_is_named_in_every_column_of_text(column):
    (found,) = faults(Corpus, "two", table(**{column: ["fine 😀", "\ud83d"]}))
    assert found.startswith(f"utterances row 2, {column}: holds half a character")
    rated = pd.DataFrame({"utterance_id": ["a", "\ud83d"], "value": ["x", "x"]}, dtype=object)
    assert "ratings row 2, utterance_id: holds half a character" in faults(Corpus, "two", table(), rated)[0]


def test_columns_need_names(tmp_path):
    source = tmp_path / "clips.csv"
    table().to_csv(source)
    assert faults(read_corpus, [source], {}) == [
        "the utterances have a column without a name; name it, or leave it out (pandas: to_csv with index=False)"
    ]
    source.write_text("utterance_id,Unnamed: 0\na,0\n")
    assert list(read_corpus([source], {}).utterances["Unnamed: 0"]) == ["0"]


def test_media_have_one_spelling():
    media = ["./a.wav", "d//b.wav", "d/./c.wav", ".//./a.wav", "d/e.wav", "", ".hidden/a..wav"]
    frame = pd.DataFrame({"utterance_id": list("abcdefg"), "media": media})
    expected = ["a.wav", "d/b.wav", "d/c.wav", "a.wav", "d/e.wav", "", ".hidden/a..wav"]
    assert list(Corpus("x", frame).utterances["media"]) == expected
    for hidden in ("./~/a.wav", ".//../a.wav", "./C:a.wav"):
        assert "is not a path below" in faults(Corpus, "x", table(media=["", hidden]))[0]


@given(
    st.lists(
        st.tuples(
            st.text(st.sampled_from("ab./~: \n\u00a0"), max_size=7),
            st.text(max_size=4),
            st.integers() | st.floats(),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_accepted_is_accepted_again_as_it_is(rows):
    media, label, number = zip(*rows, strict=True)
    ids = [str(row) for row in range(len(rows))]
    columns = {"utterance_id": ids, "media": media, "label": label, "number": number}
    frame = pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in columns.items()})
    try:
        once = Corpus("x", frame).utterances
    except InvalidCorpus:
        return
    pd.testing.assert_frame_equal(Corpus("x", once).utterances, once)


@pytest.mark.parametrize(
    "cell", ["1_000", "1_0.5", True, [1], {"x": 1}, 10**400, "0x10"], ids=lambda c: str(c)[:9]
)
def test_what_is_no_number_is_named(cell):
    (found,) = faults(Corpus, "two", table(end=[1.5, cell]))
    assert found.startswith("utterances row 2, end: ")
    assert found.endswith("is not a number; write e.g. 12.5, or leave it empty")
    assert len(found) < 120
    (found,) = faults(Corpus, "two", table(x=["1", cell]), declared=(Target("x", "interval"),))
    assert found.startswith("utterances row 2, x: ")


def test_a_key_that_comes_twice_in_a_line_is_named(tmp_path):
    source = tmp_path / "clips.jsonl"
    source.write_text('{"utterance_id": "a", "x": 1}\n{"utterance_id": "b", "x": 1, "x": 2}\n')
    with pytest.raises(InvalidCorpus, match=r"line 2: not JSON \(key 'x' comes twice; keep one\)"):
        read_corpus([source], {})


def test_faulty_rows_are_told_before_a_target_that_lacks_them():
    mood = Target("mood", "nominal")
    (found,) = faults(Corpus, "two", table(mood=["", ["x"]]), declared=(mood,))
    assert "row 2, mood: \"['x']\" is a list" in found
    with pytest.raises(UsageError, match="no labels in a column 'mood'"):
        Corpus("two", table(mood=["", ""]), declared=(mood,))


def test_a_cut_is_of_the_entry_its_start_and_its_end():
    base = {"media": ["x", "x"], "start": [0, 1], "end": [1, 2]}
    hashes = Corpus("two", table(**base)).cut_hash_bytes
    assert hashes.dtype.kind == "S"
    assert hashes[0] != hashes[1]
    for change in ({"media": ["y", "x"]}, {"start": [0.5, 1]}, {"end": [None, 2]}):
        changed = Corpus("two", table(**(base | change))).cut_hash_bytes
        assert (hashes == changed).tolist() == [False, True]
