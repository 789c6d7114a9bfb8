"""Exact denoisers: data whose E[x0 | x] is known in closed form at every level, for images of any shape."""

import torch

from diffusion_helpers.denoise import Denoised
from diffusion_helpers.lessons import toy


def gaussian(mu, s):
    """The exact denoiser of pixels N(mu, s²): a function (x, level) -> Denoised."""

    def denoise(x, level):
        _, alpha, sigma = level.like(x)
        return Denoised(x, mu + alpha * s**2 / (alpha**2 * s**2 + sigma**2) * (x - alpha * mu), level)

    return denoise


class Mixture(toy.Mixture):
    """The lessons' mixture of lumps in the plane, with statistics of points by lump."""

    def statistics(self, points):
        """Of points (N, 1, 1, 2): how many lie nearest to each mean (K,), their means (K, 2) and stds (K,)."""
        points = points.reshape(-1, 2).double()
        nearest = torch.cdist(points, self.means.double()).argmin(1)
        parts = [points[nearest == k] for k in range(self.classes)]
        counts = torch.tensor([len(part) for part in parts])
        means = torch.stack([part.mean(0) for part in parts])
        return counts, means, torch.stack([part.var(0).mean().sqrt() for part in parts])


# Three components, more than ten standard deviations apart, so that the nearest mean is the component. None is so
# narrow that the last steps of 1000 change its width by more than a standard error.
THREE = Mixture([0.5, 0.3, 0.2], [[-1.2, -0.8], [1.3, -0.6], [0.1, 1.3]], [0.2, 0.15, 0.2])
