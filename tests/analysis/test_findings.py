"""Words follow the numbers: which side of a reference is said, what is cautioned, and JSON without NaN."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from synthetic_study import metrics_of, null_predictions, planted_predictions, sentinel_predictions

from mixed_signals.analysis.disagreement import disagreement_rates
from mixed_signals.analysis.findings import (
    FLOOR,
    Finding,
    cautions,
    link_findings,
    rate_findings,
    side,
    type_findings,
    with_interval,
    write_findings,
)
from mixed_signals.analysis.panel import make_panels
from mixed_signals.analysis.typology import FAMILIES, typology_table


def row(estimate, low=np.nan, high=np.nan):
    return {"estimate": estimate, "low": low, "high": high}


def test_a_side_is_taken_only_by_a_whole_interval():
    assert side(row(0.2, 0.1, 0.3), 0) == "above"
    assert side(row(-0.2, -0.3, -0.1), 0) == "below"
    assert side(row(0.2, -0.1, 0.5), 0) == "not distinguishable from"
    assert side(row(0.2, 0.0, 0.5), 0) == "not distinguishable from"
    assert side(row(0.2), 0) == ""


def test_numbers_as_text():
    assert with_interval(row(0.1234, 0.1, 0.15), "%") == "12.3% (10.0 to 15.0)"
    assert with_interval(row(0.1234), "points") == "12.3 points"
    assert with_interval(row(0.5, 0.41, 0.6), "bits") == "0.50 bits (0.41 to 0.60)"
    assert with_interval(row(0.5, 0.41, 0.6)) == "0.50 (0.41 to 0.60)"
    assert with_interval(row(-0.0001, -0.2, 0.2)) == "0.00 (-0.20 to 0.20)"


def floor_verdicts(table, n):
    (panel,), _ = make_panels(table)
    findings = rate_findings(disagreement_rates(panel, np.arange(n) % 20))
    return {f.quantity.split()[1]: f.verdict for f in findings if f.question == FLOOR}


def test_planted_disagreement_is_above_the_floor_and_noise_is_not():
    planted, _, _ = planted_predictions(np.random.default_rng(0), 300, spread=1.0, noise=1.0)
    assert "is above the seed floor" in floor_verdicts(planted, 300)["audio"]
    null = floor_verdicts(null_predictions(np.random.default_rng(1)), 300)
    assert all("is not distinguishable from the seed floor" in said for said in null.values())
    one_seed = floor_verdicts(planted[planted["seed"] == 0], 300)
    assert all("not measured: the seed floor needs at least two seeds" in said for said in one_seed.values())
    few, _, _ = planted_predictions(np.random.default_rng(0), 6)
    assert all("above" not in said and "has no interval" in said for said in floor_verdicts(few, 6).values())


def test_every_type_has_its_sentence():
    table, _, _ = planted_predictions(np.random.default_rng(3), 600, spread=4.0, noise=2.0)
    (panel,), _ = make_panels(table)
    types = typology_table(panel)
    assert set(types["family"]) == set(FAMILIES)
    findings = type_findings(types)
    said = {f.quantity.removeprefix("gated: ").removesuffix(", share"): f.verdict for f in findings}
    assert list(said) == types["type"].tolist()
    assert "the fusion is wrong with text+audio against the rest" in said["misled by text+audio"]
    assert "the fusion is right although no modality is" in said["fusion rescues"]
    assert "% of single seeds" in said["agree right"]
    assert len(set(said.values())) == len(said)


def link_row(quantity, estimate, low, high):
    return {
        "head": "gated", "quantity": quantity, **row(estimate, low, high), "n": 30, "n_groups": 9, "method": "m",
    }  # fmt: skip


def test_the_reference_of_an_auroc_is_one_half():
    link = pd.DataFrame(
        [
            link_row("spearman", 0.3, 0.1, 0.5),
            link_row("auroc", 0.6, 0.4, 0.8),
            link_row("entropy_difference", np.nan, np.nan, np.nan),
        ]
    )
    spearman, auroc, difference = (f.verdict for f in link_findings(link))
    assert spearman.endswith("is 0.30 (0.10 to 0.50), above 0.")
    assert auroc.endswith("is 0.60 (0.40 to 0.80), not distinguishable from 0.5.")
    assert "undefined" in difference


def test_cautions_name_what_is_weak():
    table, truth, _ = planted_predictions(np.random.default_rng(4), 60, n_seeds=1)
    both = pd.concat([table, sentinel_predictions(truth)])
    panels, _ = make_panels(both[~((both["modalities"] == "audio") & (both["utterance_id"] == "u0001"))])
    said = " ".join(cautions(panels, 5, metrics_of(both), groups_kept_apart=True))
    assert "Only 5 groups" in said
    assert "one seed" in said
    assert "1 utterance " in said
    assert "sentinel" not in said
    assert "no groups" in " ".join(cautions(panels, None, metrics_of(both), groups_kept_apart=True))

    metrics = metrics_of(both)
    metrics.loc[metrics["head"] == "majority", "estimate"] = metrics.set_index("model").loc[
        "gated:audio", "estimate"
    ]
    (beaten,) = (s for s in cautions(panels, 20, metrics, groups_kept_apart=True) if "sentinel" in s)
    assert "audio did no better than the sentinel majority" in beaten
    assert (
        cautions(
            make_panels(planted_predictions(np.random.default_rng(4), 60)[0])[0],
            20,
            metrics_of(table),
            groups_kept_apart=True,
        )
        == []
    )


def test_folds_that_share_groups_are_told():
    table, _, _ = planted_predictions(np.random.default_rng(4), 60)
    panels, _ = make_panels(table)
    told = " ".join(cautions(panels, 20, metrics_of(table), groups_kept_apart=False))
    assert "share groups between training and test" in told
    assert cautions(panels, 20, metrics_of(table), groups_kept_apart=True) == []


def test_a_head_that_needs_no_seed_is_not_blamed_for_having_one():
    table, _, _ = planted_predictions(np.random.default_rng(4), 60)
    once = table[table["seed"] == table["seed"].min()].copy()
    once["head"] = "logistic"
    once["model"] = "logistic:" + once["modalities"]
    panels, _ = make_panels(pd.concat([table, once]))
    assert [panel.deterministic for panel in panels] == [False, True]
    assert cautions(panels, 20, metrics_of(table), groups_kept_apart=True) == []
    (said,) = (f.verdict for f in rate_findings(disagreement_rates(panels[1])) if f.question == FLOOR)
    assert "does not depend on a seed" in said


def test_the_file_has_the_shared_fields_and_no_nan(tmp_path):
    finding = Finding("q", "x", 0.5, np.nan, np.nan, np.nan, 3, 2, "no interval: 2 groups", False, "said")
    write_findings(tmp_path / "findings.json", [finding])
    text = (tmp_path / "findings.json").read_text()
    assert "NaN" not in text
    (read,) = json.loads(text)
    fields = [
        "question",
        "quantity",
        "estimate",
        "low",
        "high",
        "p",
        "n",
        "n_groups",
        "method",
        "primary",
        "verdict",
    ]
    assert list(read) == fields
    assert (read["estimate"], read["low"], read["p"], read["primary"]) == (0.5, None, None, False)
    with pytest.raises(AttributeError):
        finding.estimate = 1.0
