"""Captioned pictures of one or two things, made from the digits and the clothes: the same seed, the same pictures."""

from __future__ import annotations

import random
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import data
from .grammar import CLOTHES, COLOURS, DIGITS, FIELDS, GROUNDS, SIZES, THINGS, sentence, tokens

SIDE = 32
PIXELS = {"usual": 16, "small": 12, "big": 24}  # the side of a thing
PAINTS = torch.tensor(
    [[220, 35, 35], [245, 140, 15], [240, 220, 30], [35, 165, 60], [45, 95, 230], [150, 50, 195]], dtype=torch.float32
)
GREYS = torch.tensor([20.0, 128.0, 240.0])
_LABELS = (0, 1, 3, 5, 8, 9)  # of the clothes, in the data set of that name
_SEEN = 22 / 28, 1.0  # how much of its picture a digit, and a garment, fills
# Colours and things that no training scene joins: for every colour two things, for every thing a colour or none.
HELD_OUT = torch.tensor(
    [[(thing + 3 * colour) % 8 == 0 for colour in range(len(COLOURS))] for thing in range(len(THINGS))]
)


class Scenes(NamedTuple):
    """``images`` (N, 3, 32, 32) uint8; ``captions``, N strings; ``scenes`` (N, 9) int64, a column for each of FIELDS;
    ``says_ground`` (N,) bool, whether the caption names the ground; ``source``, of the things, as ``data.Images`` has.
    """

    images: Tensor
    captions: list[str]
    scenes: Tensor
    says_ground: Tensor
    source: str

    def captioned(self) -> data.Images:
        """The pictures with their captions as tokens, (N, LENGTH), in place of labels."""
        return data.Images(self.images, tokens(self.captions), self.source)


def make(n: int, seed: int, split: str = "train", two: float = 0.7, held_out: bool = False) -> Scenes:
    """``n`` scenes of things from ``split`` ("train" or "test") of both data sets, a share ``two`` with two things.

    With ``held_out`` the colour and kind of the first thing are a pair that no other scene has (see ``HELD_OUT``).
    Raises ValueError for fewer than 1 scene and a share that is not in [0, 1].
    """
    if n < 1 or not 0 <= two <= 1:
        raise ValueError(f"{n} scenes, a share of {two} with two things: expected at least 1, and a share in [0, 1]")
    generator = torch.Generator().manual_seed(seed)
    scenes = draw(n, generator, two, held_out)
    images, source = paint(scenes, generator, split)
    choose = random.Random(seed)
    says_ground = torch.rand(n, generator=generator) < 0.7
    pairs = zip(scenes.tolist(), says_ground.tolist(), strict=True)
    return Scenes(images, [sentence(scene, said, choose) for scene, said in pairs], scenes, says_ground, source)


def draw(n: int, generator: torch.Generator, two: float, held_out: bool) -> Tensor:
    """What is in ``n`` scenes, at random: (n, 9)."""

    def pick(of: int) -> Tensor:
        return torch.randint(of, (n,), generator=generator)

    pairs = torch.rand(n, generator=generator) < two
    arrangement = torch.where(pairs, 1 + pick(2), 0)
    columns = {"arrangement": arrangement, "ground": pick(len(GROUNDS))}
    columns["place"] = torch.where(pairs, 0, pick(len(FIELDS["place"])))
    for i, slot in enumerate(("", "second ")):
        allowed = (HELD_OUT if held_out and not i else ~HELD_OUT).nonzero()  # (pairs, 2)
        columns[slot + "thing"], columns[slot + "colour"] = allowed[pick(len(allowed))].T
        small, size = pick(2), pick(len(SIZES))
        columns[slot + "size"] = torch.where(pairs, small, size)
    found = torch.stack([columns[name] for name in FIELDS], 1)
    found[~pairs, 6:] = 0  # there is no second
    return found


def paint(scenes: Tensor, generator: torch.Generator, split: str) -> tuple[Tensor, str]:
    """A picture of each of the scenes (N, 9), (N, 3, 32, 32) uint8, from images of ``split``; and their source."""
    digits, clothes = data.load("mnist", split), data.load("fashion", split)
    stock = [digits.images[digits.labels == label] for label in range(len(DIGITS))]
    stock += [clothes.images[clothes.labels == _LABELS[i]] for i in range(len(CLOTHES))]
    parts = [_painted(part, stock, generator) for part in scenes.split(2000)]
    return torch.cat(parts), f"digits: {digits.source}, clothes: {clothes.source}"


def _painted(scenes: Tensor, stock: list[Tensor], generator: torch.Generator) -> Tensor:
    n, arrangement = len(scenes), scenes[:, 0]
    canvas = GREYS[scenes[:, 1]].reshape(n, 1, 1, 1).expand(n, 3, SIDE, SIDE)
    for slot in (0, 1):
        thing, colour, size = scenes[:, 3 + 3 * slot : 6 + 3 * slot].T
        chosen = torch.rand(n, generator=generator)
        images = torch.stack(
            [stock[i][int(u * len(stock[i]))] for i, u in zip(thing.tolist(), chosen.tolist(), strict=True)]
        )
        ink = images.float() / 255
        garment = thing >= len(DIGITS)
        ink = torch.where(garment.reshape(n, 1, 1, 1), ink**0.6, ink)  # dark cloth is cloth all the same
        side = torch.tensor([float(PIXELS[name]) for name in SIZES])[size]
        centre = _centres(scenes, slot, side, generator)  # (n, 2)
        zoom = torch.tensor(_SEEN)[garment.long()] / (side / 2)
        theta = torch.zeros(n, 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = zoom * SIDE / 2
        theta[:, :, 2] = zoom[:, None] * (SIDE / 2 - centre)
        # At twice the size and then averaged, so that thin strokes do not fall between two pixels.
        grid = F.affine_grid(theta, (n, 1, 2 * SIDE, 2 * SIDE), align_corners=False)
        cover = F.avg_pool2d(F.grid_sample(ink, grid, align_corners=False), 2)
        if slot:
            cover = cover * (arrangement > 0).reshape(n, 1, 1, 1)
        canvas = canvas + cover * (PAINTS[colour].reshape(n, 3, 1, 1) - canvas)
    return canvas.round().clamp(0, 255).to(torch.uint8)


def _centres(scenes: Tensor, slot: int, side: Tensor, generator: torch.Generator) -> Tensor:
    """Where the middle of each thing is, in pixels from the upper left corner: (n, 2), x and y."""
    arrangement, place = scenes[:, 0], scenes[:, 2]
    jitter = 2 * torch.rand(len(scenes), 2, generator=generator) - 1
    room = (SIDE - side)[:, None] / 2  # to either side of the middle
    centre = SIDE / 2 + jitter * room.clamp(max=4)
    quarter = SIDE / 4 + jitter * (SIDE / 4 - side[:, None] / 2).clamp(min=0)
    near = side[:, None] / 2 + (jitter + 1)  # up to two pixels from the edge
    for axis, (low, high) in enumerate(((1, 2), (3, 4))):
        half = arrangement == axis + 1
        centre[:, axis] = torch.where(half, quarter[:, axis] + slot * SIDE / 2, centre[:, axis])
        alone = arrangement == 0
        centre[:, axis] = torch.where(alone & (place == low), near[:, axis], centre[:, axis])
        centre[:, axis] = torch.where(alone & (place == high), SIDE - near[:, axis], centre[:, axis])
    return centre
