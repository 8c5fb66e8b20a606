"""Tests that respect groups, comparisons over resamplings, and corrections for many tests: one set of rules for all.

Conventions
-----------
Rows of one group (speaker, dialog) are not independent: groups, not rows, are flipped, permuted or counted. Groups are
given as an array of names; rows without one ("" or None) are each a group of their own, and without groups (None) all
rows are. All tests are two-sided.

A permutation test compares its statistic with those of ``resamples`` random rearrangements and gives
``p = (1 + count) / (1 + resamples)``, where `count` of them are at least as extreme: never 0, and valid for any number
of them (Phipson and Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9). Where there are
at most `MOST_ENUMERATED` rearrangements, all are made (as `method` says), and p is their exact share, which with few
groups cannot be small: with G groups flipped, 2 / 2^G at least.

Seeds and partitions are to be averaged before anything is tested here: a seed is no observation.
"""

from mixed_signals.analysis.inference.by_group import (
    MOST_ENUMERATED,
    cochran,
    freedman_lane,
    mcnemar,
    sign_flip,
)
from mixed_signals.analysis.inference.corrections import (
    ResampledT,
    adjust,
    benjamini_hochberg,
    corrected_resampled_t,
    holm,
)
from mixed_signals.analysis.inference.result import Test, with_test
from mixed_signals.analysis.inference.within_group import (
    LONG_SERIES,
    circular_shift,
    group_permutation,
    within_groups,
)

__all__ = [
    "LONG_SERIES",
    "MOST_ENUMERATED",
    "ResampledT",
    "Test",
    "adjust",
    "benjamini_hochberg",
    "circular_shift",
    "cochran",
    "corrected_resampled_t",
    "freedman_lane",
    "group_permutation",
    "holm",
    "mcnemar",
    "sign_flip",
    "with_test",
    "within_groups",
]
