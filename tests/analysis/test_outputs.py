"""What an analysis leaves on disk: tables in three formats, null for what is no number, methods with references."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from mixed_signals.analysis.findings import Finding
from mixed_signals.analysis.outputs import (
    MOST_ROWS,
    latex,
    methods_section,
    write_findings,
    write_tables,
)
from mixed_signals.analysis.sources import SOURCES
from mixed_signals.store import MixedSignalsError
from mixed_signals.store.files import read_parquet


def test_the_file_has_the_shared_fields_and_no_nan(tmp_path):
    finding = Finding("q", "x", 0.5, np.nan, np.nan, np.nan, 3, 2, "no interval: 2 groups", False, "said")
    write_findings(tmp_path / "findings.json", [finding])
    text = (tmp_path / "findings.json").read_text()
    assert "NaN" not in text
    (read,) = json.loads(text)
    shared = [
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
    assert list(read) == [*shared, "head", "p_adjusted", "overrides"]
    assert (read["estimate"], read["low"], read["p"], read["primary"]) == (0.5, None, None, False)


def test_tables_come_in_three_formats_and_say_the_same(tmp_path):
    table = pd.DataFrame({"head": ["gated", "a & b"], "estimate": [0.25, np.nan], "n": [3, 4]})
    write_tables(tmp_path, {"rates": table})
    pd.testing.assert_frame_equal(
        read_parquet(tmp_path / "tables" / "rates.parquet"), table, check_dtype=False
    )
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "tables" / "rates.csv"), table, check_dtype=False)
    assert r"a \& b &  & 4 \\" in (tmp_path / "tables" / "rates.tex").read_text()


def test_an_estimate_and_its_interval_are_one_column_in_print():
    row = {"model": "m", "estimate": 0.25, "low": 0.1, "high": 0.4, "rank": 2.0, "n": 3, "method": "long"}
    alone = row | {"low": np.nan, "high": np.nan, "rank": np.nan}
    lines = latex(pd.DataFrame([row, alone])).splitlines()
    assert lines[2] == r"model & estimate (95\% CI) & rank & n \\"
    assert lines[4:6] == [r"m & 0.250 (0.100 to 0.400) & 2 & 3 \\", r"m & 0.250 &  & 3 \\"]


def test_tables_of_an_earlier_analysis_go(tmp_path):
    table = pd.DataFrame({"n": [1]})
    write_tables(tmp_path, {"votes": table})
    write_tables(tmp_path, {"rates": table})
    assert {path.stem for path in (tmp_path / "tables").iterdir()} == {"rates"}


def test_a_long_table_is_no_latex(tmp_path):
    write_tables(tmp_path, {"rates": pd.DataFrame({"n": range(MOST_ROWS + 1)})})
    assert {path.suffix for path in (tmp_path / "tables").iterdir()} == {".parquet", ".csv"}


def test_latex_shows_every_character_of_a_name():
    said = latex(pd.DataFrame({"name": [r"50% of $x_1$ ~ {a}^b \c #1"]}))
    assert r"50\% of \$x\_1\$ \textasciitilde{} \{a\}\textasciicircum{}b \textbackslash{}c \#1" in said


def test_each_sentence_is_said_once_and_what_is_cited_is_listed():
    first = ["Divergence [Lin 1991].", "Divergence [Lin 1991].", "Nothing cited."]
    said = methods_section([first, first, ["Another paragraph.", "Nothing cited."]])
    assert "Nothing cited.\n\nAnother paragraph.\n" in said
    assert said.count("Divergence [") == 1
    assert SOURCES["Lin 1991"] in said
    assert SOURCES["Simpson 1949"] not in said


def test_a_source_that_nobody_knows_is_an_error():
    with pytest.raises(MixedSignalsError, match="no source 'Nobody 1900'"):
        methods_section([["As shown [Nobody 1900]."]])


def test_all_sources_have_a_year_and_are_in_order():
    assert list(SOURCES) == sorted(SOURCES)
    for key, reference in SOURCES.items():
        assert key.rsplit(" ", 1)[1] in reference, key
