"""Outside data for tests and benchmarks: real recordings that are not part of this project."""

import os
from pathlib import Path

ROOT = Path(os.environ.get("MIXED_SIGNALS_DATA", Path(__file__).parents[2] / "shared" / "data"))


def outside_data(name):
    """Return the folder of one data set, or skip the test that asks for it."""
    import pytest

    folder = ROOT / name
    if not folder.is_dir():
        pytest.skip(f"outside data {name!r} is not at {ROOT} (set MIXED_SIGNALS_DATA)")
    return folder
