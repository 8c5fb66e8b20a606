"""What the demo corpus says before anything is rendered: labels, affects, planted conflicts and ratings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from mixed_signals.store.corpus import MODALITIES

EMPATHETIC, NEUTRAL = "empathetic", "neutral"
N_RATERS, RATERS_EACH = 10, 6

_DIRECTION = {"warm": 1.0, "neutral": 0.0, "cold": -1.0}
_UNWARM = ("neutral", "cold")
_RATER_GAIN = 1.5  # log odds of the rating "empathetic" for each modality that is fully warm
_RATER_BIAS = 0.3  # spread of the raters' own leaning, in log odds


class Draw(IntEnum):
    """Independent streams of random numbers, so that one part's draws never shift another's."""

    PLAN = 0
    RATERS = 1
    RATINGS = 2
    SPEAKER = 3
    UTTERANCE = 4

    def rng(self, seed: int, index: int = 0) -> np.random.Generator:
        """Return this stream's generator for one speaker, utterance or the whole corpus."""
        return np.random.default_rng([seed, self, index])


@dataclass(frozen=True)
class PlannedUtterance:
    """One utterance as intended.

    Parameters
    ----------
    utterance_id
        Such as ``s01_u003``.
    speaker
        The speaker's index, from 0.
    label
        What most modalities say: ``empathetic`` where two or three are warm, else ``neutral``.
    conflict
        The modality that contradicts the other two, or an empty string.
    affect
        For each modality ``warm``, ``neutral`` or ``cold``.
    strength
        For each modality, from 0 (nothing to see) to 1, how plainly it shows its affect.
    """

    utterance_id: str
    speaker: int
    label: str
    conflict: str
    affect: Mapping[str, str]
    strength: Mapping[str, float]

    def warmth(self, modality: str) -> float:
        """Return the affect and strength of a modality as one number, from -1 (cold) over 0 to 1 (warm)."""
        return _DIRECTION[self.affect[modality]] * self.strength[modality]


def speaker_name(index: int) -> str:
    """Return the name of a speaker.

    Examples
    --------
    >>> speaker_name(0)
    's01'
    """
    return f"s{index + 1:02d}"


def plan_utterances(
    n_utterances: int, n_speakers: int, conflict_share: float, seed: int
) -> list[PlannedUtterance]:
    """Return the utterances, speaker by speaker.

    Each speaker has as many empathetic as neutral utterances (give or take one). Conflicts are spread evenly
    over the two labels and the three modalities.
    """
    rng = Draw.PLAN.rng(seed)
    speakers = np.sort(np.arange(n_utterances) % n_speakers)
    labels = np.empty(n_utterances, dtype=object)
    for speaker in range(n_speakers):
        places = rng.permutation(np.flatnonzero(speakers == speaker))
        labels[places] = [(EMPATHETIC, NEUTRAL)[(speaker + turn) % 2] for turn in range(len(places))]
    conflicts = _plant_conflicts(labels, conflict_share, rng)
    counts = dict.fromkeys(range(n_speakers), 0)
    planned = []
    for speaker, label, conflict in zip(speakers.tolist(), labels, conflicts, strict=True):
        counts[speaker] += 1
        planned.append(
            PlannedUtterance(
                utterance_id=f"{speaker_name(speaker)}_u{counts[speaker]:03d}",
                speaker=speaker,
                label=label,
                conflict=conflict,
                affect=_draw_affects(label, conflict, rng),
                strength={modality: float(rng.beta(2.2, 0.9)) for modality in MODALITIES},
            )
        )
    return planned


def _plant_conflicts(labels: np.ndarray, share: float, rng: np.random.Generator) -> list[str]:
    """Return for each utterance the contradicting modality or an empty string."""
    conflicts = [""] * len(labels)
    n_conflicts = round(share * len(labels))
    pools = [list(rng.permutation(np.flatnonzero(labels == label))) for label in (EMPATHETIC, NEUTRAL)]
    for turn in range(n_conflicts):
        pool = pools[turn % 2] or pools[1 - turn % 2]
        conflicts[pool.pop()] = MODALITIES[turn // 2 % 3]
    return conflicts


def _draw_affects(label: str, conflict: str, rng: np.random.Generator) -> dict[str, str]:
    unwarm = _UNWARM[rng.integers(2)]
    usual, contrary = ("warm", unwarm) if label == EMPATHETIC else (unwarm, "warm")
    return {modality: contrary if modality == conflict else usual for modality in MODALITIES}


def rate_utterances(utterances: Sequence[PlannedUtterance], seed: int) -> list[dict[str, str | int]]:
    """Return one row for each rating: six of ten simulated raters judge each utterance.

    A rater says ``empathetic`` with a probability whose log odds are the rater's own leaning plus the strengths
    of the warm modalities less those of the others: where a conflict is planted, or the affect is faint, raters
    are less certain and agree less.
    """
    leanings = Draw.RATERS.rng(seed).normal(0, _RATER_BIAS, N_RATERS)
    rows: list[dict[str, str | int]] = []
    for index, utterance in enumerate(utterances):
        rng = Draw.RATINGS.rng(seed, index)
        warmth = sum(
            utterance.strength[modality] * (1 if utterance.affect[modality] == "warm" else -1)
            for modality in MODALITIES
        )
        for rater in np.sort(rng.choice(N_RATERS, RATERS_EACH, replace=False)).tolist():
            says_empathetic = rng.random() < 1 / (1 + np.exp(-leanings[rater] - _RATER_GAIN * warmth))
            rows.append(
                {
                    "utterance_id": utterance.utterance_id,
                    "rater": f"r{rater + 1:02d}",
                    "shown": "+".join(MODALITIES),
                    "value": EMPATHETIC if says_empathetic else NEUTRAL,
                    "count": 1,
                }
            )
    return rows
