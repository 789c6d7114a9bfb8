"""Exact denoisers: data whose E[x0 | x] is known in closed form at every level, for images of any shape."""

import torch

from diffusion_helpers.denoise import Denoised, label_weights


def gaussian(mu, s):
    """The exact denoiser of pixels N(mu, s²): a function (x, level) -> Denoised."""

    def denoise(x, level):
        _, alpha, sigma = level.like(x)
        return Denoised(x, mu + alpha * s**2 / (alpha**2 * s**2 + sigma**2) * (x - alpha * mu), level)

    return denoise


class Mixture:
    """The exact denoiser of sum_k weights[k] N(means[k], stds[k]² I) over points x (B, 1, 1, 2).

    ``y`` gives other weights to each point, so that component k is class k and the null label is all of them.
    """

    def __init__(self, weights, means, stds):
        self.weights, self.means, self.stds = map(torch.tensor, (weights, means, stds))
        self.classes = len(weights)

    def __call__(self, x, level, y=None):
        K = self.classes
        prior = self.weights.expand(len(x), K).to(x)  # (B, K)
        if y is not None:
            y = label_weights(y, K).to(x)
            prior = torch.where(y.sum(1, keepdim=True) > 0, y / y.sum(1, keepdim=True), prior)
        m, s = self.means.to(x).view(K, 1, 1, 2), self.stds.to(x).view(K, 1, 1, 1)
        _, alpha, sigma = level.like(x[:, None])
        variance = alpha**2 * s**2 + sigma**2  # of x in component k
        off = x[:, None] - alpha * m  # (B, K, 1, 1, 2)
        log = prior.log()[..., None, None, None] - variance.log() - off.square().sum(-1, keepdim=True) / (2 * variance)
        x0 = (log.softmax(1) * (m + alpha * s**2 / variance * off)).sum(1)
        return Denoised(x, x0, level)

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
