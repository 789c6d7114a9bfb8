"""Draw from the command line:

    python -m diffusion_helpers.draw "a red seven above a blue three" --seed 0 --steps 20 --gamma 3 --to picture.png

With ``--model`` any shipped model, or a .safetensors file, draws: what is asked for is then a class by its name or its
number, or nothing of a model without classes. ``--columns`` draws a grid; ``--to way.gif`` shows the way from the noise.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from . import data, edits, samplers, weights
from .denoise import Denoiser
from .export import side_of
from .samplers import Denoise
from .words import prompted


def asked(model: Denoiser, what: str | None, n: int, gamma: float, names: tuple[str, ...]) -> Denoise:
    """The denoiser of ``n`` pictures of ``what``: a caption, one of the classes ``names`` or its number, or None.

    Raises ValueError, which lists what is known, for words or classes that the model does not know.
    """
    if model.words:
        return edits.guide(prompted(model, [what or ""] * n), prompted(model, [""] * n), gamma)
    if not model.classes:
        if what:
            raise ValueError(f"{what!r} for a model without classes: expected nothing")
        return model
    known = {name.lower(): i for i, name in enumerate(names)} | {str(i): i for i in range(model.classes)}
    if what is None:
        return edits.classifier_free(model, torch.arange(n) % model.classes, gamma)
    if what.lower() not in known:
        raise ValueError(f"class {what!r}: expected one of {', '.join(names)}, or 0 to {model.classes - 1}")
    return edits.classifier_free(model, torch.full((n,), known[what.lower()]), gamma)


def grid(images: Tensor, columns: int, scale: int) -> Image.Image:
    """Images (N, C, H, W) in [-1, 1] as one picture, each pixel ``scale`` times as wide."""
    from torchvision.utils import make_grid

    pixels = make_grid((images.clamp(-1, 1) + 1) / 2, columns, padding=1, pad_value=0.5)
    array = (255 * pixels).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(array).resize((scale * array.shape[1], scale * array.shape[0]), Image.NEAREST)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m diffusion_helpers.draw", description="Draw with a trained model.")
    parser.add_argument("what", nargs="?", help="a caption, or a class; without it, all classes in turn")
    parser.add_argument("--model", default="captions", help="a shipped model, or a .safetensors file (%(default)s)")
    parser.add_argument("--columns", type=int, default=1, help="pictures in a row (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: %(default)s)")
    parser.add_argument("--sampler", help=f"one of {', '.join(samplers.SAMPLERS)} (default: as the card says, or ddim)")
    parser.add_argument("--steps", type=int, help="(default: as the card says, or 20)")
    parser.add_argument("--gamma", type=float, help="the strength of guidance (default: as the card says, or 2)")
    parser.add_argument("--scale", type=int, default=8, help="pixels a pixel (default: %(default)s)")
    parser.add_argument("--to", type=Path, default=Path("picture.png"), help=".png, or .gif for the way (%(default)s)")
    chosen = parser.parse_args()
    try:
        if chosen.to.suffix not in (".png", ".gif"):
            raise ValueError(f"{chosen.to}: expected a path that ends in .png or .gif")
        for name in ("columns", "rows", "scale", "steps"):
            value = getattr(chosen, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value}: expected at least 1")
        model = weights.load(chosen.model)
        if not isinstance(model, Denoiser):
            raise ValueError(f"{chosen.model} draws nothing: expected a diffusion model, such as captions")
        usual = {"sampler": "ddim", "steps": 20, "gamma": 2.0} | model.draw
        given = {name: getattr(chosen, name) for name in ("sampler", "steps", "gamma")}
        draw = usual | {name: value for name, value in given.items() if value is not None}
        if draw["sampler"] not in samplers.SAMPLERS:
            raise ValueError(f"sampler {draw['sampler']!r}: expected one of {', '.join(samplers.SAMPLERS)}")
        n = chosen.rows * chosen.columns
        set_of = weights.card(chosen.model).get("data", {}).get("name")
        names = data.classes(set_of) if set_of in data.SOURCES else tuple(map(str, range(model.classes)))
        denoise = asked(model, chosen.what, n, draw["gamma"], names)
    except ValueError as error:
        parser.error(str(error))
    side = side_of(set_of)
    generator = torch.Generator().manual_seed(chosen.seed)
    x = torch.randn(n, model.net.channels, side, side, generator=generator)
    step, fresh = samplers.SAMPLERS[draw["sampler"]]
    if fresh:
        step = partial(step, generator=generator)
    frames = [
        grid(state.x, chosen.columns, chosen.scale)
        for state in samplers.sample(denoise, x, model.schedule.grid(draw["steps"]), step)
    ]
    if chosen.to.suffix == ".gif":
        frames[0].save(
            chosen.to, save_all=True, append_images=frames[1:], duration=[100] * (len(frames) - 1) + [2000], loop=0
        )
    else:
        frames[-1].save(chosen.to)
    print(f"{n} of {chosen.model}, {draw}: written to {chosen.to}")


if __name__ == "__main__":
    main()
