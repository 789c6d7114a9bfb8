"""Draw the moving picture of the README: ``python images/make.py``."""

from pathlib import Path

import torch

from diffusion_helpers import draw, edits, samplers, weights, words

HERE = Path(__file__).resolve().parent


CAPTIONS = [
    "a red seven above a blue boot on white",
    "a big green bag on black",
    "a yellow three left of a purple dress",
    "a blue two above a blue five on white",
    "an orange boot right of a small red six on black",
    "a green shirt below a yellow zero",
    "a big purple four on white",
    "some red trousers left of a green nine on white",
]


def way() -> None:
    """Eight captioned scenes, unpicked, growing out of noise."""
    model, n = weights.load("captions"), len(CAPTIONS)
    denoise = edits.guide(words.prompted(model, CAPTIONS), words.prompted(model, [""] * n), 3.0)
    noise = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    states = samplers.sample(denoise, noise, model.schedule.grid(20), samplers.dpmpp_2m)
    frames = [draw.grid(state.x, columns=n, scale=3) for state in states]
    frames = [frame.quantize(256) for frame in frames[::2]]
    still = [180] * (len(frames) - 1) + [2500]
    frames[0].save(HERE / "way.gif", save_all=True, append_images=frames[1:], duration=still, loop=0, optimize=True)


if __name__ == "__main__":
    way()
