"""Corpora that nobody on this project made, read as anyone would read them."""

from __future__ import annotations

from outside_data import ROOT

from mixed_signals.store import Corpus
from mixed_signals.store.corpora.tables import read_corpus

SPLIT_FILES = ROOT / "empspeech"


def split_files(every: int = 1) -> Corpus:
    """Return the reference study's published split files, or one in so many of their rows; dialogs are groups."""
    columns = {"utterance_id": "filename", "group": "dialog_id", "text": "transcript"}
    columns |= {"start": "start_time", "end": "end_time"}
    sources = [SPLIT_FILES / f"{split}.csv" for split in ("train", "val", "test")]
    corpus = read_corpus(sources, columns, name="EmpSpeech split files")
    return Corpus(corpus.name, corpus.utterances.iloc[::every])
