"""Draw the pictures of the README: ``python images/make.py``."""

from pathlib import Path

import torch

from diffusion_helpers import edits, samplers, weights
from diffusion_helpers.lessons import plots

HERE = Path(__file__).resolve().parent


def denoising() -> None:
    """One guided run for each digit, at five moments."""
    model = weights.load("mnist-guided-residual")
    y = torch.arange(10)
    noise = torch.randn(10, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    states = list(samplers.sample(edits.classifier_free(model, y, gamma=2.0), noise, model.schedule.grid(40)))
    moments = [0, 16, 24, 30, 40]
    labels = [f"t = {states[i].level.t:.2f}" for i in moments]
    figure = plots.grid(torch.cat([states[i].x for i in moments]), columns=10, row_labels=labels)
    figure.savefig(HERE / "denoising.png", dpi=110)


if __name__ == "__main__":
    denoising()
