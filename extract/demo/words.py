"""The words of the demo corpus: short replies to somebody's story, each an opening and a closing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

TOPICS = (
    "the exam",
    "the move",
    "your job",
    "your sister",
    "the surgery",
    "the break-up",
    "the dog",
    "the trip",
)

OPENINGS = {
    "warm": (
        "Oh, I'm so sorry.",
        "That must have hurt a lot.",
        "That sounds really hard.",
        "You have been so brave.",
        "My heart goes out to you.",
        "No wonder you feel that way.",
        "I can hear how sad you are.",
        "I am so glad you told me.",
        "Oh no, you poor thing.",
        "I would be heartbroken too.",
        "Of course you are upset about {topic}.",
        "It makes sense that {topic} weighs on you.",
    ),
    "neutral": (
        "So that was {topic}.",
        "That happens with {topic}.",
        "I wrote down the date.",
        "It was on Tuesday, then.",
        "They said the same on the phone.",
        "The form is on the table.",
        "I think it takes two weeks.",
        "There is a page about {topic}.",
    ),
    "cold": (
        "I don't see the problem.",
        "You should have known better.",
        "Everybody has trouble with {topic}.",
        "That is your own fault.",
        "Not {topic} again.",
        "You are making too much of this.",
        "I really don't have time.",
        "That is nothing special.",
    ),
    "shared": (
        "Okay, I see.",
        "Well, thanks for telling me.",
        "So, about {topic}.",
        "Right, I heard about {topic}.",
        "Hm, let me think.",
        "Yes, I remember {topic}.",
        "I didn't expect that.",
        "Oh, when was that?",
    ),
}

CLOSINGS = {
    "warm": (
        "I'm here if you need me.",
        "You don't have to carry this alone.",
        "I wish I could give you a hug.",
        "Take all the time you need.",
        "I understand how much it meant to you.",
        "Please be gentle with yourself.",
        "We will get through {topic} together.",
        "I would love to help you with {topic}.",
        "Anyone would be hurt by that.",
        "I care about you, whatever happens.",
        "How are you holding up after {topic}?",
        "You can call me at any hour.",
    ),
    "neutral": (
        "The office opens at nine.",
        "You can look it up online.",
        "They will send a letter about {topic}.",
        "It depends on the weather.",
        "The next one is in March.",
        "My cousin asked about {topic} too.",
        "It costs about the same everywhere.",
        "The bus still goes there.",
    ),
    "cold": (
        "Just get over it.",
        "Stop complaining about {topic}.",
        "I have work to do.",
        "Other people have real problems.",
        "You will have to deal with it.",
        "I told you so.",
        "Can we talk about something else?",
        "Don't bother me with {topic}.",
    ),
    "shared": (
        "What happened after that?",
        "Let's talk about {topic} later.",
        "We will see how it goes.",
        "Tell me about {topic} then.",
        "That was quite a day.",
        "Let me know about {topic}.",
        "So now you know.",
        "I was thinking about that.",
    ),
}


def reply(affect: str, strength: float, rng: np.random.Generator) -> str:
    """Return a reply of one opening and one closing.

    Parameters
    ----------
    affect
        ``"warm"``, ``"neutral"`` or ``"cold"``.
    strength
        From 0 to 1: how probable it is, for each of the two halves, that it shows the affect; otherwise it
        is a phrase that any affect may use.
    rng
        Where the choices come from.
    """
    halves = []
    for bank in (OPENINGS, CLOSINGS):
        phrases = bank[affect if rng.random() < strength else "shared"]
        halves.append(phrases[rng.integers(len(phrases))])
    return " ".join(halves).format(topic=TOPICS[rng.integers(len(TOPICS))])
