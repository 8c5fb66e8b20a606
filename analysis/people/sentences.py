"""What the tables of `analysis.people` say, as sentences, and the sentences of its methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from mixed_signals.analysis.findings import (
    Finding,
    Row,
    against,
    finding,
    percent,
    records,
    side,
    with_interval,
    with_p,
)
from mixed_signals.analysis.people.gains import ALL_VOTES, HALVES
from mixed_signals.analysis.people.kappa import FLEISS
from mixed_signals.analysis.people.votes import TIES_SHARED, TIES_WRONG

ACCURACY = "How often do people give the label, by what they are shown?"
GAINS = "Who gains and who loses when people are shown more?"
LINK = "Where people's readings of single channels lie apart, are those shown both undecided?"
BESIDE = "Do models disagree between modalities where people do?"
AGREE = "How far do raters known by name agree?"

COUNTS_AS = {TIES_WRONG: "of utterances, ties counted wrong", TIES_SHARED: "of utterances, ties shared"}

Tables = Mapping[str, pd.DataFrame]


def findings(tables: Tables) -> list[Finding]:
    """Return the findings of all tables of `analysis.people.evaluate`."""
    says = {
        "people": _accuracy,
        "channels": _gains,
        "people_link": _link,
        "people_kappa": _kappa,
        "people_models": _models,
    }
    return [each for name, say in says.items() if name in tables for each in say(tables[name])]


def methods(tables: Tables, splits: int) -> list[str]:
    """Return the sentences of a methods section on what was computed."""
    said = [
        "How often people gave the label was counted by what they were shown, with ties for the most votes counted as "
        "wrong, with ties shared among the tied values, and per response."
    ]
    if "channels" in tables:
        said.append(
            "Channels were compared on the same utterances, not on the same people: on all votes by McNemar's test "
            "clustered by group [Obuchowski 1998] and, of more than two channels, Cochran's Q [Cochran 1950] with "
            f"groups moved as one; and on random halves of each utterance's votes ({splits} splits), where gains and "
            "losses between channels stand beside those between two halves of one channel, and utterances that lost "
            "between one pair of halves were looked at again in the other halves."
        )
    if "people_link" in tables or "people_models" in tables:
        said.append(
            "How far votes of two channels lie apart is the Jensen-Shannon divergence [Lin 1991] of halves less that "
            "between halves of the same channel."
        )
    if "people_link" in tables:
        said.append(
            "It was correlated by ranks with the ambiguity [Simpson 1949] of the votes of those who were shown both, "
            "also beyond the ambiguity in each channel alone, tested by sign flips of groups [Freedman 1983]."
        )
    if "people_models" in tables:
        said.append("It was correlated by ranks with the divergence of the models of the same modalities.")
    if "people_kappa" in tables:
        fleiss = (tables["people_kappa"]["quantity"] == FLEISS).any()
        said.append(
            "Agreement of raters known by name is "
            + ("Fleiss' kappa [Fleiss 1971; Gwet 2014]." if fleiss else "Cohen's kappa [Cohen 1960].")
        )
    return said


def _by(table: pd.DataFrame, *keys: str) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    for key, part in table.groupby(list(keys), sort=False):
        yield tuple(map(str, key)), part


def _accuracy(table: pd.DataFrame) -> list[Finding]:
    found = []
    for row in records(table):
        what = COUNTS_AS.get(row["tie_rule"], f"of their {row['votes']:,} responses")
        verdict = f"People: shown {row['channel']}, they give the label in {with_interval(row, '%')} {what}."
        found.append(finding(ACCURACY, f"{row['channel']}, {row['tie_rule']}", row, verdict))
    return found


def _gains(table: pd.DataFrame) -> list[Finding]:
    found = []
    overall = table[table["label"] == ""]
    for (first, second), part in _by(overall[overall["second"] != ""], "first", "second"):
        rows = {(row["votes"], row["tie_rule"], row["quantity"]): row for row in records(part)}
        of_pair = table[(table["first"] == first) & (table["second"] == second)]
        pair = f"{first} to {second}"
        net = rows[ALL_VOTES, TIES_WRONG, "net"]
        gain, loss = (rows[ALL_VOTES, TIES_WRONG, quantity] for quantity in ("gain", "loss"))
        verdict = (
            f"People: from {pair}, {with_interval(gain, '%')} of utterances are gained and {with_interval(loss, '%')} "
            f"lost (all votes, ties wrong); the net gain is {with_interval(net, 'points')}"
            f"{against(net)}{with_p(net)}.{_by_label(of_pair)}"
        )
        found.append(finding(GAINS, f"{pair}, net", net, verdict))
        halves = {quantity: rows[HALVES, TIES_SHARED, quantity] for quantity in part["quantity"]}
        found.append(
            finding(GAINS, f"{pair}, loss excess", halves["loss_excess"], _losses(pair, second, halves))
        )
        found.append(
            finding(GAINS, f"{pair}, loss again", halves["loss_again"], _again(pair, first, second, halves))
        )
    for row in records(overall[overall["quantity"] == "cochran_q"]):
        verdict = (
            f"People: that the label is given equally often in all channels ({row['first']}) has a Cochran's Q of "
            f"{row['estimate']:.1f}{with_p(row)}."
        )
        found.append(finding(GAINS, "all channels, Cochran's Q", row, verdict))
    return found


def _by_label(of_pair: pd.DataFrame) -> str:
    """Return a sentence on which labels gain and which lose."""
    rows = records(of_pair[(of_pair["label"] != "") & (of_pair["quantity"] == "net")])
    said = []
    for where, word in (("above", "gains:"), ("below", "losses:")):
        named = [f"{r['label']} {100 * r['estimate']:+.1f}" for r in rows if side(r, 0.0) == where]
        if named:
            said.append(f"{word} {', '.join(named)}")
    return f" By label, in points of half-votes, {'; '.join(said)}." if said else ""


def _losses(pair: str, second: str, rows: Mapping[str, Row]) -> str:
    excess, flips = rows["loss_excess"], percent(rows["flips_second"]["estimate"])
    verdict = {
        "above": "losses exceed vote noise",
        "below": "losses are fewer than vote noise alone makes",
        "not distinguishable from": "losses are not distinguishable from vote noise",
        "": "there is no interval for the difference",
    }[side(excess, 0.0)]
    return (
        f"People: on half-votes, {with_interval(rows['loss'], '%')} of utterances are lost from {pair}, and {flips} "
        f"from one half of {second}'s own votes to the other: {verdict} (excess {with_interval(excess, 'points')}"
        f"{with_p(excess)})."
    )


def _again(pair: str, first: str, second: str, rows: Mapping[str, Row]) -> str:
    again = rows["loss_again"]
    if np.isnan(again["estimate"]):
        return f"People: from {pair} no utterance is lost on half-votes."
    verdict = {
        "above": f"some utterances are truly recognised better from {first} than from {second}",
        "below": f"on average these, too, are recognised better from {second}",
        "not distinguishable from": "whether any loss is more than vote noise is not settled",
        "": "there is no interval",
    }[side(again, 0.0)]
    return (
        f"People: of utterances lost from {pair} on one pair of halves, the other halves are right from {first} minus "
        f"right from {second} by {with_interval(again, 'points')}{with_p(again)}: {verdict}."
    )


def _link(table: pd.DataFrame) -> list[Finding]:
    found = []
    for (first, second, both), part in _by(table, "first", "second", "both"):
        rows = {row["quantity"]: row for row in records(part)}
        pair = f"{first} against {second}"
        found.append(finding(LINK, f"{pair}, excess", rows["excess"], _apart("People", first, second, rows)))
        says = {
            "spearman": (f"goes with the ambiguity of {both} votes by a rank correlation of", 0.0),
            "auroc": (f"tells which utterances are contested in {both} by an AUROC of", 0.5),
            "adds": (
                f"goes with the ambiguity of {both} votes, beyond the ambiguity of {first} and of {second} alone, by a "
                "partial rank correlation of",
                0.0,
            ),
        }
        for quantity, (what, reference) in says.items():
            row = rows[quantity]
            verdict = f"People: how far {first} and {second} votes lie apart {what} {with_interval(row)}"
            if np.isnan(row["estimate"]):
                verdict = (
                    f"People: {pair}: {quantity} is undefined (nothing varies among {row['n']} utterances)"
                )
            elif where := against(row, reference):
                verdict += where + with_p(row)
            found.append(finding(LINK, f"{pair}, {quantity} with {both}", row, f"{verdict}."))
    return found


def _apart(head: str, first: str, second: str, rows: Mapping[str, Row]) -> str:
    excess, floor = rows["excess"], rows["floor"]
    where = side(excess, 0.0)
    beyond = f", {where} vote noise" if where else ""
    return (
        f"{head}: people's {first} and {second} votes lie {with_interval(rows['divergence'], 'bits')} apart, halves of "
        f"one channel {float(floor['estimate']):.2f} bits; the excess is {with_interval(excess, 'bits')}{beyond}"
        f"{with_p(excess)}."
    )


def _kappa(table: pd.DataFrame) -> list[Finding]:
    return [
        finding(
            AGREE,
            f"{row['channel']}, {row['quantity']}",
            row,
            f"People: {row['quantity']} of {row['raters']:,} raters shown {row['channel']} is {with_interval(row)}.",
        )
        for row in records(table)
    ]


def _models(table: pd.DataFrame) -> list[Finding]:
    found = []
    for (head, first, second), part in _by(table, "head", "first", "second"):
        rows = {row["quantity"]: row for row in records(part)}
        pair = f"{first} against {second}"
        both = (
            f"{_apart(head, first, second, rows)[:-1]}; the models of {first} and {second} lie "
            f"{with_interval(rows['models'], 'bits')} apart on the same utterances"
        )
        if "models_excess" in rows:
            both += f", {with_interval(rows['models_excess'], 'bits')} beyond the seed floor"
        found.append(finding(BESIDE, f"{pair}, models' divergence", rows["models"], f"{both}."))
        row = rows["spearman"]
        verdict = (
            f"{head}: where people's {first} and {second} votes lie apart, so do the models, by a rank correlation of "
            f"{with_interval(row)}{against(row)}."
        )
        if np.isnan(row["estimate"]):
            verdict = f"{head}: {pair}: the rank correlation is undefined (nothing varies)."
        found.append(finding(BESIDE, f"{pair}, spearman of people and models", row, verdict))
    return found
