"""RAVDESS: the Ryerson Audio-Visual Database of Emotional Speech and Song.

Livingstone & Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS)", PLoS ONE 13(5),
2018, doi:10.1371/journal.pone.0196391.

A folder of the unpacked archives, nested as they come (``Actor_01/``, ``Video_Speech_Actor_01/``,
``Audio_Speech_Actors_01-24/Actor_01/`` ...), or one with a table ``utterances.csv`` of the same recordings
(`utterance_id`, `audio` and, if given, the columns below, which must then agree with the id).

A recording's name is seven numbers: modality (01 sound and picture, 02 picture, 03 sound), vocal channel (01 speech,
02 song), emotion, intensity (01 normal, 02 strong), statement, repetition, actor. The files of one performance differ
in the modality alone, so **an utterance is a performance**:

`utterance_id`
    The name without its modality, e.g. ``01-06-01-02-01-12``.
`media`
    The file with sound and picture; where there is none, that with sound; else that with picture.
`label`
    neutral, calm, happy, sad, angry, fearful, disgust, surprised (in this order, those that occur): what was acted.
`text`
    The sentence that was said or sung; `transcript_source` is manual.
`speaker`, `group`
    actor01 to actor24; `sex` is female for even numbers, male for odd ones.
`channel`, `intensity`, `statement`, `repetition`
    speech or song; normal or strong; 1 or 2; 1 or 2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mixed_signals.store.corpora.published import (
    MEDIA,
    Faults,
    below,
    media_folder,
    names,
    occurring,
    visible_files,
)
from mixed_signals.store.corpora.reading import Rows, need_columns, read_rows
from mixed_signals.store.corpus import Corpus
from mixed_signals.store.errors import UsageError
from mixed_signals.store.targets import Target

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
SENTENCES = ("Kids are talking by the door", "Dogs are sitting by the door")
_CODE = r"(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])"
_RECORDING = re.compile(rf"(0[1-3])-({_CODE})")
_PREFERRED = ("01", "03", "02")
_NAMED_LIKE = (
    "names are seven numbers, e.g. 03-01-06-01-02-01-12: modality 01 to 03, channel 01 or 02, emotion 01 to 08, "
    "intensity, statement and repetition 01 or 02, actor 01 to 24"
)


def read_corpus(
    source: Path,
    *,
    name: str | None = None,
    media_root: Path | str | None = None,
    targets: Sequence[Target] = (),
) -> Corpus:
    """Read the recordings of a folder.

    Parameters
    ----------
    source : Path
        The folder of the unpacked archives, or one with ``utterances.csv``.
    name : str, optional
        Name of the corpus; "RAVDESS" by default.
    media_root : Path or str, optional
        What media paths are relative to, a folder that holds `source`; `source` by default.
    targets : sequence of Target
        What heads may learn, besides what the layout itself tells.

    Raises
    ------
    UsageError
        If there is no recording.
    InvalidCorpus
        If a file has a wrong name or stands there twice, or a table contradicts its ids; all are listed.
    """
    if not source.is_dir():
        raise UsageError(f"{source}: not a folder; SOURCE is the folder of the unpacked archives")
    root = media_folder(source, media_root)
    faults = Faults()
    table = source / "utterances.csv"
    rows = _listed(table, faults) if table.is_file() else _recordings(source, faults)
    media = below(source, root)
    rows.table["media"] = [str(media / entry) if entry else "" for entry in rows.table["media"]]
    return faults.corpus(
        name or "RAVDESS",
        rows,
        media_root=root,
        targets=[Target("label", "nominal", occurring(EMOTIONS, rows.table["label"])), *targets],
        columns={"media": "audio"} if table.is_file() else {},
    )


def _recordings(source: Path, faults: Faults) -> Rows:
    """Return an utterance per performance of which there are files."""
    found: dict[str, dict[str, Path]] = {}
    for path in visible_files(source):
        if path.suffix.lower() not in MEDIA:
            continue
        recording = _RECORDING.fullmatch(path.stem)
        if recording is None:
            faults.lines.append(f"{path}: not the name of a recording; rename or move it ({_NAMED_LIKE})")
            continue
        files = found.setdefault(recording[2], {})
        other = files.setdefault(recording[1], path)
        if other != path:
            faults.lines.append(
                f"{path}: the same recording as {other}; keep one of them, or import its folder"
            )
    if not found and not faults.lines:
        raise UsageError(f"{source}: no recording in it; unpack the archives there ({_NAMED_LIKE})")
    ids = pd.Series(sorted(found), dtype=object)
    table = _decoded(ids)
    media = [next(found[code][kind] for kind in _PREFERRED if kind in found[code]) for code in ids]
    table["media"] = [path.relative_to(source).as_posix() for path in media]
    return Rows(table, [str(path) for path in media])


def _listed(source: Path, faults: Faults) -> Rows:
    """Return the rows of a table of recordings; what it says of them must be what their ids say."""
    rows = read_rows(source)
    need_columns(source, rows.table, ("utterance_id", "audio"))
    ids = names(rows, "utterance_id")
    table = _decoded(ids)
    wrong = ~ids.str.fullmatch(_CODE)
    mend = f"without the modality, e.g. 01-06-01-02-01-12 ({_NAMED_LIKE})"
    faults.add(rows, wrong, "utterance_id", lambda row: f"{ids[row]!r} is not the name of a recording {mend}")
    for column in table.columns.intersection(rows.table.columns).drop("utterance_id"):
        theirs, ours = names(rows, column), table[column].astype(str)
        told = lambda row, theirs=theirs, ours=ours: f"is {theirs[row]!r}, but the id says {ours[row]!r}"
        faults.add(rows, ~wrong & (theirs != ours), column, told)
    others = rows.table.drop(columns=["audio", *table.columns], errors="ignore")
    media = names(rows, "audio").rename("media")
    return Rows(pd.concat([table, media, others], axis=1), rows.places)


def _decoded(ids: pd.Series) -> pd.DataFrame:
    """Return what the ids say of their utterances; nothing of those that are wrong."""
    fields = ids.str.extract(f"^{_CODE}$")
    fields.columns = ["channel", "emotion", "intensity", "statement", "repetition", "actor"]
    number = fields.apply(pd.to_numeric).astype("Int64")

    def named(field: str, *choices: str) -> pd.Series:
        return number[field].map(dict(enumerate(choices, start=1))).fillna("").astype(object)

    speaker = ("actor" + fields["actor"]).fillna("")
    return pd.DataFrame(
        {
            "utterance_id": ids,
            "text": named("statement", *SENTENCES),
            "label": named("emotion", *EMOTIONS),
            "group": speaker,
            "speaker": speaker,
            "sex": (number["actor"] % 2).map({0: "female", 1: "male"}).fillna("").astype(object),
            "channel": named("channel", "speech", "song"),
            "intensity": named("intensity", "normal", "strong"),
            "statement": number["statement"],
            "repetition": number["repetition"],
            "transcript_source": "manual",
        }
    )
