"""Whether a corpus has what the encoders of a modality read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mixed_signals.store import Store, UsageError
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
        first: Path | str | None = places[0]
        raise UsageError(
            f"--{modality} {name}: of {those} none has its media file there, e.g. {first}: if they have moved, say "
            f"where they are (--media-root), or leave --{modality} out"
        )
