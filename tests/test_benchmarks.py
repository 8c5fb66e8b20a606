"""Each benchmark runs at its small size and writes rows that a reader can use."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from browser import NoBrowserError, browser_path
from outside_data import outside_data

SCRIPTS = sorted((Path(__file__).parent / "benchmarks").glob("*.py"))
KEYS = {"name", "ours", "peer", "ratio", "goal", "met"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_it_runs_small_and_meets_its_goals(script, tmp_path):
    if script.stem == "real_data":
        for name in ("ravdess", "grid", "clips", "empspeech"):
            outside_data(name)
    if script.stem == "report":
        try:
            browser_path()
        except NoBrowserError as error:
            pytest.skip(str(error))
    rows = tmp_path / "rows.json"
    ran = subprocess.run(
        [sys.executable, str(script), "--small", "--json", str(rows)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    found = json.loads(rows.read_text())
    assert found
    assert all(set(row) == KEYS and row["met"] for row in found)
