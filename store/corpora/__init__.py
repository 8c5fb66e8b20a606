"""Readers of corpus layouts: one file per layout, one line per format here."""

from __future__ import annotations

# Format name -> module of this package that reads it; a new layout is one new file and one line here.
FORMATS = {
    "csv": "tables",
    "jsonl": "tables",
    "parquet": "tables",
}
