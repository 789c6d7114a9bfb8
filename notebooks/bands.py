"""Mark models that students trained: ``python notebooks/bands.py denoiser ada.safetensors bob.safetensors``.

The error of each model on the test digits is compared with that of the lesson's own quick training, over several
seeds: within three standard deviations of the mean it has full marks, up to twice the mean half of them.
bands.json holds the reference; ``python tests/measure_bands.py KIND`` measures it. The files are plain numbers with a
card, written by ``weights.save``: unlike a notebook, a model runs nothing when it is marked.
"""

import argparse
import json
from pathlib import Path

from torch import nn

from diffusion_helpers import data, recipes, weights

FILE = Path(__file__).with_name("bands.json")


def error(kind: str, model: nn.Module, test: data.Images) -> float:
    """The error of a model on the test images: MSE at sigma = 0.5 for a denoiser, else its training loss (eps MSE).

    Raises ValueError for a model of another kind.
    """
    if kind == "denoiser":
        if hasattr(model, "kind"):
            raise ValueError("expected a one-step denoiser: a card with a network, and no kind or schedule")
        return recipes.one_step_held_out(model, test)["mse"]
    if getattr(model, "kind", None) != "eps" or bool(model.classes) != (kind == "guided"):
        raise ValueError(f'expected a model of kind "eps" {"with" if kind == "guided" else "without"} classes')
    return recipes.diffusion_held_out(model, test)["eps_mse"]


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
        parser.exit(1, f"no reference for {given.kind} yet: python tests/measure_bands.py {given.kind}\n")
    band, test = bands[given.kind], data.load("mnist", "test")
    print(f"reference: {band['mean']:.4f} ± {band['sd']:.4f}, {len(band['errors'])} seeds, N = {band['N']:,}")
    for path in given.files:
        try:
            found = error(given.kind, weights.load(path), test)
            print(f"{path.name}: {found:.4f}, {share(found, band):.0%}")
        except Exception as fault:  # a card that a student wrote may hold anything
            print(f"{path.name}: not marked, {' '.join(str(fault).split())[:300]}")


if __name__ == "__main__":
    main()
