"""Mark models that students trained: ``python tools/bands.py denoiser ada.safetensors bob.safetensors``.

The error of each model on the test digits is compared with that of the lesson's own quick training, over several
seeds: within three standard deviations of the mean it has full marks, up to twice the mean half of them.
bands.json holds the reference; ``python tools/measure_bands.py KIND`` measures it. The files are plain numbers with a
card, written by ``weights.save``: unlike a notebook, a model runs nothing when it is marked.

A card says what a student likes, so nothing that decides the error is taken from it: the test digits are as many as
those of the reference, the noise is that of the lesson's schedule, and the network is at most as large as the lesson's.
Weights that are nearly those of a model of the package are not marked; a file like an earlier one is named.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import nn

from diffusion_helpers import data, schedules, weights
from diffusion_helpers.bench import held_out
from diffusion_helpers.denoise import Denoiser
from diffusion_helpers.unet import CourseUNet

FILE = Path(__file__).with_name("bands.json")
SCHEDULE = schedules.linear_beta(300)
WIDTH = {"denoiser": 128, "ddpm": 64, "guided": 64}  # D of the lessons' networks in the full budget


def parameters(net: nn.Module) -> int:
    """How many numbers were trained."""
    return sum(p.numel() for p in net.parameters())


def vector(model: nn.Module) -> torch.Tensor:
    """All trained numbers of a model in a row."""
    return torch.cat([p.detach().float().flatten() for p in model.parameters()])


def related(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two such rows are one, up to a tenth; from other starts they are about as far apart as from 0."""
    return len(one) == len(other) and bool((one - other).norm() < 0.1 * other.norm())


def check(kind: str, model: nn.Module) -> None:
    """Raises ValueError for a model of another kind or schedule, or one larger than the lesson's in its full budget."""
    classes = 10 * (kind == "guided")
    if kind == "denoiser":
        if hasattr(model, "kind"):
            raise ValueError("expected a one-step denoiser: a card with a network, and no kind or schedule")
    elif getattr(model, "kind", None) != "eps" or model.classes != classes:
        raise ValueError(f'expected a model of kind "eps" with {classes} classes')
    else:
        t = torch.linspace(0, 1, 301)
        if model.schedule.T != SCHEDULE.T or not model.schedule(t).alpha.equal(SCHEDULE(t).alpha):
            raise ValueError(
                f"schedule {model.schedule.name}, T = {model.schedule.T}: expected the lesson's linear_beta(300)"
            )
    with torch.device("meta"):
        most = parameters(CourseUNet(WIDTH[kind], kind != "denoiser", classes))
    if parameters(model) > most:
        raise ValueError(f"{parameters(model):,} parameters: expected at most {most:,}, as in the lesson's full budget")


def error(kind: str, model: nn.Module, test: data.Images) -> float:
    """The error of a model on the test images: MSE at sigma = 0.5 for a denoiser, else its training loss (eps MSE).

    The noise of the latter is that of the lesson's schedule. Raises ValueError for a model that ``check`` refuses.
    """
    check(kind, model)
    if kind == "denoiser":
        return held_out.one_step(model, test)["mse"]
    return held_out.diffusion(Denoiser(model.net, "eps", SCHEDULE), test)["eps_mse"]


def share(found: float, band: dict) -> float:
    """The share of the marks, 1, 0.5 or 0, for an error, from the mean and the standard deviation of the reference."""
    if found <= band["mean"] + 3 * band["sd"]:
        return 1.0
    return 0.5 if found <= 2 * band["mean"] else 0.0


def stored() -> dict[str, dict]:
    """The reference of each kind that has been measured."""
    return json.loads(FILE.read_text(encoding="utf8")) if FILE.exists() else {}


def main() -> None:
    bands = stored()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["denoiser", "ddpm", "guided"])
    parser.add_argument("files", type=Path, nargs="+")
    given = parser.parse_args()
    if given.kind not in bands:
        parser.exit(1, f"no reference for {given.kind} yet: python tools/measure_bands.py {given.kind}\n")
    band, test = bands[given.kind], data.load("mnist", "test")
    if len(test.images) != band["N"]:
        found, expected = f"{len(test.images):,} test digits ({test.source})", f"the {band['N']:,} of the reference"
        parser.exit(1, f"{found}: expected {expected}; see DIFFUSION_DATA in README.md\n")
    print(f"reference: {band['mean']:.4f} ± {band['sd']:.4f}, {len(band['errors'])} seeds, N = {band['N']:,}")
    name = f"mnist-{given.kind}"
    shipped, seen = vector(weights.load(name)), {}
    for path in given.files:
        try:
            model = weights.load(path)
            own = vector(model)
            if related(own, shipped):
                raise ValueError(f"its weights are those of {name}: expected a training of one's own")
            found = error(given.kind, model, test)
            twins = [other for other, theirs in seen.items() if related(own, theirs)]
            print(
                f"{path.name}: {found:.4f}, {share(found, band):.0%}"
                + "".join(f"; weights of {twin}" for twin in twins)
            )
            seen[path.name] = own
        except Exception as fault:  # a card that a student wrote may hold anything
            print(f"{path.name}: not marked, {' '.join(str(fault).split())[:300]}")


if __name__ == "__main__":
    main()
