"""How often a picture shows what its caption says, told by a judge that never saw the drawing network:

    python -m diffusion_helpers.bench.captions captions --samples 500 --gammas 1 2 3 --seed 1

For captions of one thing, of two, and of two with a pair of colour and kind that no training scene has. Beside it the
same share of real scenes with these very captions, painted from test images: what the judge itself gets right.
± is the standard error of a share, sqrt(p (1 - p) / N).
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import data, edits, samplers, weights
from ..denoise import Denoiser
from ..words import Scenes, judge, make, prompted

KINDS = {"one": {"two": 0.0}, "two": {"two": 1.0}, "held out": {"two": 1.0, "held_out": True}}


def drawn(model: Denoiser, captions: list[str], gamma: float, seed: int, steps: int = 20) -> Tensor:
    """Pictures of the captions, (N, 3, 32, 32) in [-1, 1], by DPM-Solver++, from the same noise for the same seed.

    A hundred are drawn at a time. Raises ValueError as ``prompted`` does.
    """
    generator, done = torch.Generator().manual_seed(seed), []
    device = next(model.parameters()).device
    for start in range(0, len(captions), 100):
        part = captions[start : start + 100]
        x = torch.randn(len(part), model.net.channels, 32, 32, generator=generator).to(device)
        denoise = edits.guide(prompted(model, part), prompted(model, [""] * len(part)), gamma)
        *_, last = samplers.sample(denoise, x, model.schedule.grid(steps), samplers.dpmpp_2m)
        done.append(last.x.clamp(-1, 1).cpu())
    return torch.cat(done)


def shares(net: nn.Module, images: Tensor, asked: Scenes) -> dict:
    """Of images in [-1, 1]: the share with all fields right, its standard error, and the share of each field."""
    right = judge.right(judge.read(net, images), asked)
    all_right = right.all(1).double().mean().item()
    return {
        "all": all_right,
        "error": math.sqrt(all_right * (1 - all_right) / len(images)),
        "fields": dict(zip(judge.FIELDS, right.double().mean(0).tolist(), strict=True)),
    }


def measure(model: Denoiser, net: nn.Module, samples: int, gammas: list[float], steps: int, seed: int) -> dict:
    """The shares by kind of caption: those of real scenes, and those of pictures drawn at each gamma."""
    found = {}
    for kind, options in KINDS.items():
        asked = make(samples, seed, split="test", **options)
        found[kind] = {"real": shares(net, data.symmetric(asked.images), asked)}
        for gamma in gammas:
            found[kind][f"{gamma:g}"] = shares(net, drawn(model, asked.captions, gamma, seed, steps), asked)
    return found


def text(found: dict) -> str:
    """The shares as plain text, a line for each kind of caption."""
    lines = []
    for kind, rows in found.items():
        cells = [f"{name}: {100 * row['all']:.1f} ± {100 * row['error']:.1f}%" for name, row in rows.items()]
        lines.append(f"{kind:9}" + "   ".join(cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m diffusion_helpers.bench.captions", description=__doc__.split("\n")[0]
    )
    parser.add_argument("model", help="a shipped model, or a .safetensors file")
    parser.add_argument("--judge", default="captions-judge", help="the same (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=500, help="of each kind of caption (default: %(default)s)")
    parser.add_argument("--gammas", type=float, nargs="+", default=[1.0, 2.0, 3.0], help="(default: 1 2 3)")
    parser.add_argument("--steps", type=int, default=20, help="of DPM-Solver++ (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, help="where the shares are written, too")
    chosen = parser.parse_args()
    try:
        model, net = weights.load(chosen.model), weights.load(chosen.judge)
        found = measure(model, net, chosen.samples, chosen.gammas, chosen.steps, chosen.seed)
    except ValueError as error:
        parser.error(str(error))
    print(text(found))
    if chosen.json:
        settings = {name: getattr(chosen, name) for name in ("model", "judge", "samples", "steps", "seed")}
        chosen.json.write_text(json.dumps({"settings": settings, "found": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
