"""The demo's check on itself: what the analysis found, beside what was planted in the corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mixed_signals.analysis.outputs import read_table
from mixed_signals.models.areas import auroc
from mixed_signals.store.corpus import MODALITIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console


def read_planted(path: Path) -> pd.DataFrame:
    """Read ``planted.csv``: `utterance_id`, `conflict` (the contradicting modality, or empty) and more."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def odd_one_out(utterances: pd.DataFrame, modalities: Sequence[str]) -> np.ndarray:
    """Return the modality whose model alone gives another label than all the others, or "" where there is none.

    Parameters
    ----------
    utterances : DataFrame
        One head's rows of `Analysis.utterances`.
    modalities : sequence of str, at least three

    Returns
    -------
    ndarray of str, shape (N,)
    """
    labels = {m: utterances[f"label_{m}"].to_numpy(dtype=object) for m in modalities}
    odd = np.full(len(utterances), "", dtype=object)
    for modality in modalities:
        others = [labels[m] for m in modalities if m != modality]
        agree = np.all([other == others[0] for other in others], axis=0)
        odd[agree & (labels[modality] != others[0])] = modality
    return odd


def compare(utterances: pd.DataFrame, planted: pd.DataFrame, modalities: Sequence[str]) -> pd.DataFrame:
    """Return one row per kind of utterance: each modality's planted conflicts, and those without.

    Parameters
    ----------
    utterances : DataFrame
        One head's rows of `Analysis.utterances`.
    planted : DataFrame
        From `read_planted`.
    modalities : sequence of str

    Returns
    -------
    DataFrame
        ``conflict, n``; ``differ``, the share whose unimodal labels differ; ``odd_<m>``, the share in which
        modality m is the odd one out; ``wrong``, the share in which the fusion is wrong; ``vote_entropy``, the
        mean in bits, NaN without ratings.
    """
    table = utterances.merge(planted[["utterance_id", "conflict"]], on="utterance_id", validate="one_to_one")
    odd = odd_one_out(table, modalities)
    rows = []
    for conflict in (*modalities, ""):
        here = (table["conflict"] == conflict).to_numpy()
        if not here.any():
            continue
        part = table[here]
        entropy = part["vote_entropy"].mean() if "vote_entropy" in part else np.nan
        rows.append(
            {
                "conflict": conflict,
                "n": len(part),
                "differ": float((part["n_labels"] > 1).mean()),
                **{f"odd_{m}": float((odd[here] == m).mean()) for m in modalities},
                "wrong": float((part["label_fusion"] != part["label_true"]).mean()),
                "vote_entropy": float(entropy),
            }
        )
    return pd.DataFrame(rows)


def detection(utterances: pd.DataFrame, planted: pd.DataFrame) -> float:
    """Return the AUROC of the modalities' divergence (`jsd`) for utterances with a planted conflict."""
    table = utterances.merge(planted[["utterance_id", "conflict"]], on="utterance_id", validate="one_to_one")
    return auroc(table["jsd"], table["conflict"] != "")


def print_comparison(console: Console, folder: Path, planted_path: Path, *, head: str) -> None:
    """Print the comparison for one head of an analysis in `folder` as a table and two sentences."""
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    planted = read_planted(planted_path)
    utterances = read_table(folder, "utterances")
    utterances = utterances[utterances["head"] == head]
    modalities = [m for m in MODALITIES if f"label_{m}" in utterances]
    found = compare(utterances, planted, modalities)
    table = Table(box=SIMPLE)
    table.add_column("planted in")
    for column in ("n", "labels differ", *(f"{m} odd" for m in modalities), "fusion wrong", "vote bits"):
        table.add_column(column, justify="right")
    for row in found.to_dict("records"):
        shares = [row["differ"], *(row[f"odd_{m}"] for m in modalities), row["wrong"]]
        cells: list[str | Text] = [f"{share:.0%}" for share in shares]
        if row["conflict"]:
            place = 1 + modalities.index(row["conflict"])
            cells[place] = Text(f"{shares[place]:.0%}", "bold")
        table.add_row(row["conflict"] or "(none)", str(row["n"]), *cells, f"{row['vote_entropy']:.2f}")
    console.print(table)
    conflicts = found[found["conflict"] != ""].to_dict("records")
    rest = found[found["conflict"] == ""]
    if not conflicts or rest.empty:
        console.print("nothing to compare: conflicts are planted in all utterances, or in none")
        return
    named = [row[f"odd_{row['conflict']}"] for row in conflicts]
    share = float(np.average(named, weights=[row["n"] for row in conflicts]))
    chance = float(np.mean([rest[f"odd_{m}"].iloc[0] for m in modalities]))
    console.print(
        "labels differ: the modalities' models do not all give one label; odd: that modality's model alone gives "
        "another label than the others; vote bits: mean entropy of the raters' votes.\n"
        f"The divergence of the modalities' models tells planted conflicts from the rest with AUROC "
        f"{detection(utterances, planted):.2f} (0.5 is chance).\n"
        f"The modality that was planted as the contradicting one is the odd one out in {share:.0%} of its "
        f"utterances; where nothing was planted, any given modality is in {chance:.0%}.",
    )
