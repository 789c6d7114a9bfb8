"""What can be said of an answer that draws noise: how the noise is spread, and how the parts were mixed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# For tens of thousands of numbers: at least six standard errors.
LOOSE = {"the mean of the noise": 0.03, "the standard deviation of the noise": 0.02, "the kurtosis of the noise": 0.1}
RATIO = "the loss, divided by the right one,"


class Probe(nn.Module):
    """A network that answers with its input, scaled, and remembers what it was shown: ``x`` and, if given, ``t``.

    The scale must not be a half: then z and x, mirrored at that answer, would give the same loss.
    """

    def __init__(self, scale: float):
        super().__init__()
        self.scale, self.x, self.t = scale, None, None

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        self.x, self.t = x.detach().clone(), None if t is None else t.detach().double()
        return self.scale * x


def spread(noise: Tensor) -> dict[str, float]:
    """Mean, standard deviation and kurtosis, by name: 0, 1 and 3 for standard normal noise."""
    mean, std = noise.mean(), noise.std()
    values = (mean, std, ((noise - mean) / std).square().square().mean())
    return {name: value.item() for name, value in zip(LOOSE, values, strict=True)}


def factors(mixed: Tensor, *of: Tensor) -> tuple[list[float], Tensor]:
    """The factors with which the tensors ``of`` make up ``mixed``, by least squares; and what remains, flat."""
    columns = torch.stack([one.double().flatten() for one in of], 1)
    mixed = mixed.double().flatten()
    solution = torch.linalg.pinv(columns.T @ columns) @ (columns.T @ mixed)
    return solution.tolist(), mixed - columns @ solution
