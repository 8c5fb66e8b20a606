"""People, by what they were shown: how often they give the label, and what more channels, and models, do to that.

Conventions
-----------
What is right and by which rule of ties is said in `analysis.people.votes`, who gains and who loses from more
channels in `analysis.people.gains`, how people's disagreement is set beside the models' in
`analysis.people.beside`, and the agreement of raters known by name in `analysis.people.kappa`.

Channels are compared on the same utterances, never on the same people. Intervals are over groups of utterances (actors,
speakers), with the raters as they are. No run, no media and no features are needed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mixed_signals.analysis.findings import Answer
from mixed_signals.analysis.panel import Panel
from mixed_signals.analysis.people import sentences as say
from mixed_signals.analysis.people.beside import link_table, models_table
from mixed_signals.analysis.people.gains import channels_table
from mixed_signals.analysis.people.kappa import channel_kappa, raters_are_known
from mixed_signals.analysis.people.votes import (
    PER_RESPONSE,
    TIE_RULES,
    TIES_WRONG,
    People,
    votes_by_channel,
    winners,
)
from mixed_signals.models.intervals import SHARE, group_codes

UNEQUAL = 1.25  # times as many votes, from which on halves of channels are not alike


def evaluate(
    ratings: pd.DataFrame | None,
    labels: pd.Series,
    groups: pd.Series | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    panel: Panel | None = None,
    values: Mapping[str, str] | None = None,
) -> Answer:
    """Answer how well people do by what they are shown, and set their disagreement beside the models'.

    Parameters
    ----------
    ratings : DataFrame or None
        ``utterance_id, rater, shown, value, count``; no run and no media are needed.
    labels : Series of str by utterance id
        What is true of them, e.g. the intended emotion; its name is said where something is wrong.
    groups : Series by utterance id, optional
        Speaker, actor or dialog.
    resamples, seed : int
        Of resamples of groups and of permutations.
    panel : Panel, optional
        Models to set beside people, where raters were shown the same modalities.
    values : mapping of str to str, optional
        What values of the ratings mean as labels (see `votes_by_channel`).

    Returns
    -------
    Answer
        Tables ``people`` (accuracy by channel and tie rule), ``people_votes`` (one row by utterance and channel),
        ``channels`` (pairs of channels), ``people_link`` (channels that lie apart, and ambiguity of both together),
        ``people_kappa`` and, with a panel, ``people_models``. Notes say what cannot be answered and what is missing.

    Raises
    ------
    UsageError
        If `ratings` is no table of ratings, or `values` maps to something that is no label.
    """
    if ratings is None or ratings.empty:
        return Answer(notes=["The corpus has no ratings: nothing is said of people."])
    if labels.dtype.kind == "f":
        return Answer(
            notes=[
                f"Target {labels.name!r} is a number: people's accuracy by what they were shown asks for categories "
                "and is not computed."
            ]
        )
    votes, notes = votes_by_channel(ratings, labels, values)
    if not votes.channels:
        return Answer(notes=notes)
    by = None if groups is None else groups.reindex(votes.ids).fillna("").to_numpy(dtype=object)
    people = People(votes, group_codes(by, len(votes.ids)), resamples, seed)
    tables = {
        "people": accuracy_table(people),
        "people_votes": votes_table(people),
        "channels": channels_table(people),
        "people_link": link_table(people),
        "people_kappa": kappa_table(people, ratings),
    }
    if panel is not None:
        tables["people_models"] = models_table(people, panel)
    tables = {name: table for name, table in tables.items() if not table.empty}
    return Answer(
        tables=tables,
        findings=say.findings(tables),
        notes=[*notes, *_notes(people, labels.name, tables, panel)],
        methods=say.methods(tables, people.splits),
    )


def accuracy_table(people: People) -> pd.DataFrame:
    """Return how often people give the label, by channel and tie rule.

    Channels are compared on the utterances that were rated in all of them; where there are none, each is taken on its
    own.

    Returns
    -------
    DataFrame
        ``channel, tie_rule, estimate, low, high, n, n_groups, method, votes`` (how many there are).
    """
    votes = people.votes
    shared = votes.rated(*votes.channels)
    rows = []
    for channel, counts in votes.counts.items():
        rated = shared if shared.any() else votes.rated(channel)
        n = counts.sum(axis=1)
        for rule in TIE_RULES:
            weight = n if rule == PER_RESPONSE else np.ones(len(n))
            found = people.ratio(people.right[channel][rule] * weight, weight, rated, SHARE)
            key = {"channel": channel, "tie_rule": rule}
            rows.append({**key, **vars(found), "votes": int(n[rated].sum())})
    return pd.DataFrame(rows)


def votes_table(people: People) -> pd.DataFrame:
    """Return one row for each utterance and channel in which it was rated.

    Returns
    -------
    DataFrame
        ``utterance_id, channel, label, n_votes, winner`` (several joined by ":"), ``ties_wrong, ties_shared,
        per_response`` (0 to 1).
    """
    votes = people.votes
    label = np.array(votes.values, dtype=object)[votes.label]
    parts = []
    for channel, counts in votes.counts.items():
        rated = votes.rated(channel)
        rules = {rule.replace(" ", "_"): people.right[channel][rule][rated] for rule in TIE_RULES}
        about = {"utterance_id": votes.ids[rated], "channel": channel, "label": label[rated]}
        table = {"n_votes": counts[rated].sum(axis=1), "winner": winners(counts[rated], votes.values)}
        parts.append(pd.DataFrame({**about, **table, **rules}))
    return pd.concat(parts, ignore_index=True)


def kappa_table(people: People, ratings: pd.DataFrame) -> pd.DataFrame:
    """Return the raters' agreement beyond chance in each channel whose raters are known by name.

    Returns
    -------
    DataFrame
        ``channel, quantity`` (Fleiss' or Cohen's kappa), ``estimate, low, high, n, n_groups, method, raters``.
    """
    by = pd.Series(people.groups, index=people.votes.ids)
    rows = []
    for channel in people.votes.channels:
        mine = ratings[(ratings["shown"] == channel) & ratings["utterance_id"].isin(people.votes.ids)]
        if not raters_are_known(mine):
            continue
        found = channel_kappa(mine, by, **people.resampling)
        if found is not None:
            name, kappa, raters = found
            rows.append({"channel": channel, "quantity": name, **vars(kappa), "raters": raters})
    return pd.DataFrame(rows)


def _notes(
    people: People, label: object, tables: Mapping[str, pd.DataFrame], panel: Panel | None
) -> list[str]:
    """Return what cannot be answered, and what weakens the answer."""
    votes = people.votes
    said = []
    if len(votes.channels) < 2:
        said.append(
            f"People were shown {votes.channels[0]} only: channels cannot be compared (give ratings of other channels, "
            "with their `shown`)."
        )
    elif not votes.rated(*votes.channels).any():
        said.append(
            f"No utterance was rated in all of {', '.join(votes.channels)}: each channel's accuracy is of utterances "
            "of its own, and they are not comparable."
        )
    if len(votes.channels) > 1 and "channels" not in tables:
        said.append(
            "No utterance has two ratings or more in two channels: who gains and who loses is not known."
        )
    size = {
        channel: counts.sum(axis=1)[votes.rated(channel)].mean() for channel, counts in votes.counts.items()
    }
    if max(size.values()) > UNEQUAL * min(size.values()):
        each = ", ".join(f"{channel} {n:.1f}" for channel, n in size.items())
        said.append(
            f"Channels have different numbers of votes by utterance ({each}): those with more are right more often, "
            "and flip less, for that alone; accuracy per response is not affected."
        )
    for channel in votes.channels:
        clear = votes.rated(channel) & (people.right[channel]["ties shared"] % 1 == 0)
        if clear.sum() >= 20 and people.right[channel][TIES_WRONG][clear].all():
            said.append(
                f"Wherever the votes of {channel} have a winner, it is the label {label!r}: the label seems to be made "
                f"of these votes, and accuracy says nothing of {channel} then."
            )
    kappas = set(tables["people_kappa"]["channel"]) if "people_kappa" in tables else set()
    unnamed = [channel for channel in votes.channels if channel not in kappas]
    if unnamed:
        said.append(
            f"No kappa of {', '.join(unnamed)}: it needs raters known by name (`rater`, one row for each judgement), "
            "two or more for some utterance."
        )
    if panel is not None and "people_models" not in tables:
        why = "its target is a number"
        if panel.kind != "interval":
            why = "no two channels have models of just their modalities, and two ratings of utterances it predicts"
        said.append(f"{panel.head}: people's disagreement is not set beside that of its models: {why}.")
    return said
