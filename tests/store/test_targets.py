import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from mixed_signals.store import Corpus, InvalidCorpus, Store, Target, UsageError
from mixed_signals.store.corpora.tables import read_corpus
from mixed_signals.store.corpus_cli import app
from mixed_signals.store.targets import parse_target

CONDITIONS = ("audio", "audio+video", "video+audio", "")
CLASSES = ("x", "y", "z")


def table(**columns):
    return pd.DataFrame({"utterance_id": ["a", "b", "c"], **columns})


def ratings(*rows):
    return pd.DataFrame(rows, columns=["utterance_id", "value", "shown", "count"])


def corpus(target, *, rated=None, **columns):
    return Corpus("three", table(**columns), rated, declared=(target,))


votes = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.sampled_from(CONDITIONS), st.integers(1, 3))
)


@given(votes, st.sampled_from(["any", "audio", "audio+video", "video+audio"]))
def test_votes_and_their_labels_agree_with_a_plain_loop(rows, condition):
    rated = ratings(*rows, ("a", "x", condition.replace("any", ""), 1))
    target = Target("crowd", "nominal", CLASSES, votes=condition)
    made = corpus(target, rated=rated)
    counts = {utterance: Counter() for utterance in "abc"}
    for utterance, value, shown, count in rated.itertuples(index=False):
        if condition == "any" or set(shown.split("+")) == set(condition.split("+")):
            counts[utterance][value] += count
    assert made.votes("crowd").tolist() == [[counts[u][c] for c in CLASSES] for u in "abc"]
    most = [max(counts[u].values(), default=0) for u in "abc"]
    tops = [[c for c in CLASSES if counts[u][c] == n and n] for u, n in zip("abc", most, strict=True)]
    assert list(made.labels("crowd")) == [top[0] if len(top) == 1 else "" for top in tops]


@given(st.lists(st.sets(st.sampled_from(CLASSES)) | st.none(), min_size=1, max_size=8))
def test_multilabel_cells_agree_with_a_plain_loop(sets):
    cells = ["" if s is None else " | ".join(sorted(s, reverse=True)) or "none" for s in sets]
    frame = pd.DataFrame({"utterance_id": [str(i) for i in range(len(cells))], "m": cells})
    if not any(cells):
        frame.loc[0, "m"] = "none"
        sets = [set(), *sets[1:]]
    labels = Corpus("m", frame, declared=(Target("m", "multilabel", CLASSES),)).labels("m")
    expected = [[math.nan] * 3 if s is None else [float(c in s) for c in CLASSES] for s in sets]
    np.testing.assert_array_equal(labels, expected)


def test_classes_stand_in_the_order_declared_or_sorted():
    effort = Target("effort", "ordinal", ("low", "mid", "high"))
    assert corpus(effort, effort=["high", "low", ""]).target("effort").classes == ("low", "mid", "high")
    assert corpus(Target("mood", "nominal"), mood=["z", "a", ""]).target("mood").classes == ("a", "z")
    feelings = corpus(Target("m", "multilabel"), m=["z|a", "none", ""])
    assert feelings.target("m").classes == ("a", "z")
    crowd = corpus(
        Target("crowd", "nominal", votes="any"), rated=ratings(("a", "z", "", 1), ("b", "a", "", 1))
    )
    assert crowd.target("crowd").classes == ("a", "z")


def test_interval_labels_are_numbers():
    made = corpus(Target("arousal", "interval", range=(1, 5)), arousal=["1.5", "", " 5 "])
    np.testing.assert_array_equal(made.labels("arousal"), [1.5, math.nan, 5])
    assert made.labels("arousal").dtype == np.float64


def test_the_label_is_a_target_unless_it_is_declared_otherwise():
    mood = Target("mood", "nominal")
    made = corpus(mood, mood=["u", "v", ""], label=["1", "2", "3"])
    assert [target.name for target in made.targets] == ["label", "mood"]
    made = corpus(Target("label", "interval"), label=["1", "2", "3"])
    assert [target.kind for target in made.targets] == ["interval"]
    assert made.labels("label").tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("target", "cell", "fault"),
    [
        (Target("t", "nominal", ("x", "y")), "z", "'z' is none of the classes x, y; mend the cell, or add"),
        (Target("t", "ordinal", ("x", "y")), "z", "'z' is none of the classes x, y"),
        (Target("t", "interval"), "high", "'high' is not a number; write e.g. 12.5"),
        (Target("t", "interval", range=(1, 5)), "6", "6 is not within 1 to 5; mend the cell or the target's"),
        (Target("t", "multilabel", ("x", "y")), "x|z", "'z' is none of the classes x, y; join classes by |"),
        (Target("t", "multilabel", ("x", "y")), "x|none", "'none' stands alone"),
    ],
    ids=lambda value: value.kind if isinstance(value, Target) else None,
)
def test_cells_that_cannot_be_the_targets_are_named_by_line_and_column(target, cell, fault, tmp_path):
    fine = {"nominal": "x", "ordinal": "x", "interval": "2", "multilabel": "none"}[target.kind]
    source = tmp_path / "clips.csv"
    source.write_text(f"utterance_id,t\na,{fine}\nb,\nc,{cell}\n")
    with pytest.raises(InvalidCorpus) as caught:
        read_corpus([source], {}, targets=(target,))
    assert len(caught.value.lines) == 1
    assert caught.value.lines[0].startswith(f"{source} line 4, column t: ")
    assert fault in caught.value.lines[0]


def test_votes_for_no_class_are_named_in_the_ratings(tmp_path):
    (tmp_path / "clips.csv").write_text("utterance_id\na\n")
    rated = tmp_path / "votes.csv"
    rated.write_text("utterance_id,value,shown\na,x,audio\na,q,video\na,q,audio\n")
    target = Target("crowd", "nominal", ("x", "y"), votes="audio")
    with pytest.raises(InvalidCorpus) as caught:
        read_corpus([tmp_path / "clips.csv"], {}, ratings=rated, targets=(target,))
    assert [line.split(" is none")[0] for line in caught.value.lines] == [
        f"{rated} line 4, column value: 'q'"
    ]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"kind": "ratio"}, "kind 'ratio' is none of nominal, ordinal, interval, multilabel"),
        ({"kind": "nominal", "classes": ("x", "x")}, "class 'x' comes twice"),
        ({"kind": "ordinal"}, "needs its classes in rising order"),
        ({"kind": "interval", "range": (5, 1)}, "the range 5..1 does not rise"),
        ({"kind": "interval", "classes": ("x",)}, "has a range, no classes"),
        ({"kind": "nominal", "range": (1, 5)}, "a range is for interval targets"),
        ({"kind": "multilabel", "classes": ("none",)}, "no class can be called 'none'"),
        ({"kind": "interval", "votes": "any"}, "votes make nominal or ordinal targets"),
        ({"kind": "nominal", "votes": "audio+smell"}, "use any, or what was shown"),
    ],
)
def test_targets_that_do_not_fit_together_are_refused(parts, said):
    with pytest.raises(UsageError, match="target 't': ") as caught:
        Target("t", **parts)
    assert said in str(caught.value)


def test_targets_without_anything_to_learn_from_are_refused():
    crowd = Target("crowd", "nominal", votes="video")
    rated = ratings(("a", "x", "audio", 1))
    with pytest.raises(UsageError, match=r"no labels in a column 'mood' \(the utterances have: utterance_id"):
        corpus(Target("mood", "nominal"))
    with pytest.raises(UsageError, match="no labels in a column 'm'"):
        corpus(Target("m", "multilabel"), m=["none", "none", ""])
    with pytest.raises(UsageError, match="there are no ratings"):
        corpus(crowd)
    with pytest.raises(UsageError, match=r"no rating was made of video \(shown: audio\)"):
        corpus(crowd, rated=rated)
    with pytest.raises(UsageError, match="takes votes and is a column too"):
        corpus(Target("crowd", "nominal", votes="any"), rated=rated, crowd=["x", "y", "z"])
    with pytest.raises(UsageError, match="declared twice"):
        Corpus("three", table(mood=["x", "y", "z"]), declared=(Target("mood", "nominal"),) * 2)
    with pytest.raises(UsageError, match="takes no votes"):
        Corpus("three", table(label=["x", "y", "z"])).votes("label")


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ("nominal", Target("t", "nominal")),
        ("nominal:angry|sad", Target("t", "nominal", ("angry", "sad"))),
        ("ordinal:low | mid|high", Target("t", "ordinal", ("low", "mid", "high"))),
        ("interval", Target("t", "interval")),
        ("interval:-0.5..1.5", Target("t", "interval", range=(-0.5, 1.5))),
        ("multilabel:a|b", Target("t", "multilabel", ("a", "b"))),
        ("votes", Target("t", "nominal", votes="any")),
        ("votes:video+audio", Target("t", "nominal", votes="audio+video")),
    ],
)
def test_flags_become_targets(value, target):
    assert parse_target("t", value) == target


def test_a_flag_with_half_a_range_is_refused():
    with pytest.raises(UsageError, match=r"range '1' is not two numbers; write e.g. interval:1..5"):
        parse_target("t", "interval:1")


def imported(folder, *words):
    return CliRunner().invoke(app, ["import", *map(str, words), "--store", str(folder / "store")])


def test_a_replaced_corpus_says_what_became_of_its_rows(tmp_path):
    clips = tmp_path / "clips.csv"
    clips.write_text("utterance_id,text,label,start,end\na,hi,x,0,1\nb,,y,,\nc,so,x,2,3\n")
    assert "by id" not in imported(tmp_path, "csv", clips, "--replace").output
    clips.write_text("utterance_id,text,label,start,end\nd,new,y,,\nb,,y,,\na,hey,x,0,1.5\n")
    said = imported(tmp_path, "csv", clips, "--replace")
    assert (
        ": 2 utterances as before by id (another transcript in 1, another clip in 1), 1 new, 1 gone"
        in said.output
    ), said.output
    (tmp_path / "store" / "corpus.json").write_text("{}")
    said = imported(tmp_path, "csv", clips, "--replace")
    assert said.exit_code == 0
    assert "by id" not in said.output


def test_the_import_command_declares_targets_and_shows_them(tmp_path):
    (tmp_path / "clips.csv").write_text("clip,arousal,effort\na,1.5,low\nb,,high\n")
    (tmp_path / "votes.csv").write_text("utterance_id,value,shown\na,x,video+audio\n")
    flags = ["--id", "clip", "--ratings", tmp_path / "votes.csv"]
    flags += [
        "--target",
        "arousal=interval:1..5,effort=ordinal:low|high",
        "--target",
        "crowd=votes:audio+video",
    ]
    ran = imported(tmp_path, "csv", tmp_path / "clips.csv", *flags)
    assert ran.exit_code == 0, ran.exception
    assert "arousal (interval 1..5): 1.5 to 1.5, mean 1.5, in 1 of 2" in ran.stdout
    assert "effort (ordinal): low 1, high 1" in ran.stdout
    assert "crowd (nominal, votes of audio+video): x 1" in ran.stdout
    again = Store.open(tmp_path / "store").corpus
    assert list(again.labels("effort")) == ["low", "high"]
    shown = CliRunner().invoke(app, ["show", str(tmp_path / "store")])
    assert "  ratings: 1, by what was shown: audio+video 1\n" in shown.stdout


def test_the_summary_says_of_each_target_how_many_are_labelled_where_some_are_not():
    columns = {"label": ["x", "", "y"], "mood": ["u", "u", "v"], "m": ["p|q", "none", ""]}
    lines = str(
        Corpus("three", table(**columns), declared=(Target("mood", "nominal"), Target("m", "multilabel")))
    )
    assert lines.splitlines()[1:4] == [
        "  label: x 1, y 1; 2 of 3 labelled",
        "  mood: u 2, v 1",
        "  m (multilabel): p 1, q 1, none 1; 2 of 3 labelled",
    ]


def test_the_summary_counts_ratings_by_what_was_shown():
    rated = ratings(
        ("a", "x", "text", 1), ("b", "x", "", 2), ("b", "y", "video+audio", 3), ("c", "y", "text", 4)
    )
    said = str(Corpus("three", table(), rated)).splitlines()[-1]
    assert said == "  ratings: 10, by what was shown: text 5, audio+video 3, not said 2"


def test_the_import_says_in_a_line_each_what_cells_may_not_mean(tmp_path):
    clips = tmp_path / "clips.csv"
    clips.write_text("utterance_id,text,label,mood\na,NA,None,Up\nb,hi,N/A,up\nc,,sad,up\n")
    ran = imported(tmp_path, "csv", clips, "--target", "mood=nominal")
    assert ran.exit_code == 0, ran.exception
    empty = "where nothing is known, leave the cell empty and import again with --replace"
    assert ran.stderr.splitlines()[-3:] == [
        f"note: text says 'NA' in 1 of 3 rows, e.g. a, and is taken at its word; {empty}",
        f"warning: label says 'N/A', 'None' in 2 of 3 rows, e.g. a, b, and is taken at its word; {empty}",
        "warning: classes of mood that differ in case or spaces only: 'Up' (1) and 'up' (2); write each class in one "
        "way and import again with --replace, unless they are different classes",
    ]
    assert list(Store.open(tmp_path / "store").corpus.labels("label")) == ["None", "N/A", "sad"]


def test_columns_of_ratings_that_nothing_reads_are_named_with_what_may_be_meant(tmp_path):
    (tmp_path / "clips.csv").write_text("utterance_id\na\n")
    rated = tmp_path / "votes.csv"
    rated.write_text("utterance_id,value,Show,annotator,values\na,x,audio,r1,\n")
    ran = imported(tmp_path, "csv", tmp_path / "clips.csv", "--ratings", rated)
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("note: ")]
    assert line == (
        f"note: {rated}: columns that nothing reads: Show (did you mean shown?), annotator, values; known are "
        "utterance_id, rater, shown, value, count"
    )
    rated.write_text("utterance_id,value,shown,show\na,x,audio,1\n")
    ran = imported(tmp_path, "csv", tmp_path / "clips.csv", "--ratings", rated, "--replace")
    assert f"note: {rated}: columns that nothing reads: show; known" in ran.stderr
    rated.write_text("utterance_id,value\na,x\n")
    assert (
        "note"
        not in imported(tmp_path, "csv", tmp_path / "clips.csv", "--ratings", rated, "--replace").stderr
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["xls", "a.xls"], "FORMAT 'xls': one of csv, jsonl, parquet"),
        (["csv", "a.parquet"], "a.parquet: not a .csv file"),
        (["ravdess", "a", "--label", "x"], "--label: goes with tables (csv, jsonl, parquet)"),
        (["ravdess", "a", "--transcript-source", "x"], "--transcript-source: goes with tables"),
        (["ravdess", "a", "--ratings", "x.csv"], "--ratings: goes with tables"),
        (["ravdess", "a", "b"], "b: ravdess takes one SOURCE"),
        (["csv", "a.csv", "--target", "x"], "--target: expected KEY=VALUE"),
        (["csv", "a.csv", "--media-root", "file:///x"], "/x: the media root is not a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_import_calls_say_what_is_wrong(words, said, tmp_path):
    ran = imported(tmp_path, *words)
    assert isinstance(ran.exception, UsageError)
    assert said in str(ran.exception)
