"""The words that a caption may have, the sentences that say what is in a scene, and captions as numbers.

A scene is nine whole numbers, one for each of ``FIELDS``: how the things are arranged, the ground, the place of a
single thing, and what each thing is, its colour and its size. Of two things the first is the left or the upper one.
"""

from __future__ import annotations

import difflib
import random
import re
from collections.abc import Sequence

import torch
from torch import Tensor

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLOTHES = ("shirt", "trousers", "dress", "sandal", "bag", "boot")
THINGS = DIGITS + CLOTHES
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple")
SIZES = ("usual", "small", "big")
GROUNDS = ("black", "grey", "white")
PLACES = ("middle", "left", "right", "top", "bottom")
ARRANGEMENTS = ("alone", "side by side", "one above the other")
FIELDS = {
    "arrangement": ARRANGEMENTS,
    "ground": GROUNDS,
    "place": PLACES,
    "thing": THINGS,
    "colour": COLOURS,
    "size": SIZES,
    "second thing": THINGS,
    "second colour": COLOURS,
    "second size": SIZES,
}
LENGTH = 18  # words in a caption, at most
_SMALL, _BIG = ("small", "little", "tiny"), ("big", "large")
_OTHERS = ("a", "an", "some", "the", "on", "at", "in", "to", "of", "above", "over", "below", "under", "ground")
VOCABULARY = (
    "",  # no word: what comes after the end
    *THINGS,
    *map(str, range(10)),
    *COLOURS,
    *_SMALL,
    *_BIG,
    *GROUNDS,
    *PLACES,
    *_OTHERS,
)
_INDEX = {word: i for i, word in enumerate(VOCABULARY)}


def tokens(captions: Sequence[str]) -> Tensor:
    """The captions as places in ``VOCABULARY``: (B, LENGTH) int64, 0 after the last word.

    Capitals and punctuation do not count; "" is the caption that says nothing. Raises ValueError for a word that is
    not in the vocabulary, with those that are like it, and for more than LENGTH words.
    """
    rows = torch.zeros(len(captions), LENGTH, dtype=torch.int64)
    for row, caption in zip(rows, captions, strict=True):
        words = re.sub(r"[^\w\s]", " ", caption.lower()).split()
        for word in words:
            if word not in _INDEX:
                near = difflib.get_close_matches(word, VOCABULARY, 3)
                like = f" (did you mean {' or '.join(near)}?)" if near else ""
                raise ValueError(f"word {word!r} in {caption!r}{like}: expected words of {', '.join(VOCABULARY[1:])}")
        if len(words) > LENGTH:
            raise ValueError(f"{len(words)} words in {caption!r}: expected at most {LENGTH}")
        row[: len(words)] = torch.tensor([_INDEX[word] for word in words], dtype=torch.int64)
    return rows


def sentence(scene: Sequence[int], says_ground: bool, choose: random.Random) -> str:
    """One of the captions of a scene, nine numbers as in ``FIELDS``; the ground may be left unsaid."""
    arrangement, ground, place, *things = scene
    first = _phrase(*things[:3], choose)
    if arrangement == 0:
        text = first
        if place > 0 or choose.random() < 0.2:
            where = PLACES[place]
            at = {"left": "on", "right": "on", "middle": "in"}.get(where, "at")
            text += f" {at} the {where}"
    else:
        second = _phrase(*things[3:], choose)
        forward, back = (("left of", "right of"), ("above", "below"))[arrangement - 1]
        if choose.random() < 0.5:
            first, second, forward = second, first, back
        other = {"left of": "to the left of", "right of": "to the right of", "above": "over", "below": "under"}
        text = f"{first} {forward if choose.random() < 0.6 else other[forward]} {second}"
    if not says_ground:
        return text
    name = GROUNDS[ground]
    form = choose.random()
    if form < 0.6:
        return f"{text} on {name}"
    return f"{text} on a {name} ground" if form < 0.8 else f"on {name} {text}"


def _phrase(thing: int, colour: int, size: int, choose: random.Random) -> str:
    words = [choose.choice((_SMALL, _BIG)[size - 1])] if size else []
    words += [COLOURS[colour], str(thing) if thing < 10 and choose.random() < 0.3 else THINGS[thing]]
    article = "some" if words[-1] == "trousers" else "an" if words[0] == "orange" else "a"
    return " ".join([article, *words])
