"""How often one picture is read as two captions, each through its view, by the judge of captioned scenes:

    python -m diffusion_helpers.bench.anagrams captions --attempts 32 --seed 16

Beside it two controls: the same pictures are read as the first caption upright, and a picture of the first caption
alone is read both ways. The pairs are eight of fourteen that were tried with seed 6; two of the other six never worked.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import edits, samplers, weights
from ..denoise import Denoiser
from ..words import grammar, judge, prompted
from . import captions

VIEWS = {
    "half turn": edits.HALF_TURN,
    "flip": edits.VERTICAL_FLIP,
    "quarter turn": edits.QUARTER_TURN,
    "halves swapped": edits.View(lambda x: x.roll(x.shape[-2] // 2, -2), lambda x: x.roll(-(x.shape[-2] // 2), -2)),
    "tiles": edits.tiles(32, 8, torch.Generator().manual_seed(1)),
}


class Pair(NamedTuple):
    """What the picture shows as it is, what it shows through the view, and the name of that view in ``VIEWS``."""

    first: str
    second: str
    view: str


PAIRS = (
    Pair("a red six on white", "a red nine on white", "half turn"),
    Pair("a red six above a blue nine on white", "a blue six above a red nine on white", "half turn"),
    Pair("a blue two on white", "a blue five on white", "flip"),
    Pair("a green two above a purple five on black", "a purple two above a green five on black", "flip"),
    Pair("a yellow zero left of a green zero on black", "a green zero above a yellow zero on black", "quarter turn"),
    Pair("a red seven above a blue boot on white", "a blue boot above a red seven on white", "halves swapped"),
    Pair("a purple one on black", "a purple bag on black", "quarter turn"),
    Pair("a green eight on black", "a green zero on black", "tiles"),
)


def drawn(model: Denoiser, pair: Pair, n: int, gamma: float, seed: int) -> Tensor:
    """``n`` pictures of the pair, (n, 3, 32, 32) in [-1, 1], from the noise of ``captions.drawn``."""
    empty = prompted(model, [""] * n)
    told = [edits.guide(prompted(model, [caption] * n), empty, gamma) for caption in (pair.first, pair.second)]
    x = torch.randn(n, model.net.channels, 32, 32, generator=torch.Generator().manual_seed(seed))
    seen = edits.anagram(told, [edits.UPRIGHT, VIEWS[pair.view]])
    *_, last = samplers.sample(seen, x, model.schedule.grid(20), samplers.dpmpp_2m)
    return last.x.clamp(-1, 1)


def reads(net: nn.Module, images: Tensor, caption: str) -> Tensor:
    """Whether ``net`` sees in images (N, 3, 32, 32) all things, colours and their order as in the caption, (N,) bool.

    The caption says each colour just before its thing, and "left of" or "above" between two.
    """
    found, words = judge.read(net, images), caption.split()
    places = [i for i, word in enumerate(words) if word in grammar.THINGS]
    order = 0 if len(places) == 1 else 1 + ("above" in words)
    right = found[:, 0] == order
    for slot, i in enumerate(places):
        named = grammar.THINGS.index(words[i]), grammar.COLOURS.index(words[i - 1])
        right &= (found[:, 3 + 3 * slot : 5 + 3 * slot] == torch.tensor(named, device=found.device)).all(1)
    return right


def both_ways(net: nn.Module, images: Tensor, pair: Pair) -> Tensor:
    """Which images are read as the pair says, as they are and through its view: (N,) bool."""
    return reads(net, images, pair.first) & reads(net, VIEWS[pair.view].look(images), pair.second)


def measure(model: Denoiser, net: nn.Module, attempts: int, gamma: float, seed: int) -> list[dict]:
    """Of each pair how many attempts are right both ways, upright, and both ways without the second caption."""
    found = []
    for pair in PAIRS:
        images = drawn(model, pair, attempts, gamma, seed)
        plain = captions.drawn(model, [pair.first] * attempts, gamma, seed)
        counts = {
            "both": both_ways(net, images, pair),
            "first": reads(net, images, pair.first),
            "first alone, both": both_ways(net, plain, pair),
        }
        found.append({"pair": list(pair)} | {name: int(right.sum()) for name, right in counts.items()})
    return found


def text(found: list[dict], attempts: int) -> str:
    """A line for each pair."""
    lines = [f"of {attempts}: both ways, upright, without the second caption both ways"]
    for row in found:
        first, second, view = row["pair"]
        counts = "".join(f"{row[name]:4}" for name in ("both", "first", "first alone, both"))
        lines.append(f"{counts}   {view:14}  {first} | {second}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m diffusion_helpers.bench.anagrams", description=__doc__.split("\n")[0]
    )
    parser.add_argument("model", help="a shipped model that reads captions, or a .safetensors file")
    parser.add_argument("--judge", default="captions-judge", help="the same (default: %(default)s)")
    parser.add_argument("--attempts", type=int, default=32, help="for each pair (default: %(default)s)")
    parser.add_argument("--gamma", type=float, default=3.0, help="guidance (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=16, help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, help="where the counts are written, too")
    chosen = parser.parse_args()
    try:
        model, net = weights.load(chosen.model), weights.load(chosen.judge)
        found = measure(model, net, chosen.attempts, chosen.gamma, chosen.seed)
    except ValueError as error:
        parser.error(str(error))
    print(text(found, chosen.attempts))
    if chosen.json:
        settings = {name: getattr(chosen, name) for name in ("model", "judge", "attempts", "gamma", "seed")}
        chosen.json.write_text(json.dumps({"settings": settings, "found": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
