"""What the encoders of a modality read of a corpus: whether it is there, and what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from mixed_signals.extract.media_hashes import ABSENT, NONE, media_hashes
from mixed_signals.store import Store, UsageError
from mixed_signals.store.provenance import row_hashes
from mixed_signals.store.terminal import counted


def require_source(store: Store, modality: str, name: str, ids: Sequence[str] | None = None) -> None:
    """Refuse an encoder for which a corpus has nothing to read.

    Parameters
    ----------
    store : Store
    modality : str
    name : str
        Of the encoder, as it was asked for.
    ids : sequence of str, optional
        The utterances that have to be read; then it is refused as well where none of their media files is there. Of
        media at a URL nobody is asked.

    Raises
    ------
    UsageError
        If no utterance has text, or media; if the media are not there.
    """
    what = "text" if modality == "text" else "media"
    table = store.corpus.utterances
    rows = table if ids is None else table[table["utterance_id"].isin(ids)]
    named = rows[rows[what].str.strip() != ""]
    those = counted(len(rows), "utterance" if ids is None else "labelled utterance")
    if named.empty:
        raise UsageError(
            f"--{modality} {name}: of {those} none has {what}: import the corpus with its {what}, or leave "
            f"--{modality} out"
        )
    if modality == "text" or ids is None:
        return
    places = [store.corpus.media_path(entry) for entry in named["media"].unique()]
    if not any(isinstance(place, str) or (place is not None and place.is_file()) for place in places):
        raise UsageError(
            f"--{modality} {name}: of {those} none has its media file there, e.g. {places[0]}: if they have moved, say "
            f"where they are (--media-root), or leave --{modality} out"
        )


class Sources:
    """What the vectors of a corpus are made of; media are looked at only where they are asked for, and once.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    @cached_property
    def hashes_of_media(self) -> dict[str, str]:
        """What each media entry holds (`media_hashes`)."""
        return media_hashes(self.store)

    def row_hashes(self, modality: str) -> np.ndarray:
        """Return what each utterance's vector is made of, shape (N,), bytes."""
        table = self.store.corpus.utterances
        if modality == "text":
            return self.store.corpus.text_hash_bytes
        return row_hashes("media", table["media"].map(self.hashes_of_media), table["start"], table["end"])

    def by_utterance(self, modality: str) -> dict[str, bytes]:
        """Return what each utterance's vector is made of, by its id."""
        return dict(zip(self.store.corpus.ids.tolist(), self.row_hashes(modality).tolist(), strict=True))

    def absent(self, modality: str) -> np.ndarray:
        """Return which utterances have no text, or no media that is there, shape (N,)."""
        table = self.store.corpus.utterances
        if modality == "text":
            return (table["text"].str.strip() == "").to_numpy()
        return table["media"].map(self.hashes_of_media).isin([ABSENT, NONE]).to_numpy()
