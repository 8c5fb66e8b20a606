"""People by channel: CREMA-D's published figures, brute force, other implementations, and planted truth."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from outside_data import outside_data
from planted_study import Design
from planted_study import draw as draw_study
from sklearn.metrics import cohen_kappa_score

from mixed_signals.analysis.findings import Answer
from mixed_signals.analysis.inference import mcnemar
from mixed_signals.analysis.people import evaluate
from mixed_signals.analysis.people.gains import channels_table, half_quantities
from mixed_signals.analysis.people.kappa import channel_kappa, cohen_kappa, fleiss_kappa, raters_are_known
from mixed_signals.analysis.people.votes import (
    TIE_RULES,
    TIES_SHARED,
    TIES_WRONG,
    HalfVotes,
    People,
    divergence,
    half_votes,
    right,
    votes_by_channel,
    winners,
)
from mixed_signals.analysis.sources import SOURCES
from mixed_signals.models.intervals import group_codes
from mixed_signals.store.corpora import cremad
from mixed_signals.store.errors import UsageError

LABELS = ("calm", "glad", "sad")


def ratings(rows):
    return pd.DataFrame(rows, columns=["utterance_id", "rater", "shown", "value", "count"])


def labels_of(codes):
    ids = [f"u{i:05d}" for i in range(len(codes))]
    return pd.Series(np.array(LABELS, dtype=object)[codes], index=ids, name="emotion", dtype=object)


def sampled(rng, labels, chances, n_votes=10):
    """Votes of raters who give the label with these chances, by channel, and else one of the other labels."""
    rows = []
    for channel, chance in chances.items():
        given = rng.random((len(labels), n_votes)) < np.broadcast_to(chance, len(labels))[:, None]
        for (name, label), own in zip(labels.items(), given.sum(axis=1), strict=True):
            others = [value for value in LABELS if value != label]
            first = rng.binomial(n_votes - own, 0.5)
            for value, count in zip([label, *others], [own, first, n_votes - own - first], strict=True):
                if count:
                    rows.append((name, "", channel, value, count))
    return ratings(rows)


def quantity(answer, name, first="audio", second="audio+video", rule=TIES_SHARED, votes="halves", label=""):
    table = answer.tables["channels"]
    where = {
        "first": first,
        "second": second,
        "tie_rule": rule,
        "votes": votes,
        "label": label,
        "quantity": name,
    }
    (row,) = table[np.logical_and.reduce([table[key] == value for key, value in where.items()])].to_dict(
        "records"
    )
    return row


@pytest.fixture(scope="module")
def crowd():
    return cremad.read_corpus(outside_data("cremad"))


@pytest.fixture(scope="module")
def crowd_answer(crowd):
    described = crowd.utterances.set_index("utterance_id")
    return evaluate(crowd.ratings, described["label"], described["group"])


def test_the_published_majority_votes_are_reproduced_for_all_rows_of_cremad(crowd_answer):
    source = outside_data("cremad")
    summary = pd.read_csv(source / "summaryTable.csv").set_index("FileName")
    tabulated = pd.read_csv(source / "tabulatedVotes.csv", index_col=0)
    numbers = {"audio": 1, "video": 2, "audio+video": 3}
    columns = {"audio": "VoiceVote", "video": "FaceVote", "audio+video": "MultiModalVote"}
    letter = {word: letter for letter, word in cremad.EMOTIONS.items()}
    mine = crowd_answer.tables["people_votes"]
    assert len(mine) == 22_326
    for channel, part in mine.groupby("channel"):
        said = [":".join(letter[word] for word in winner.split(":")) for winner in part["winner"]]
        of_channel = tabulated[tabulated.index // 100_000 == numbers[channel]].set_index("fileName")
        assert said == list(of_channel["emoVote"].reindex(part["utterance_id"]))
        assert said == list(summary[columns[channel]].reindex(part["utterance_id"]))


def test_accuracy_against_the_intended_emotion_is_that_of_cremad(crowd_answer):
    table = crowd_answer.tables["people"].set_index(["tie_rule", "channel"])
    channels = ["audio", "video", "audio+video"]
    assert list(table.loc[TIES_WRONG, "estimate"][channels]) == pytest.approx([0.416, 0.663, 0.722], abs=5e-4)
    assert list(table.loc[TIES_SHARED, "estimate"][channels]) == pytest.approx(
        [0.446, 0.685, 0.744], abs=5e-4
    )
    assert list(table.loc["per response", "estimate"][channels]) == pytest.approx(
        [0.400, 0.574, 0.631], abs=5e-4
    )
    assert (table["n"] == 7442).all()
    assert (table["n_groups"] == 91).all()
    assert (table["low"] < table["estimate"]).all()
    assert (table["estimate"] < table["high"]).all()
    assert table["votes"].groupby("channel").first().sum() == 212_000


def test_on_cremad_losses_from_face_to_both_do_not_exceed_vote_noise(crowd_answer):
    of_pair = {"first": "video", "second": "audio+video"}
    assert quantity(crowd_answer, "loss", **of_pair)["estimate"] == pytest.approx(0.085, abs=0.002)
    assert quantity(crowd_answer, "flips_second", **of_pair)["estimate"] == pytest.approx(0.0925, abs=0.002)
    excess = quantity(crowd_answer, "loss_excess", **of_pair)
    assert excess["high"] < 0
    (said,) = [f for f in crowd_answer.findings if f.quantity == "video to audio+video, loss excess"]
    assert "losses are fewer than vote noise alone makes" in said.verdict
    assert said.p < 0.05


def test_on_cremad_clustering_by_actor_makes_mcnemar_a_third_of_the_plain_one(crowd, crowd_answer):
    votes = crowd_answer.tables["people_votes"]
    wide = votes.set_index(["utterance_id", "channel"])["ties_wrong"].unstack()  # noqa: PD010 - nothing is averaged
    actor = crowd.utterances.set_index("utterance_id")["group"].reindex(wide.index).to_numpy(dtype=object)
    face, both = wide["video"] == 1, wide["audio+video"] == 1
    assert mcnemar(face, both, method="durkalski").statistic == pytest.approx(138, abs=1)
    clustered = mcnemar(face, both, actor)
    assert clustered.statistic == pytest.approx(48.5, abs=1)
    net = quantity(crowd_answer, "net", "video", rule=TIES_WRONG, votes="all")
    assert net["p"] == clustered.p
    assert net["estimate"] == pytest.approx(both.mean() - face.mean())


def test_the_letters_of_cremads_own_table_are_mapped_to_words(crowd, crowd_answer):
    letters = {word: letter for letter, word in cremad.EMOTIONS.items()}
    described = crowd.utterances.set_index("utterance_id")
    lettered = crowd.ratings.assign(value=crowd.ratings["value"].map(letters))
    votes, said = votes_by_channel(lettered, described["label"])
    assert votes.channels == ()
    assert len(said) == 4
    assert "'A', 'D', 'F', 'H', 'N', 'S' are not among the labels of 'label'" in said[0]
    votes, said = votes_by_channel(lettered, described["label"], cremad.EMOTIONS)
    assert said == []
    expected, _ = votes_by_channel(crowd.ratings, described["label"])
    assert all(np.array_equal(votes.counts[c], expected.counts[c]) for c in expected.channels)


def test_each_tie_rule_says_what_it_says():
    found = right([[3, 1, 0], [2, 2, 0], [2, 2, 2], [1, 3, 0], [0, 0, 0]], [0, 0, 0, 0, 0])
    np.testing.assert_array_equal(found[TIES_WRONG], [1, 0, 0, 0, np.nan])
    np.testing.assert_allclose(found[TIES_SHARED], [1, 1 / 2, 1 / 3, 0, np.nan])
    np.testing.assert_allclose(found["per response"], [3 / 4, 1 / 2, 1 / 3, 1 / 4, np.nan])
    counts = np.array([[3, 1, 0], [2, 2, 0], [0, 0, 0]])
    assert winners(counts, LABELS).tolist() == ["calm", "calm:glad", ""]


@pytest.mark.parametrize("counts", [(2, 1, 0), (2, 2, 1), (1, 3, 1), (3, 2, 1), (0, 2, 2)])
def test_half_votes_equal_all_orders_of_the_votes(counts):
    votes = np.repeat(range(3), counts)
    size = len(votes) // 2
    orders = np.array(list(set(permutations(votes))))
    halves = [np.stack([(part == k).sum(axis=1) for k in range(3)], axis=1) for part in
              (orders[:, :size], orders[:, size : 2 * size])]  # fmt: skip
    a, b = (right(half, np.zeros(len(orders), dtype=int)) for half in halves)
    n = 40_000
    many = np.tile(counts, (n, 1))
    found = half_votes(many, np.zeros(n, dtype=int), 1, np.random.default_rng(0))
    for rule in (TIES_WRONG, TIES_SHARED):
        assert found[rule].right.mean() == pytest.approx(a[rule].mean(), abs=0.01)
        assert found[rule].flips.mean() == pytest.approx((a[rule] * (1 - b[rule])).mean(), abs=0.01)


def test_gains_and_losses_beside_noise_follow_from_the_chances_of_halves():
    rng = np.random.default_rng(1)
    p, q = np.array([0.9, 0.4, 0.2]), np.array([0.5, 0.7, 0.2])
    shape = (400_000, 3)
    a, b = ((rng.random(shape) < p).astype(float) for _ in range(2))
    c, d = ((rng.random(shape) < q).astype(float) for _ in range(2))
    one = _half((a + b) / 2, (a * (1 - b) + b * (1 - a)) / 2)
    two = _half((c + d) / 2, (c * (1 - d) + d * (1 - c)) / 2)
    parts = half_quantities(one, two)
    np.testing.assert_allclose(parts.means["loss"], p * (1 - q), atol=0.005)
    np.testing.assert_allclose(parts.means["loss_excess"], p * (1 - q) - q * (1 - q), atol=0.005)
    np.testing.assert_allclose(parts.means["change_excess"], (p - q) ** 2, atol=0.005)
    above, below = parts.ratios["loss_again"]
    again = [((a * (1 - c) * (b - d))[:, k].mean(), (a * (1 - c))[:, k].mean()) for k in range(3)]
    np.testing.assert_allclose(above, [x for x, _ in again], atol=0.005)
    np.testing.assert_allclose(below, [y for _, y in again], atol=0.005)
    np.testing.assert_allclose(parts.ratios["gain_again"][0], (1 - p) * q * (q - p), atol=0.005)


def _half(is_right, flips):
    return HalfVotes(is_right.mean(axis=0), flips.mean(axis=0))


@pytest.fixture(scope="module")
def null_answers():
    """Studies in which both channels are alike, with utterances of any difficulty."""
    answers = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        labels = labels_of(rng.integers(0, 3, 150))
        chance = rng.uniform(0.2, 0.95, len(labels))
        groups = pd.Series([f"s{i % 15}" for i in range(len(labels))], index=labels.index)
        both = sampled(rng, labels, {"audio": chance, "audio+video": chance})
        votes, _ = votes_by_channel(both, labels)
        people = People(votes, group_codes(groups[votes.ids], len(votes.ids)), resamples=200, seed=seed)
        answers.append(Answer({"channels": channels_table(people)}))
    return answers


def test_without_a_difference_losses_are_vote_noise(null_answers):
    excess = [quantity(answer, "loss_excess") for answer in null_answers]
    assert np.mean([row["estimate"] for row in excess]) == pytest.approx(0, abs=0.006)
    assert np.mean([row["loss"] for row in _losses(null_answers)]) > 0.05
    assert sum(not row["low"] <= 0 <= row["high"] for row in excess) <= 5
    assert sum(row["p"] < 0.05 for row in excess) <= 5


def test_where_nobody_loses_the_losers_do_not_lose_again(null_answers):
    again = [quantity(answer, "loss_again") for answer in null_answers]
    assert np.mean([row["estimate"] for row in again]) == pytest.approx(0, abs=0.02)
    assert sum(row["low"] > 0 for row in again) <= 4


def _losses(answers):
    return [{"loss": quantity(answer, "loss")["estimate"]} for answer in answers]


def test_planted_losers_are_found_behind_a_net_gain():
    rng = np.random.default_rng(3)
    labels = labels_of(rng.integers(0, 3, 400))
    loses = np.arange(400) % 10 == 0
    chances = {"audio": np.where(loses, 0.9, 0.5), "audio+video": np.where(loses, 0.2, 0.9)}
    groups = pd.Series([f"s{i // 10}" for i in range(400)], index=labels.index)
    answer = evaluate(sampled(rng, labels, chances), labels, groups, resamples=400)
    assert quantity(answer, "net")["low"] > 0.1
    assert quantity(answer, "loss_again")["low"] > 0.2
    (said,) = [f for f in answer.findings if f.quantity == "audio to audio+video, loss again"]
    assert "some utterances are truly recognised better from audio than from audio+video" in said.verdict
    table = answer.tables["channels"]
    assert table[table["label"] != ""]["label"].unique().tolist() == sorted(LABELS)


def test_channels_are_compared_by_utterance_never_by_person():
    rng = np.random.default_rng(4)
    labels = labels_of(rng.integers(0, 3, 60))
    votes = sampled(rng, labels, {"audio": 0.5, "audio+video": 0.7}, n_votes=6)
    single = votes.loc[votes.index.repeat(votes["count"])].assign(count=1).reset_index(drop=True)
    named = single.assign(rater=[f"r{i % 7}" for i in range(len(single))])
    plain, known = (evaluate(table, labels, resamples=100) for table in (votes, named))
    pd.testing.assert_frame_equal(plain.tables["channels"], known.tables["channels"])
    assert "people_kappa" not in plain.tables
    assert any("No kappa of audio, audio+video" in note for note in plain.notes)
    assert known.tables["people_kappa"]["channel"].tolist() == ["audio", "audio+video"]
    assert "Fleiss' kappa [Fleiss 1971; Gwet 2014]" in " ".join(known.methods)


def test_fleiss_kappa_is_the_one_in_the_literature():
    # ten subjects, fourteen raters, five categories: the worked example of Wikipedia's article, kappa 0.210
    table = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    found = fleiss_kappa(np.array(table))
    assert found.estimate == pytest.approx(0.2099, abs=5e-5)
    assert found.low < found.estimate < found.high


def test_cohens_kappa_equals_scikit_learn_and_is_used_for_two_raters():
    rng = np.random.default_rng(5)
    first = rng.integers(0, 3, 80)
    second = np.where(rng.random(80) < 0.6, first, rng.integers(0, 3, 80))
    expected = cohen_kappa_score(first, second)
    assert cohen_kappa(first, second, 3).estimate == pytest.approx(expected)
    rows = [(f"u{i}", rater, "audio", LABELS[said[i]], 1) for i in range(80)
            for rater, said in (("ann", first), ("bob", second))]  # fmt: skip
    rows += [("u0", "ann", "audio", LABELS[(first[0] + 1) % 3], 1), ("alone", "ann", "audio", "calm", 1)]
    table = ratings(rows)
    assert raters_are_known(table)
    name, kappa, n_raters = channel_kappa(table)
    assert (name, n_raters, kappa.n) == ("Cohen's kappa", 2, 80)
    assert kappa.estimate == pytest.approx(expected)
    assert not raters_are_known(table.assign(rater=""))
    assert not raters_are_known(table.assign(count=2))


def test_votes_for_no_label_are_refused_until_they_are_said_to_be_wrong():
    labels = labels_of(np.array([0, 1, 2] * 10))
    rows = [(name, "", "audio", label, 3) for name, label in labels.items()]
    rows += [(name, "", "video", label, 2) for name, label in labels.items()]
    rows += [("u00000", "", "video", "other", 3)]
    answer = evaluate(ratings(rows), labels)
    assert answer.tables["people"]["channel"].unique().tolist() == ["audio"]
    assert "Ratings of video are left out: 'other' is not among the labels of 'emotion'" in answer.notes[0]
    assert "--value other=calm (in Python values={'other': 'calm'})" in answer.notes[0]
    assert not any("Nothing is said of people" in note for note in answer.notes)
    assert any("channels cannot be compared" in note for note in answer.notes)
    answer = evaluate(ratings(rows), labels, values={"other": "other"})
    wrong = answer.tables["people_votes"].set_index(["channel", "utterance_id"]).loc[("video", "u00000")]
    assert (wrong["winner"], wrong["ties_wrong"], wrong["per_response"]) == ("other", 0, 0.4)
    with pytest.raises(UsageError, match="'happy' is no label"):
        evaluate(ratings(rows), labels, values={"other": "happy"})
    with pytest.raises(UsageError, match="no column shown"):
        evaluate(ratings(rows).drop(columns="shown"), labels)


def test_where_every_channel_is_left_out_that_is_said_and_nothing_else():
    labels = labels_of(np.array([0, 1, 2] * 10))
    rows = [(name, "", shown, label, 3) for name, label in labels.items() for shown in ("audio", "video")]
    rows += [("u00000", "", "audio", "other", 1), ("u00001", "", "video", "none of these", 1)]
    answer = evaluate(ratings(rows), labels)
    assert answer.tables == {}
    assert len(answer.notes) == 3
    assert "--value 'none of these=calm'" in answer.notes[1]
    assert answer.notes[-1].startswith("Nothing is said of people: every channel (audio, video) is left out")


def test_what_the_ratings_cannot_answer_is_said():
    labels = labels_of(np.arange(30) % 3)
    assert "no ratings" in evaluate(None, labels).notes[0]
    one = [(name, "", "audio", label, 2) for name, label in labels.items()]
    assert (
        "is a number" in evaluate(ratings(one), pd.Series(0.5, index=labels.index, name="valence")).notes[0]
    )
    elsewhere = evaluate(ratings([("x", "", "audio", "calm", 2)]), labels)
    assert elsewhere.tables == {}
    assert "No utterance has both ratings" in elsewhere.notes[-1]
    silent = evaluate(ratings([*one, ("u00000", "", "", "calm", 4)]), labels)
    assert silent.notes[0].startswith("4 ratings do not say what was shown")
    apart = ratings(one[:15] + [(name, "", "video", "glad", 2) for name, *_ in one[15:]])
    answer = evaluate(apart, labels)
    assert any("No utterance was rated in all of audio, video" in note for note in answer.notes)
    assert any("two ratings or more in two channels" in note for note in answer.notes)
    assert answer.tables["people"].set_index("channel")["n"].tolist() == [15] * 6
    assert "channels" not in answer.tables


def test_a_label_made_of_the_votes_and_unequal_numbers_of_votes_are_warned_of():
    rng = np.random.default_rng(6)
    labels = labels_of(rng.integers(0, 3, 60))
    votes = pd.concat(
        [sampled(rng, labels, {"audio": 0.5}, 5), sampled(rng, labels, {"audio+video": 0.6}, 15)]
    )
    notes = evaluate(votes, labels, resamples=50).notes
    assert any(
        "different numbers of votes" in note and "audio 5.0, audio+video 15.0" in note for note in notes
    )
    assert not any("made of these votes" in note for note in notes)
    counted, _ = votes_by_channel(votes, labels)
    winner = pd.Series(
        winners(counted.counts["audio+video"], counted.values), index=counted.ids, name="emotion"
    )
    clear = winner[~winner.str.contains(":")]
    assert any("made of these votes" in note for note in evaluate(votes, clear, resamples=50).notes)


def test_votes_lie_apart_by_no_more_than_noise_where_people_say_the_same():
    rng = np.random.default_rng(7)
    chances = rng.dirichlet([1, 1, 1], 3000)
    first, second = (rng.multinomial(8, chances) for _ in range(2))
    same = divergence(first, second, 10, rng)
    assert same.between.mean() > 0.1
    assert same.excess.mean() == pytest.approx(0, abs=0.01)
    other = divergence(first, rng.multinomial(8, chances[:, ::-1]), 10, rng)
    assert other.excess.mean() > 0.1


def test_ambiguity_of_both_is_set_beside_how_far_single_channels_lie_apart():
    rng = np.random.default_rng(9)
    labels = labels_of(rng.integers(0, 3, 300))
    conflict = rng.random(300) < 0.4
    chances = {
        "audio": 0.85, "video": np.where(conflict, 0.05, 0.85), "audio+video": np.where(conflict, 0.45, 0.85),
    }  # fmt: skip
    groups = pd.Series([f"s{i % 20}" for i in range(300)], index=labels.index)
    answer = evaluate(sampled(rng, labels, chances), labels, groups, resamples=300)
    link = answer.tables["people_link"].set_index("quantity")
    assert (link["both"] == "audio+video").all()
    assert link.loc["spearman", "low"] > 0.2
    assert link.loc["auroc", "low"] > 0.6
    table = answer.tables["channels"]
    assert table.loc[table["quantity"] == "cochran_q", "p"].item() < 0.01
    assert table.groupby(["first", "second"])["more"].first().to_dict() == {
        ("audio", "video"): False, ("audio", "audio+video"): True, ("video", "audio+video"): True,
        ("audio, video, audio+video", ""): False,
    }  # fmt: skip


@pytest.fixture(scope="module")
def beside():
    """Models and people for whom video leans to the next class in the same third of the utterances."""
    design = Design(
        n=300, n_groups=20, n_classes=3, strengths={"audio": 3.0, "video": 3.0}, conflict={"video": 0.33}
    )
    rng = np.random.default_rng(10)
    drawn = draw_study(rng, design)
    panel = drawn.panel
    labels = pd.Series(np.array(panel.classes, dtype=object)[panel.truth], index=panel.ids, name="label")
    rows = []
    for channel in ("audio", "video", "audio+video"):
        astray = drawn.conflicted["video"] * {"audio": 0.0, "video": 0.8, "audio+video": 0.4}[channel]
        moved = rng.binomial(8, np.where(astray, astray, 0.1))
        for i, (name, label) in enumerate(labels.items()):
            wrong = panel.classes[(panel.truth[i] + 1) % 3]
            rows += [(name, "", channel, v, n) for v, n in ((label, 8 - moved[i]), (wrong, moved[i])) if n]
    groups = pd.Series(panel.groups, index=panel.ids)
    return panel, ratings(rows), labels, groups


def test_people_and_models_are_set_beside_each_other_on_the_same_utterances(beside):
    panel, rated, labels, groups = beside
    half = rated[rated["utterance_id"].isin(panel.ids[:200])]
    answer = evaluate(half, labels, groups, resamples=200, panel=panel)
    table = answer.tables["people_models"].set_index(["first", "second", "quantity"]).sort_index()
    assert list(answer.tables["people_models"].columns[:4]) == ["head", "first", "second", "quantity"]
    assert (table["n"] == 200).all()
    found = table.loc[("audio", "video")]
    assert found.loc["spearman", "low"] > 0.3
    assert found.loc["excess", "low"] > 0.05
    assert 0 < found.loc["models_excess", "estimate"] < found.loc["models", "estimate"] + 0.05
    assert ("audio", "audio+video", "spearman") in table.index  # the fusion's
    said = [f for f in answer.findings if f.head == panel.head]
    assert len(said) == 6
    assert all(f.verdict.startswith(f"{panel.head}: ") for f in said)


def test_models_that_disagree_elsewhere_are_not_said_to_follow_people(beside):
    panel, rated, labels, groups = beside
    order = np.random.default_rng(11).permutation(len(panel.ids))
    elsewhere = pd.Series(panel.ids[order], index=panel.ids)
    moved = rated.assign(utterance_id=rated["utterance_id"].map(elsewhere))
    meant = labels.set_axis(elsewhere[labels.index])
    table = evaluate(moved, meant, groups, resamples=200, panel=panel).tables["people_models"]
    table = table.set_index(["first", "second", "quantity"]).sort_index()
    row = table.loc[("audio", "video", "spearman")]
    assert row["low"] < 0.1
    assert abs(row["estimate"]) < 0.2


def test_a_panel_without_models_of_the_channels_is_said(beside):
    panel, rated, labels, groups = beside
    text = rated.assign(shown="text")
    notes = evaluate(text, labels, groups, resamples=50, panel=panel).notes
    assert any(note.startswith(f"{panel.head}: people's disagreement is not set beside") for note in notes)


@pytest.fixture(scope="module")
def beside_answer(beside):
    panel, rated, labels, groups = beside
    return evaluate(rated, labels, groups, resamples=50, panel=panel, seed=3)


def test_every_source_that_is_cited_is_known(beside_answer):
    answer = beside_answer
    cited = {
        key
        for said in answer.methods
        for part in said.split("[")[1:]
        for key in part.split("]")[0].split("; ")
    }
    assert cited >= {"Obuchowski 1998", "Cochran 1950", "Lin 1991", "Simpson 1949", "Freedman 1983"}
    assert cited | {"Fleiss 1971", "Gwet 2014", "Cohen 1960"} <= set(SOURCES)


def test_the_same_seed_gives_the_same_numbers_and_few_groups_no_intervals(beside, beside_answer):
    panel, rated, labels, groups = beside
    again = evaluate(rated, labels, groups, resamples=50, panel=panel, seed=3)
    for name, table in beside_answer.tables.items():
        pd.testing.assert_frame_equal(table, again.tables[name])
    few = evaluate(rated, labels, pd.Series("one actor", index=labels.index), resamples=50)
    assert few.tables["people"]["low"].isna().all()
    assert few.tables["people"]["method"].str.startswith("no interval").all()
    assert set(few.tables["people"]["tie_rule"]) == set(TIE_RULES)
    assert all("above" not in f.verdict and "exceed" not in f.verdict for f in few.findings)
