"""Colours and marks, of Okabe and Ito (2008): people with the common colour blindnesses tell them apart."""

from __future__ import annotations

from mixed_signals.analysis.typology import FAMILIES

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#999999")
"""Text, audio, video, and what else there is; yellow and black are left out."""

FAMILY_COLOURS = dict(
    zip(FAMILIES, ("#8c8c8c", "#56B4E9", "#009E73", "#444444", "#CC79A7", "#D55E00", "#E69F00"), strict=True)
)
FUSION_WRONG = {"agree wrong", "all wrong", "misled by", "harmed"}
"""Families that are drawn as crosses."""
