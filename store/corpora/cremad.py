"""CREMA-D: the Crowd-sourced Emotional Multimodal Actors Dataset, 7,442 clips of 91 actors with the crowd's votes.

Cao, Cooper, Keutmann, Gur, Nenkova & Verma, "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset", IEEE
Transactions on Affective Computing 5(4), 2014, doi:10.1109/TAFFC.2014.2336244.

A folder with ``SentenceFilenames.csv`` (the clips), ``VideoDemographics.csv`` (the actors) and ``tabulatedVotes.csv``
(the votes; also found in ``processedResults/``, where it is published), or with ``finishedResponses.csv`` and
``finishedEmoResponses.csv`` (every answer) instead of the last. What becomes of them:

`utterance_id`
    The clip's file name, e.g. ``1001_IEO_NEU_XX``: actor, sentence, emotion, intensity.
`label`
    anger, disgust, fear, happy, neutral, sad (in this order): what the actor was asked to show.
`text`
    The sentence; its code is in `sentence`, and `transcript_source` is manual.
`intensity`
    LO, MD, HI, or XX where none was asked for.
`speaker`, `group`
    The actor's number; beside it the actor's `age`, `sex` (male, female), `race` and `ethnicity`.
`media`
    ``VideoFlash/<clip>.flv`` where the media root has it, else ``AudioWAV/<clip>.wav``, else empty.
ratings
    The votes, `shown` audio (voice alone), video (face alone) or audio+video, `value` one of the six emotions. From
    ``tabulatedVotes.csv`` they have a `count` and no rater; from ``finishedResponses.csv`` (see `cremad_responses`)
    each is one answer of a rater.
targets
    Beside `label`: `votes` (audio+video), `votes_audio` and `votes_video`, each the emotion with strictly most votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mixed_signals.store.corpora.cremad_responses import ANSWERS, read_responses
from mixed_signals.store.corpora.published import Faults, media_folder, names, need_files, occurring, there
from mixed_signals.store.corpora.reading import Rows, need_columns, read_rows
from mixed_signals.store.corpus import Corpus
from mixed_signals.store.targets import Target

EMOTIONS = {"A": "anger", "D": "disgust", "F": "fear", "H": "happy", "N": "neutral", "S": "sad"}
SHOWN = {1: "audio", 2: "video", 3: "audio+video"}
TARGETS = {"votes": "audio+video", "votes_audio": "audio", "votes_video": "video"}
SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
_NAME = rf"^(\d{{4}})_({'|'.join(SENTENCES)})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX)$"
_VOTES = ("tabulatedVotes.csv", "processedResults/tabulatedVotes.csv")


def read_corpus(
    source: Path,
    *,
    name: str | None = None,
    media_root: Path | str | None = None,
    targets: Sequence[Target] = (),
) -> Corpus:
    """Read the clips, the actors and the votes.

    Parameters
    ----------
    source : Path
        The folder of the tables.
    name : str, optional
        Name of the corpus; "CREMA-D" by default.
    media_root : Path or str, optional
        Where ``VideoFlash/`` and ``AudioWAV/`` lie; `source` by default.
    targets : sequence of Target
        What heads may learn, besides what the layout itself tells.

    Raises
    ------
    UsageError
        If a file or a column is not there.
    InvalidCorpus
        If rows break the rules or contradict each other; each is listed with file, line, column and mend.
    """
    root = media_folder(source, media_root)
    need_files(source, ("SentenceFilenames.csv", "VideoDemographics.csv"))
    faults = Faults()
    listed = _read(source / "SentenceFilenames.csv", "Stimulus_Number", "Filename")
    clips = _clips(listed, _actors(source / "VideoDemographics.csv", faults), root, faults)
    numbered = pd.Series(clips["utterance_id"].array, index=faults.numbers(listed, "Stimulus_Number"))
    numbered = numbered[~numbered.index.duplicated()]
    if (source / ANSWERS).is_file():
        ratings = read_responses(source, numbered, SHOWN, EMOTIONS, faults)
    else:
        tables = [source / table for table in _VOTES if (source / table).is_file()]
        ratings = _votes(tables[0] if tables else source / _VOTES[0], numbered, faults)
    emotions = tuple(EMOTIONS.values())
    return faults.corpus(
        name or "CREMA-D",
        Rows(clips, listed.places),
        ratings,
        media_root=root,
        targets=[
            Target("label", "nominal", occurring(emotions, clips["label"])),
            *(
                Target(target, "nominal", emotions, votes=shown)
                for target, shown in TARGETS.items()
                if (ratings.table["shown"] == shown).any()
            ),
            *targets,
        ],
        columns={"utterance_id": "Filename"},
    )


def _read(source: Path, *columns: str) -> Rows:
    rows = read_rows(source)
    need_columns(source, rows.table, columns)
    return rows


def _actors(source: Path, faults: Faults) -> pd.DataFrame:
    """Return what is known of the actors, by their number."""
    rows = _read(source, "ActorID", "Age", "Sex", "Race", "Ethnicity")
    actor = names(rows, "ActorID")
    twice = actor.duplicated()
    faults.add(rows, twice, "ActorID", lambda row: f"{actor[row]!r} stands in an earlier row too; keep one")
    known = pd.DataFrame(
        {
            "age": faults.numbers(rows, "Age"),
            "sex": names(rows, "Sex").str.lower(),
            "race": names(rows, "Race"),
            "ethnicity": names(rows, "Ethnicity"),
        }
    )
    return known.set_index(actor)[~twice.to_numpy()]


def _clips(rows: Rows, actors: pd.DataFrame, root: Path | str, faults: Faults) -> pd.DataFrame:
    """Return a row per clip, with what its name and its actor's tell."""
    clip = names(rows, "Filename")
    code = clip.str.extract(_NAME)
    code.columns = ["speaker", "sentence", "emotion", "intensity"]
    wrong = code["speaker"].isna()
    mend = "is not the name of a clip; names are like 1001_IEO_NEU_XX"
    faults.add(rows, wrong, "Filename", lambda row: f"{clip[row]!r} {mend}")
    unknown = ~wrong & ~code["speaker"].isin(actors.index)
    mend = "is not in VideoDemographics.csv; add a row there"
    faults.add(rows, unknown, "Filename", lambda row: f"actor {code['speaker'][row]} {mend}")
    code = code.fillna("")
    video, sound = there(root, "VideoFlash/" + clip + ".flv"), there(root, "AudioWAV/" + clip + ".wav")
    return pd.DataFrame(
        {
            "utterance_id": clip,
            "media": [one or other for one, other in zip(video, sound, strict=True)],
            "text": code["sentence"].map(SENTENCES).fillna(""),
            "label": code["emotion"].str[:1].map(EMOTIONS).fillna(""),
            "group": code["speaker"],
            "speaker": code["speaker"],
            "transcript_source": "manual",
            "intensity": code["intensity"],
            "sentence": code["sentence"],
            **{column: actors[column].reindex(code["speaker"]).to_numpy() for column in actors},
        }
    )


def _votes(source: Path, numbered: pd.Series, faults: Faults) -> Rows:
    """Return the tabulated votes, a row per clip, what was shown and emotion that someone voted for.

    A row's own name is 100000 x (1 voice, 2 face, 3 both) + the clip's number.
    """
    rows = _read(source, *EMOTIONS, "fileName", "numResponses")
    row_name = rows.table.columns[0]
    code = faults.numbers(rows, row_name)
    shown, clip = pd.Series(code // 100_000).map(SHOWN), names(rows, "fileName")
    meant = pd.Series(numbered.reindex(code % 100_000).to_numpy(), dtype=object)
    mend = "rows are named 100000 x (1 voice, 2 face, 3 both) + the clip's number in SentenceFilenames.csv"
    strange = ~np.isnan(code) & (shown.isna() | (meant != clip)).to_numpy()
    faults.add(
        rows, strange, "fileName", lambda row: f"{clip[row]!r} is not what row {code[row]:.0f} names; {mend}"
    )
    twice = ~strange & pd.Series(code).duplicated().to_numpy()
    mend = "stands in an earlier row too; keep one"
    faults.add(rows, twice, "fileName", lambda row: f"{clip[row]!r} ({shown[row]}) {mend}")
    for kind, modalities in SHOWN.items():
        absent = numbered[~numbered.index.isin(code - 100_000 * kind)]
        faults.lines += [f"{source}: no row for {clip!r} ({modalities}); add it" for clip in absent]
    counts = np.column_stack([faults.numbers(rows, letter) for letter in EMOTIONS])
    total = faults.numbers(rows, "numResponses")
    wrong = (counts < 0) | (counts % 1 > 0)
    for column, letter in enumerate(EMOTIONS):
        told = lambda row, column=column: f"{counts[row, column]:g} is not a count of votes"
        faults.add(rows, wrong[:, column], letter, told)
    off = ~wrong.any(axis=1) & (counts.sum(axis=1) != total) & ~np.isnan(counts.sum(axis=1) + total)
    mend = "is not the sum of the votes in the row,"
    faults.add(
        rows, off, "numResponses", lambda row: f"{total[row]:g} {mend} {counts[row].sum():g}; correct one"
    )
    voted, emotion = np.nonzero((counts > 0) & ~strange[:, None])
    table = pd.DataFrame(
        {
            "utterance_id": clip.to_numpy()[voted],
            "shown": shown.to_numpy()[voted],
            "value": np.array(list(EMOTIONS.values()), dtype=object)[emotion],
            "count": counts[voted, emotion],
        }
    )
    return Rows(table, [rows.places[row] for row in voted])
