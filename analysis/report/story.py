"""What the first screen tells: the clearest finding for each question, few sentences in all, and the rest at hand.

The clearest answer to a question is the one with the smallest corrected p, or the first where none was tested. Of what
the fusion makes of its modalities it is the largest share, since what is rare there is what is most surely not chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mixed_signals.analysis.findings import TYPES, Finding

MOST_TOLD = 10
"""Sentences of the first screen."""
FEWEST_QUESTIONS = 3
"""That are told beside what is primary, however much that is."""
CLEAR = 0.05


@dataclass(frozen=True)
class Question:
    """A question with its answers.

    Attributes
    ----------
    text : str
    clearest : Finding
    others : list of Finding
    """

    text: str
    clearest: Finding
    others: list[Finding]


@dataclass(frozen=True)
class Story:
    """What the first screen tells.

    Attributes
    ----------
    primary : list of Finding
        What the study was said to be about.
    told, further : list of Question
        Questions whose clearest answer is told, and the others; each in the order in which they were asked.
    """

    primary: list[Finding] = field(default_factory=list)
    told: list[Question] = field(default_factory=list)
    further: list[Question] = field(default_factory=list)


def tell(findings: Iterable[Finding]) -> Story:
    """Return every finding in its place: questions with a clear answer are told first."""
    primary: list[Finding] = []
    by_question: dict[str, list[Finding]] = {}
    for finding in findings:
        (primary if finding.primary else by_question.setdefault(finding.question, [])).append(finding)
    questions = [_asked(text, answers) for text, answers in by_question.items()]
    unclear_last = sorted(questions, key=lambda question: not question.clearest.p_adjusted <= CLEAR)
    told = unclear_last[: max(FEWEST_QUESTIONS, MOST_TOLD - len(primary))]
    return Story(primary, [q for q in questions if q in told], [q for q in questions if q not in told])


def _asked(text: str, answers: Sequence[Finding]) -> Question:
    clearest = max(answers, key=_share) if text == TYPES else min(answers, key=_doubt)
    return Question(text, clearest, [answer for answer in answers if answer is not clearest])


def _share(answer: Finding) -> float:
    return answer.estimate if answer.quantity.endswith(", share") else -math.inf


def _doubt(answer: Finding) -> float:
    return 1.0 if math.isnan(answer.p_adjusted) else answer.p_adjusted
