"""What weakens an analysis is said: few groups, one seed, sentinels that win, folds that share groups."""

from __future__ import annotations

import numpy as np
import pandas as pd
from synthetic_study import metrics_of, planted_predictions, sentinel_predictions

from mixed_signals.analysis.cautions import cautions
from mixed_signals.analysis.panel import make_panels


def test_cautions_name_what_is_weak():
    table, truth, _ = planted_predictions(np.random.default_rng(4), 60, n_seeds=1)
    both = pd.concat([table, sentinel_predictions(truth)])
    panels, _ = make_panels(both[~((both["modalities"] == "audio") & (both["utterance_id"] == "u0001"))])
    said = " ".join(cautions(panels, 5, metrics_of(both), groups_kept_apart=True))
    assert "Only 5 groups" in said
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
