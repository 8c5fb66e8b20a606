"""Readers of corpus layouts: one file per layout, one line per format here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A layout that ``mixed-signals corpus import`` reads.

    Parameters
    ----------
    module : str
        The module of this package that reads it, with a function `read_corpus`.
    about : str
        What SOURCE is, in one line.
    is_table : bool
        Whether it is a table with any column names, in one or several files.
    """

    module: str
    about: str
    is_table: bool = False


FORMATS = {
    "csv": Format("tables", "tables with a row per utterance, separated by commas", is_table=True),
    "jsonl": Format("tables", "files with a JSON object per line and utterance", is_table=True),
    "parquet": Format("tables", "Parquet tables with a row per utterance", is_table=True),
    "empspeech": Format("empspeech", "folder with EmpSpeech's train.csv, val.csv and test.csv"),
    "ravdess": Format("ravdess", "folder of unpacked RAVDESS archives"),
    "cremad": Format("cremad", "folder with CREMA-D's tables of clips, actors and votes"),
    "meld": Format("meld", "folder with MELD's train_sent_emo.csv, dev_sent_emo.csv and test_sent_emo.csv"),
    "huggingface": Format(
        "huggingface", "folder that Dataset.save_to_disk wrote, or one with metadata.csv, .jsonl or .parquet"
    ),
}
