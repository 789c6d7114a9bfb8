"""The learner's checks: is this function right, and if not, which known mistake is it?

Every check takes the learner's function or number, tests properties that any right answer has, and
either prints one line that says what was established or raises ``Mistake`` with one hint.
Nothing depends on a particular stream of random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Mistake(AssertionError):
    """What is wrong with a learner's answer, in plain words, with one hint."""


def _say(established: str) -> None:
    print(f"✓ {established}")


def _is(found: Tensor | float, expected: Tensor | float, tolerance: float = 1e-4) -> bool:
    found, expected = torch.as_tensor(found, dtype=torch.float64), torch.as_tensor(expected, dtype=torch.float64)
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=tolerance, atol=tolerance)


def _tensor(found: object, shape: Sequence[int], what: str) -> Tensor:
    if not isinstance(found, Tensor):
        raise Mistake(f"{what} is a {type(found).__name__}: expected a tensor. Did you forget to return it?")
    if tuple(found.shape) != tuple(shape):
        raise Mistake(f"{what} has shape {tuple(found.shape)}: expected {tuple(shape)}.")
    if not found.isfinite().all():
        raise Mistake(f"{what} holds NaN or infinity. Hint: look for a root of a negative number, or a division by 0.")
    return found.detach()


def _number(found: object, what: str) -> float:
    if isinstance(found, Tensor) and found.numel() == 1:
        found = found.item()
    if not isinstance(found, (int, float)) or isinstance(found, bool):
        raise Mistake(f"{what} is {found!r}: expected a number.")
    if math.isnan(found):
        raise Mistake(f"{what} is NaN. Hint: look for a root or logarithm of a negative number, or 0 / 0.")
    return float(found)


# Notebook 01: adding noise


def alpha_bar(function: Callable[[Tensor], Tensor]) -> None:
    """Check ``function(betas)``: betas (T,) to alpha_bar (T + 1,), the running product of 1 - beta, from 1."""
    betas = torch.tensor([0.1, 0.2, 0.5, 0.25], dtype=torch.float64)
    keep = 1 - betas
    right = torch.tensor([1.0, 0.9, 0.72, 0.36, 0.27], dtype=torch.float64)
    found = function(betas)
    if isinstance(found, Tensor) and found.shape == (4,):
        if _is(found, right[1:]):
            raise Mistake(
                "There are T entries, and clean data is missing. Hint: put ᾱ₀ = 1 in front, so that entry t is level t."
            )
        if _is(found, keep.cumsum(0)):
            raise Mistake("ᾱ is a sum here. Hint: each step multiplies what is left, so use a product (torch.cumprod).")
        if _is(found, betas.cumprod(0)):
            raise Mistake("This multiplies the β. Hint: β is what is taken away; multiply what stays, 1 − β.")
        if _is(found, keep):
            raise Mistake("These are the single steps 1 − β. Hint: ᾱ_t is the product of all of them up to t.")
    found = _tensor(found, (5,), "alpha_bar")
    if _is(found, torch.cat([torch.ones(1), keep.cumsum(0)])):
        raise Mistake("ᾱ is a sum here. Hint: each step multiplies what is left, so use a product (torch.cumprod).")
    if _is(found, torch.cat([torch.ones(1), betas.cumprod(0)])):
        raise Mistake("This multiplies the β. Hint: β is what is taken away; multiply what stays, 1 − β.")
    if _is(found, right.sqrt()):
        raise Mistake("These are the roots √ᾱ. Hint: return ᾱ itself; the root comes later, where the image is scaled.")
    if _is(found[-1], 1.0) and not _is(found[0], 1.0):
        raise Mistake("The 1 stands at the end. Hint: entry 0 is clean data, so ᾱ₀ = 1 comes first.")
    if not _is(found, right):
        raise Mistake(f"For β = {betas.tolist()} you return {found.tolist()}, expected {right.tolist()}.")
    _say("ᾱ has T + 1 entries, starts at 1 and is the running product of 1 − β.")


def forward_step(function: Callable[[Tensor, float], tuple[Tensor, Tensor]]) -> None:
    """Check ``function(x0, alpha_bar_t)``: the noisy images and the standard normal noise that was drawn."""
    x0 = torch.linspace(-1, 1, 64 * 784).reshape(64, 1, 28, 28)
    bar = 0.36
    answer = function(x0.clone(), bar)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise Mistake("Return two things, the noisy images and the noise: return x_t, eps.")
    x, eps = _tensor(answer[0], x0.shape, "x_t"), _tensor(answer[1], x0.shape, "eps")
    if eps.std() < 1e-6:
        raise Mistake("The noise is the same number everywhere. Hint: torch.randn_like(x0).")
    if eps.min() >= 0 and eps.max() <= 1:
        raise Mistake(
            "The noise lies between 0 and 1: it is uniform. Hint: randn_like, with an n for normal, not rand_like."
        )
    if _is(eps[0], eps[1]):
        raise Mistake("Every image gets the same noise. Hint: draw noise of the shape of x0, batch included.")
    if abs(eps.mean()) > 0.03 or abs(eps.std() - 1) > 0.03:
        raise Mistake(f"The noise has mean {eps.mean():.2f} and standard deviation {eps.std():.2f}: expected 0 and 1.")
    keep, add = math.sqrt(bar), math.sqrt(1 - bar)
    known = {
        "ᾱ stands where its root belongs. Hint: variances add up, so images are scaled by the roots √ᾱ and √(1−ᾱ).": bar
        * x0
        + (1 - bar) * eps,
        "The image is scaled by ᾱ. Hint: its factor is √ᾱ.": bar * x0 + add * eps,
        "The noise is scaled by 1−ᾱ. Hint: that is its variance; the factor is √(1−ᾱ).": keep * x0 + (1 - bar) * eps,
        "√ᾱ is missing: the image is not scaled down. Hint: without it the variance grows above 1.": x0 + add * eps,
        "The two factors are swapped. Hint: √ᾱ is the share of the image.": add * x0 + keep * eps,
        "The noise is added at full strength. Hint: its factor is √(1−ᾱ).": keep * x0 + eps,
    }
    for hint, wrong in known.items():
        if _is(x, wrong):
            raise Mistake(hint)
    if not _is(x, keep * x0 + add * eps):
        raise Mistake("x_t is not √ᾱ·x0 + √(1−ᾱ)·eps with the eps you return. Hint: is it the same eps in both places?")
    _say("x_t = √ᾱ·x0 + √(1−ᾱ)·eps, and eps is standard normal.")


def chain_step(function: Callable[[Tensor, float], Tensor]) -> None:
    """Check ``function(x, beta)``: one step of the Markov chain, N(sqrt(1 - beta) x, beta), on 40,000 numbers."""
    n, beta = 40_000, 0.36
    x = torch.cat([torch.full((n // 2,), 2.0), torch.full((n // 2,), -2.0)]).reshape(-1, 1, 1, 1)
    found = _tensor(function(x.clone(), beta), x.shape, "the next image")
    again = _tensor(function(x.clone(), beta), x.shape, "the next image")
    upper = found[: n // 2]
    mean, std = upper.mean().item(), upper.std().item()
    if std < 1e-6:
        raise Mistake("Every number gets the same noise. Hint: torch.randn_like(x).")
    if _is(found, again):
        raise Mistake("Two calls add the same noise. Hint: draw it inside the function; no seed in there.")
    if abs(upper.sub(mean).div(std).pow(4).mean() - 3) > 0.5:
        raise Mistake(
            "The noise is not normal (it looks uniform). Hint: randn_like, with an n for normal, not rand_like."
        )
    if abs(mean - 2.0) < 0.03:
        raise Mistake(
            "The image is not scaled down. Hint: with √(1−β) in front the variance stays at 1; without it, it explodes."
        )
    if abs(mean - 2 * (1 - beta)) < 0.03:
        raise Mistake("The image is scaled by 1−β. Hint: its factor is √(1−β).")
    if abs(mean - 2 * math.sqrt(1 - beta)) > 0.03:
        raise Mistake(
            f"A pixel of 2.0 has mean {mean:.2f} afterwards: expected 2·√(1−β) = {2 * math.sqrt(1 - beta):.2f}."
        )
    if abs(std - beta) < 0.02:
        raise Mistake("The noise is scaled by β. Hint: β is a variance; the factor is its root √β.")
    if abs(std - math.sqrt(beta)) > 0.02:
        raise Mistake(f"The noise has standard deviation {std:.2f}: expected √β = {math.sqrt(beta):.2f}.")
    _say("One step keeps √(1−β) of the image and adds fresh noise of variance β.")


def signal_left(answer: float) -> None:
    """Check the number: what is sqrt(alpha_bar) at the last of 300 steps, beta from 1e-4 to 0.02?"""
    from .schedules import linear_beta

    found = _number(answer, "signal_left")
    level = linear_beta(300)(1.0)
    alpha, sigma = level.alpha.item(), level.sigma.item()
    if abs(found - alpha**2) < 0.0012:
        raise Mistake(f"{found:.3f} is ᾱ, a share of variance. Hint: the image itself is multiplied by its root.")
    if abs(found - sigma) < 0.002:
        raise Mistake(f"{found:.3f} is the share of the noise, √(1−ᾱ). Hint: the signal is √ᾱ.")
    if abs(found - alpha**2 / sigma**2) < 0.0012:
        raise Mistake(f"{found:.3f} is the signal-to-noise ratio. Hint: the question is √ᾱ alone.")
    if abs(found - linear_beta(1000)(0.3).alpha.item()) < 0.004:
        raise Mistake(f"{found:.3f} is √ᾱ after 300 of 1000 steps. Hint: build the schedule with T = 300.")
    if abs(found - alpha) > 0.004:
        raise Mistake(
            f"{found:.3f} is not √ᾱ at T = 300. Hint: linear_beta(300)(1.0).alpha, or the last entry of your own ᾱ."
        )
    _say(f"√ᾱ = {alpha:.3f}: after 300 steps more than a fifth of the image is still there.")


# Notebook 02: the one-step denoiser


class _Probe(nn.Module):
    """A network that remembers what it was shown and answers with a part of it.

    Not with half: then z and x, mirrored at that answer, would give the same loss.
    """

    def forward(self, z: Tensor) -> Tensor:
        self.seen = z.detach().clone()
        return 0.3 * z


def denoising_loss(function: Callable[[nn.Module, Tensor, float], Tensor]) -> None:
    """Check ``function(net, x, sigma)``: the mean squared error of net(x + sigma * eps) against x."""
    x = torch.linspace(0, 1, 64 * 784).reshape(64, 1, 28, 28)
    sigma, probe = 0.25, _Probe()
    loss = function(probe, x.clone(), sigma)
    if not hasattr(probe, "seen"):
        raise Mistake("The network was never called. Hint: net(z).")
    loss = _number(loss, "the loss")
    z = _tensor(probe.seen, x.shape, "what the network sees")
    added = z - x
    if _is(z, x):
        raise Mistake("The network sees the clean image. Hint: give it z = x + σ·eps.")
    if z.min() >= 0 and z.max() <= 1:
        raise Mistake("The noisy image is clamped to [0, 1]. Hint: leave it as it is; clamping bends the noise.")
    if added.min() >= 0:
        raise Mistake(
            "The noise is never negative: it is uniform. Hint: randn_like, with an n for normal, not rand_like."
        )
    std = added.std().item()
    if abs(std - sigma**2) < 0.01:
        raise Mistake("The noise is scaled by σ². Hint: σ is a standard deviation; multiply the noise by σ itself.")
    if abs(std - math.sqrt(sigma)) < 0.02:
        raise Mistake("The noise is scaled by √σ. Hint: σ is a standard deviation already, not a variance.")
    if abs(std - 1) < 0.02:
        raise Mistake("The noise has full strength. Hint: σ·eps.")
    if abs(std - sigma) > 0.01:
        raise Mistake(f"The noise has standard deviation {std:.3f}: expected σ = {sigma}. Is x itself scaled?")
    known = {
        "The answer is compared with the noisy image. Hint: that teaches the network to copy; the target is the clean x.": z,
        "The answer is compared with the noise. Hint: this network predicts the clean image; the target is x.": added
        / sigma,
    }
    for hint, wrong in known.items():
        if _is(loss, F.mse_loss(0.3 * z, wrong).item()):
            raise Mistake(hint)
    right = F.mse_loss(0.3 * z, x).item()
    if _is(loss, right * x.numel(), 1e-3) or _is(loss, right * 784, 1e-3):
        raise Mistake(
            "The squares are summed. Hint: take their mean, so that the learning rate does not depend on the size."
        )
    if _is(loss, (0.3 * z - x).abs().mean().item()):
        raise Mistake("This is the mean absolute error. Hint: square the difference.")
    if _is(loss, math.sqrt(right)):
        raise Mistake("This is the root of the mean square. Hint: leave the root away; MSE has none.")
    if not _is(loss, right):
        raise Mistake(f"The loss is {loss:.4f}, expected {right:.4f}, the mean of (net(z) − x)².")
    _say("The loss is the mean of (net(x + σ·eps) − x)², with normal noise of standard deviation σ.")


def psnr(function: Callable[[Tensor, Tensor], float]) -> None:
    """Check ``function(estimate, x)``: the peak signal-to-noise ratio in dB, for a peak of 1."""
    x = torch.zeros(2, 1, 4, 4)
    wrong = torch.full_like(x, 0.1)  # mse 0.01, so 20 dB
    found = _number(function(wrong, x), "the PSNR")
    known = {
        -20.0: "The sign is turned. Hint: a smaller error must give more decibels: −10·log10(mse).",
        10.0: "The factor is 5, or a root was taken. Hint: −10·log10(mse), with the mean square itself.",
        40.0: "The factor is 20. Hint: 20 goes with an amplitude; for a mean square it is 10.",
        -10 * math.log(0.01): "This is the natural logarithm. Hint: decibels use log10.",
        -math.log10(0.01): "The factor 10 is missing. Hint: a decibel is a tenth: −10·log10(mse).",
        20 * math.log10(255) + 20: "The peak is 255 here. Hint: these images run from 0 to 1, so the peak is 1.",
    }
    for value, hint in known.items():
        if abs(found - value) < 1e-3:
            raise Mistake(hint)
    if abs(found - 20) > 1e-3:
        raise Mistake(f"An error of 0.1 at every pixel gives {found:.2f} dB: expected 20.")
    uneven = x.clone()
    uneven[0] = 0.2  # mse 0.02 over both images, but 0.04 and 0 apart
    found = _number(function(uneven, x), "the PSNR")
    if abs(found + 10 * math.log10(0.02)) > 1e-3:
        raise Mistake(
            "The images are averaged after the logarithm. Hint: one mean over everything, then the logarithm."
        )
    _say("PSNR = −10·log10(mse): 20 dB is an error of a tenth of the range.")


def gain(function: Callable[[nn.Module, Tensor, float], float]) -> None:
    """Check ``function(net, x, sigma)``: how many dB the network adds to the noisy image (negative if it harms)."""

    class Shrink(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return 0.5 * z

    class Copy(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z

    x = torch.zeros(64, 1, 28, 28)
    if abs(_number(function(Copy(), x, 0.5), "the gain")) > 1e-3:
        raise Mistake("A network that copies its input has a gain that is not 0. Hint: use one z for both PSNRs.")
    found = _number(function(Shrink(), x, 0.5), "the gain")
    halved = 20 * math.log10(2)
    if abs(found + halved) < 0.05:
        raise Mistake("The sign is turned. Hint: denoised minus noisy, so that a good network has a positive gain.")
    if abs(found - halved) > 0.05:
        raise Mistake(f"Halving pure noise gains 6.02 dB; you find {found:.2f}. Hint: both PSNRs are against x.")
    _say("The gain is PSNR(net(z)) − PSNR(z): above 0 the network helps, below 0 it harms.")


def best_constant(function: Callable[[Tensor], Tensor]) -> None:
    """Check ``function(images)``: the one image with the least mean squared error to all of (N, 1, H, W)."""
    images = torch.stack(
        [torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0.0, 0.5]]]), torch.tensor([[[0.9, 0.9]]])]
    )  # (3, 1, 1, 2)
    found = function(images)
    if isinstance(found, Tensor) and found.numel() == 1:
        raise Mistake("This is one number. Hint: the answer is an image; take the mean over the images only, dim 0.")
    if isinstance(found, Tensor) and found.shape == (1, 1, 1, 2):
        found = found[0]
    found = _tensor(found, (1, 1, 2), "the image")
    if _is(found, images.median(0).values):
        raise Mistake("This is the median, which is best for absolute errors. Hint: squares are least at the mean.")
    if any(_is(found, image) for image in images):
        raise Mistake("This is one of the images. Hint: no single digit is closest to all the others.")
    if not _is(found, images.mean(0)):
        raise Mistake(f"You return {found.flatten().tolist()}, expected the mean over the images.")
    _say("The constant answer with the least squared error is the mean image.")


# Notebook 03: DDPM


def time_condition(function: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """Check ``function(h1, h2, t, T, t1, t2)``: h1 + t1(t / T) and h2 + t2(t / T), t (B,) integers in 1 ... T."""

    def block(value: float) -> Callable[[Tensor], Tensor]:
        def answer(t: Tensor) -> Tensor:
            if t.shape != (4, 1):
                raise Mistake(
                    f"The block gets a tensor of shape {tuple(t.shape)}: expected (4, 1). Hint: t[:, None] / T."
                )
            return (value * t.float()).reshape(4, 1, 1, 1)

        return answer

    h1, h2 = torch.full((4, 8, 7, 7), 2.0), torch.full((4, 4, 14, 14), 3.0)
    t, T = torch.tensor([1, 100, 200, 300]), 300
    answer = function(h1.clone(), h2.clone(), t, T, block(10.0), block(1000.0))
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise Mistake("Return both maps: return h1, h2.")
    found1, found2 = _tensor(answer[0], h1.shape, "h1"), _tensor(answer[1], h2.shape, "h2")
    share = (t / T).reshape(4, 1, 1, 1)
    if _is(found1, h1 + 1000 * share) and _is(found2, h2 + 10 * share):
        raise Mistake(
            "t1 and t2 are swapped. Hint: t1 belongs to the unflattened map (2D channels), t2 to the first up block (D)."
        )
    if _is(found1, h1 + 10 * T * share):
        raise Mistake("t runs from 1 to 300 here. Hint: the network wants t / T, a number between 0 and 1.")
    if _is(found1, h1 * 10 * share):
        raise Mistake("The time multiplies the map. Hint: it is added; multiplying is for the class in lesson 04.")
    if _is(found1, h1) or _is(found2, h2):
        raise Mistake("One of the maps does not change with t. Hint: h1 + t1(...) and h2 + t2(...).")
    if not (_is(found1, h1 + 10 * share) and _is(found2, h2 + 1000 * share)):
        raise Mistake("The maps are not h1 + t1(t / T) and h2 + t2(t / T).")
    _say("Both maps are shifted by their own block, and the time is a number between 0 and 1.")


class _TimeProbe(nn.Module):
    """A network of time that remembers what it was shown and answers with a tenth of it."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.x, self.t = x.detach().clone(), t.detach().clone().double()
        return 0.1 * x


def ddpm_loss(function: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> None:
    """Check ``function(net, x0, bars)``: the mean of (net(x_t, t / T) - eps)² with t uniform in 1 ... T per image."""
    T, n = 4, 4000
    bars = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.1])
    x0, probe = torch.linspace(-1, 1, n * 16).reshape(n, 1, 4, 4), _TimeProbe()
    loss = function(probe, x0.clone(), bars)
    if not hasattr(probe, "t"):
        raise Mistake("The network was never called. Hint: net(x_t, t / T).")
    loss = _number(loss, "the loss")
    if probe.t.shape != (n,):
        raise Mistake(f"The times have shape {tuple(probe.t.shape)}: expected ({n},), one for each image.")
    if probe.t.max() > 1.001:
        raise Mistake(f"The network gets t up to {probe.t.max():.0f}. Hint: it wants t / T, a number between 0 and 1.")
    if probe.t.unique().numel() == 1:
        raise Mistake(
            "All images of the batch share one t. Hint: draw one for each image: torch.randint(1, T + 1, (len(x0),))."
        )
    visited = set((probe.t * T).round().long().tolist())
    if 0 in visited:
        raise Mistake(
            "t = 0 is drawn: that is clean data, with no noise to predict. Hint: torch.randint(1, T + 1, ...)."
        )
    if T not in visited:
        raise Mistake("t = T is never drawn. Hint: randint leaves the upper end out: torch.randint(1, T + 1, ...).")
    bar = bars[(probe.t * T).round().long()].reshape(-1, 1, 1, 1)
    eps = (probe.x - bar.sqrt() * x0) / (1 - bar).sqrt()
    if _is(eps[0], eps[1], 1e-2):
        raise Mistake("Every image gets the same noise. Hint: draw noise of the shape of x0, batch included.")
    if _is((probe.x - bar * x0).div(1 - bar).std(), 1.0, 0.03):
        raise Mistake("The image is mixed with ᾱ and 1−ᾱ. Hint: the factors are their roots.")
    if eps.min() > -0.01:
        raise Mistake(
            "The noise is never negative: it is uniform. Hint: randn_like, with an n for normal, not rand_like."
        )
    if abs(eps.mean()) > 0.05 or abs(eps.std() - 1) > 0.03:
        raise Mistake(
            "x_t is not √ᾱ_t·x0 + √(1−ᾱ_t)·eps at the times that the network gets. Hint: bars[t], with t in 1 ... T."
        )
    known = {
        "The answer is compared with the clean image. Hint: this network predicts the noise eps.": x0,
        "The answer is compared with the noisy image. Hint: this network predicts the noise eps.": probe.x,
        "The sign of the noise is turned. Hint: the target is +eps.": -eps,
    }
    for hint, wrong in known.items():
        if _is(loss, F.mse_loss(0.1 * probe.x, wrong).item(), 1e-3):
            raise Mistake(hint)
    right = F.mse_loss(0.1 * probe.x, eps).item()
    if not _is(loss, right, 1e-3):
        raise Mistake(f"The loss is {loss:.4f}, expected {right:.4f}, the mean of (net(x_t, t / T) − eps)².")
    _say("Each image gets its own t from 1 to T, and the network is asked for the noise in x_t.")


def reverse_step(function: Callable[[Tensor, Tensor, Tensor, int], Tensor]) -> None:
    """Check ``function(x, eps_hat, bars, t)``: x_{t-1} of ancestral sampling, either variance, noiseless at t = 1."""
    bars = torch.tensor([1.0, 0.8, 0.4])
    n = 40_000
    x, eps = torch.full((n, 1, 1, 1), 1.5), torch.full((n, 1, 1, 1), 0.5)
    first = _tensor(function(x.clone(), eps.clone(), bars, 1), x.shape, "x_0")
    x0 = (1.5 - math.sqrt(0.2) * 0.5) / math.sqrt(0.8)
    if first.std() > 1e-4:
        raise Mistake("Noise is added on the last step, t = 1. Hint: x_0 is the result; add noise only while t > 1.")
    if not _is(first.mean(), x0, 1e-3):
        raise Mistake(
            f"The last step gives {first.mean():.3f}, expected the estimate of x0 itself, {x0:.3f}. Hint: ᾱ₀ = 1 is bars[0]."
        )
    found = _tensor(function(x.clone(), eps.clone(), bars, 2), x.shape, "x_1")
    bar, before = 0.4, 0.8
    alpha = bar / before
    beta = 1 - alpha
    x0 = (1.5 - math.sqrt(1 - bar) * 0.5) / math.sqrt(bar)

    def mean(bar_to: float, bar_from: float, alpha: float) -> float:
        return (
            math.sqrt(bar_to) * (1 - alpha) / (1 - bar_from) * x0
            + math.sqrt(alpha) * (1 - bar_to) / (1 - bar_from) * 1.5
        )

    right, center, std = mean(before, bar, alpha), found.mean().item(), found.std().item()
    wrong_x0 = (1.5 - (1 - bar) * 0.5) / bar
    known = {
        "(1−ᾱ_t) stands where (1−ᾱ_{t−1}) belongs, in front of x_t. Hint: at the last step that factor must be 0.": math.sqrt(
            before
        )
        * beta
        / (1 - bar)
        * x0
        + math.sqrt(alpha) * 1.5,
        "The root is missing in the estimate of x0. Hint: (x − √(1−ᾱ)·eps) / √ᾱ.": math.sqrt(before)
        * beta
        / (1 - bar)
        * wrong_x0
        + math.sqrt(alpha) * (1 - before) / (1 - bar) * 1.5,
        "√ᾱ_t stands where √ᾱ_{t−1} belongs, in front of x0. Hint: x0 is scaled to the level you go to.": math.sqrt(bar)
        * beta
        / (1 - bar)
        * x0
        + math.sqrt(alpha) * (1 - before) / (1 - bar) * 1.5,
    }
    for hint, wrong in known.items():
        if abs(center - wrong) < 0.015 and abs(center - right) > 0.015:
            raise Mistake(hint)
    if abs(center - right) > 0.02:
        raise Mistake(
            f"The mean of x_(t−1) is {center:.3f}, expected {right:.3f}. Hint: α_t is ᾱ_t / ᾱ_(t−1), and β_t = 1 − α_t."
        )
    posterior = beta * (1 - before) / (1 - bar)
    if std < 1e-4:
        raise Mistake("No noise is added at all. Hint: σ_t·z with fresh z, as long as t > 1.")
    if abs(std - beta) < 0.01 or abs(std - posterior) < 0.01:
        raise Mistake("The noise is scaled by a variance. Hint: β_t is a variance; the factor is its root √β_t.")
    if min(abs(std - math.sqrt(beta)), abs(std - math.sqrt(posterior))) > 0.01:
        raise Mistake(
            f"The fresh noise has standard deviation {std:.3f}, expected √β_t = {math.sqrt(beta):.3f} (or that of β̃_t)."
        )
    _say("The step has the right mean and variance, and the last one adds no noise.")


# Notebook 04: classes and guidance


def drop_labels(function: Callable[[Tensor, float, int], Tensor]) -> None:
    """Check ``function(y, p, null)``: each label replaced by ``null`` with probability p, on its own."""
    n, p, null = 2000, 0.25, 10
    y = torch.arange(n) % 10
    counts, pairs = [], []
    for _ in range(8):
        found = _tensor(function(y.clone(), p, null), y.shape, "the labels")
        changed = found != y
        if changed.any() and bool((found[changed] == 0).all()):
            raise Mistake(
                "Dropped labels become 0, and that is the digit 0. Hint: no label is a class of its own, null = 10."
            )
        if changed.any() and not bool((found[changed] == null).all()):
            raise Mistake(f"Dropped labels become {found[changed][0].item()}. Hint: they become null, here {null}.")
        counts.append(int(changed.sum()))
        pairs.append(changed)
    share = sum(counts) / (8 * n)
    if share == 0:
        raise Mistake("No label is dropped. Hint: torch.rand(len(y)) < p says which.")
    if all(count in (0, n) for count in counts):
        raise Mistake("The whole batch is dropped or kept at once. Hint: draw one random number for each label.")
    if abs(share - (1 - p)) < 0.03:
        raise Mistake("The labels are dropped with 1 − p: the condition is turned. Hint: torch.rand(len(y)) < p.")
    if all(torch.equal(pairs[0], other) for other in pairs):
        raise Mistake("The same labels are dropped every time. Hint: draw anew in each call.")
    if len(set(counts)) == 1:
        raise Mistake("Every batch drops the same number of labels. Hint: each label on its own, with probability p.")
    if abs(share - p) > 0.03:
        raise Mistake(f"{share:.0%} of the labels are dropped: expected {p:.0%}.")
    _say("Each label is dropped on its own with probability p, and becomes the null label.")


def guided_eps(function: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Check ``function(conditional, unconditional, gamma)``: u + gamma * (c - u)."""
    c, u, gamma = torch.tensor([1.0, 2.0, -1.0]), torch.tensor([0.5, 3.0, 2.0]), 5.0
    found = _tensor(function(c.clone(), u.clone(), gamma), c.shape, "the guided noise")
    known = {
        "γ is used as w: at γ = 1 this does not give the conditional answer. Hint: start from u, not from c.": c
        + gamma * (c - u),
        "Conditional and unconditional are swapped. Hint: go from u towards c.": c + gamma * (u - c),
        "The sign is turned. Hint: go from u towards c: u + γ·(c − u).": u - gamma * (c - u),
        "This mixes γ·c + u, which does not leave equal answers alone. Hint: u + γ·(c − u).": gamma * c + u,
        "This lies between the two. Hint: guidance goes past c: u + γ·(c − u) with γ above 1.": u + (c - u) / gamma,
    }
    for hint, wrong in known.items():
        if _is(found, wrong):
            raise Mistake(hint)
    if not _is(found, u + gamma * (c - u)):
        raise Mistake("This is not u + γ·(c − u).")
    _say("γ = 0 gives u, γ = 1 gives c, and a larger γ goes further in the same direction.")


def gamma_to_w(function: Callable[[float], float]) -> None:
    """Check ``function(gamma)``: the w of (1 + w) c - w u for the same guidance."""
    found = [_number(function(gamma), "w") for gamma in (0.0, 1.0, 5.0)]
    if _is(torch.tensor(found), torch.tensor([0.0, 1.0, 5.0])):
        raise Mistake("w is not γ. Hint: set u + γ(c − u) equal to (1 + w)c − wu, and compare what stands before c.")
    if _is(torch.tensor(found), torch.tensor([1.0, 2.0, 6.0])):
        raise Mistake("That is the other way round, γ = w + 1. Hint: the conditional answer has γ = 1 and w = 0.")
    if not _is(torch.tensor(found), torch.tensor([-1.0, 0.0, 4.0])):
        raise Mistake(f"For γ = 0, 1, 5 you give {found}: expected -1, 0, 4.")
    _say("w = γ − 1: unconditional is γ = 0, w = −1; conditional is γ = 1, w = 0.")


def interpolate_labels(function: Callable[[int, int, float], Tensor]) -> None:
    """Check ``function(first, last, share)``: a mixture (10,) of two one-hot labels, of length 1."""
    start, middle, end = (function(3, 8, share) for share in (0.0, 0.5, 1.0))
    if isinstance(middle, (int, float)) or (isinstance(middle, Tensor) and middle.numel() == 1):
        raise Mistake("This mixes the numbers 3 and 8. Hint: there is no digit 5½; mix their one-hot rows.")
    start, middle, end = (_tensor(found, (10,), "the mixture").float() for found in (start, middle, end))
    one, other = F.one_hot(torch.tensor([3, 8]), 10).float()
    if _is(start, other) and _is(end, one):
        raise Mistake("The ends are swapped. Hint: share = 0 is the first label.")
    if not (_is(start, one) and _is(end, other)):
        raise Mistake("The ends are not the one-hot rows of the two labels.")
    if _is(middle, (one + other) / 2):
        raise Mistake(
            "Halfway the row has length 0.71, a weaker condition than any it was trained on. Hint: divide by its norm."
        )
    if not _is(middle, (one + other) / math.sqrt(2)):
        raise Mistake("Halfway the row is not the normalised sum of the two one-hot rows.")
    _say("The mixture goes from one label to the other and keeps length 1.")


# Notebook 05: evaluation


def frechet(function: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor | float]) -> None:
    """Check ``function(mu1, cov1, mu2, cov2)``: the squared Frechet distance between two Gaussians."""
    mu1, mu2 = torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor([3.0, -1.0], dtype=torch.float64)
    cov1 = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
    cov2 = torch.tensor([[1.0, -0.5], [-0.5, 3.0]], dtype=torch.float64)
    shared = torch.linalg.eigvals(cov1 @ cov2).real.sqrt().sum()
    means, traces = (mu1 - mu2).square().sum(), cov1.trace() + cov2.trace()
    right = (means + traces - 2 * shared).item()
    found = _number(function(mu1.clone(), cov1.clone(), mu2.clone(), cov2.clone()), "the distance")
    known = {
        "The difference of the means is not squared. Hint: add up the squares of its components.": means.sqrt()
        + traces
        - 2 * shared,
        "The means are averaged over the components. Hint: a squared length is a sum.": means / 2 + traces - 2 * shared,
        "The last term is taken once. Hint: it is twice the trace of the root.": means + traces - shared,
        "The last term is added. Hint: what the two share is taken away.": means + traces + 2 * shared,
        "The covariances are left out. Hint: two clouds around one point can still differ in width.": means,
        "The root is missing. Hint: tr √(Σ₁Σ₂), the roots of the eigenvalues of the product.": means
        + traces
        - 2 * (cov1 @ cov2).trace(),
        "The root is taken of each entry of the matrix. Hint: the root of a matrix has the roots of its eigenvalues.": means
        + traces
        - 2 * (cov1 @ cov2).diagonal().sqrt().sum(),
        "The matrices are multiplied entry by entry. Hint: cov1 @ cov2, not cov1 * cov2.": means
        + traces
        - 2 * torch.linalg.eigvals(cov1 * cov2).real.sqrt().sum(),
        "This is the root of the distance. Hint: FID is the squared distance; do not take the root at the end.": right
        ** 0.5,
    }
    for hint, wrong in known.items():
        if _is(found, wrong):
            raise Mistake(hint)
    if not _is(found, right):
        raise Mistake(f"For the two Gaussians of this check you return {found:.4f}, expected {right:.4f}.")
    same = _number(
        function(mu1.clone(), cov1.clone(), mu1.clone(), cov1.clone()), "the distance of a Gaussian to itself"
    )
    if not abs(same) < 1e-6:
        raise Mistake(f"A Gaussian is {same:.4f} away from itself: expected 0.")
    _say("The distance is 0 for equal Gaussians, and right for two that differ in place, width and direction.")


def limit_of_many(function: Callable[[Tensor, Tensor], Tensor | float]) -> None:
    """Check ``function(sizes, values)``: where values = a + b / N, measured at several N, end as N grows: a."""
    sizes = torch.tensor([100.0, 200.0, 500.0, 1000.0, 4000.0], dtype=torch.float64)
    values = 0.25 + 40 / sizes

    def line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
        return y.mean() - slope * x.mean(), slope

    found = _number(function(sizes.clone(), values.clone()), "the limit")
    known = {
        "This is the slope of the line, the size of the bias. Hint: the limit is its height at 1/N = 0.": line(
            1 / sizes, values
        )[1],
        "The line is fitted over N. Hint: the bias falls as 1/N, so fit over 1 / sizes.": line(sizes, values)[0],
        "This is the value at the largest N, which still has bias in it. Hint: fit a line over 1/N.": values[-1],
        "This is the mean of the values, bias and all. Hint: fit a line over 1/N, and read it at 0.": values.mean(),
        "The line is read at 1/N = 1. Hint: infinitely many samples are 1/N = 0.": sum(line(1 / sizes, values)),
    }
    for hint, wrong in known.items():
        if _is(found, wrong):
            raise Mistake(hint)
    if not _is(found, 0.25):
        raise Mistake(f"For values that are exactly 0.25 + 40 / N you return {found:.4f}, expected 0.25.")
    _say("What is exactly a + b / N is carried on to infinitely many samples, a.")


def nearest_distances(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check ``function(samples, known)``: the Euclidean distance of each sample to its nearest known image, (N,)."""
    generator = torch.Generator().manual_seed(0)
    known_images = torch.randn(7, 1, 4, 4, generator=generator)
    samples = torch.cat([known_images[4:5], torch.randn(4, 1, 4, 4, generator=generator)])
    distance = torch.cdist(samples.flatten(1), known_images.flatten(1))  # (5, 7)
    right = distance.min(1).values
    found = function(samples.clone(), known_images.clone())
    if isinstance(found, Tensor) and found.shape == (7,):
        raise Mistake("One number for each training image. Hint: take the minimum over the training images, dim=1.")
    found = _tensor(found, (5,), "the distances")
    wrongs = {
        "These are squared distances. Hint: take the root, or use torch.cdist.": right.square(),
        "These are distances to the farthest image. Hint: the minimum, not the maximum.": distance.max(1).values,
        "These are mean distances to all images. Hint: the minimum over the training images.": distance.mean(1),
        "These are indices of the nearest images. Hint: .min(1) returns values and indices; return .values.": distance.argmin(
            1
        ),
        "These are mean squared differences per pixel. Hint: the length of the difference: add up, then the root.": right.square()
        / 16,
        "These are the largest differences in one pixel. Hint: the Euclidean length over all pixels.": torch.cdist(
            samples.flatten(1), known_images.flatten(1), p=torch.inf
        )
        .min(1)
        .values,
        "These are sums of absolute differences. Hint: the Euclidean length: squares, sum, root.": torch.cdist(
            samples.flatten(1), known_images.flatten(1), p=1
        )
        .min(1)
        .values,
    }
    for hint, wrong in wrongs.items():
        if _is(found, wrong):
            raise Mistake(hint)
    if not _is(found, right, 1e-3):
        raise Mistake(
            f"You return {[round(v, 2) for v in found.tolist()]}, expected {[round(v, 2) for v in right.tolist()]}."
        )
    _say("Each sample has its distance to the nearest training image, and a copy has 0.")


# Notebook 06: faster sampling


def ddim_step(function: Callable[[Tensor, Tensor, float, float], Tensor]) -> None:
    """Check ``function(x, eps_hat, bar_from, bar_to)``: the image at the lower level, without fresh noise."""
    x, eps, bar, to = torch.tensor([1.5, -0.4, 0.2]), torch.tensor([0.5, 0.3, -1.0]), 0.4, 0.8
    found = _tensor(function(x.clone(), eps.clone(), bar, to), x.shape, "the image")
    if not _is(found, function(x.clone(), eps.clone(), bar, to)):
        raise Mistake("Two calls differ: fresh noise is added. Hint: DDIM puts the estimated noise back, and no other.")

    def step(keep: float = math.sqrt(to), add: float = math.sqrt(1 - to), estimate: Tensor | None = None) -> Tensor:
        x0 = (x - math.sqrt(1 - bar) * eps) / math.sqrt(bar)
        return keep * (x0 if estimate is None else estimate) + add * eps

    known = {
        "This is the estimate of x0 itself. Hint: only at ᾱ = 1 is that where you go; put noise back.": step(1, 0),
        "The noise has the scale of the level you come from. Hint: √(1−ᾱ) of the level you go to.": step(
            add=math.sqrt(1 - bar)
        ),
        "x0 has the scale of the level you come from. Hint: √ᾱ of the level you go to.": step(keep=math.sqrt(bar)),
        "ᾱ stands where its root belongs, in front of x0. Hint: √ᾱ.": step(keep=to),
        "1−ᾱ is a variance. Hint: the factor of the noise is √(1−ᾱ).": step(add=1 - to),
        "The noise was not put back. Hint: √ᾱ·x0 alone is too quiet; add √(1−ᾱ)·ε.": step(add=0),
        "The estimate of x0 lacks its roots. Hint: (x − √(1−ᾱ)·ε) / √ᾱ.": step(estimate=(x - (1 - bar) * eps) / bar),
        "The two levels are swapped. Hint: you come from bar_from, where x is, and go to bar_to.": math.sqrt(bar)
        * (x - math.sqrt(1 - to) * eps)
        / math.sqrt(to)
        + math.sqrt(1 - bar) * eps,
    }
    for hint, wrong in known.items():
        if _is(found, wrong):
            raise Mistake(hint)
    if not _is(found, step()):
        raise Mistake(f"For ᾱ from {bar} to {to} you return {found.tolist()}, expected {step().tolist()}.")
    clean = _tensor(function(x.clone(), eps.clone(), bar, 1.0), x.shape, "the image")
    if not _is(clean, step(1, 0)):
        raise Mistake("At ᾱ = 1 the result must be the estimate of x0. Hint: no noise is left there.")
    _say("x0 and ε are put together again at the lower level, and nothing random is added.")


def strided_posterior(function: Callable[[Tensor, Tensor, float, float], tuple[Tensor, float]]) -> None:
    """Check ``function(x, x0, bar_from, bar_to)``: mean and variance of q(x_to | x_from, x0), any distance apart."""
    x, x0, bar, to = torch.tensor([1.5, -0.4, 0.2]), torch.tensor([0.9, -0.7, 0.1]), 0.3, 0.75
    answer = function(x.clone(), x0.clone(), bar, to)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise Mistake("Return two things, the mean and the variance: return mean, variance.")
    found, variance = _tensor(answer[0], x.shape, "the mean"), _number(answer[1], "the variance")

    def mean(alpha: float = bar / to, front: float = to, left: float = 1 - to) -> Tensor:
        return (math.sqrt(front) * (1 - alpha) * x0 + math.sqrt(max(alpha, 0)) * left * x) / (1 - bar)

    known = {
        "(1−ᾱ_t) stands where (1−ᾱ_t') belongs, in front of x. Hint: arriving at ᾱ = 1, nothing of x may be left.": mean(
            left=1 - bar
        ),
        "√ᾱ_t stands where √ᾱ_t' belongs, in front of x0. Hint: x0 is scaled to the level you go to.": mean(front=bar),
        "α is ᾱ_t here, as if you went all the way to clean data. Hint: α = ᾱ_t / ᾱ_t'.": mean(alpha=bar),
        "α is ᾱ_t' here. Hint: α = ᾱ_t / ᾱ_t', what is left of the signal between the two levels.": mean(alpha=to),
        "α is turned over: it is above 1. Hint: α = ᾱ_t / ᾱ_t', and ᾱ_t is the smaller one.": mean(alpha=to / bar),
    }
    for hint, wrong in known.items():
        if _is(found, wrong):
            raise Mistake(hint)
    if not _is(found, mean()):
        raise Mistake(f"The mean is {found.tolist()}, expected {mean().tolist()}. Hint: α = ᾱ_t / ᾱ_t' and β = 1 − α.")
    beta = 1 - bar / to
    right = beta * (1 - to) / (1 - bar)
    if _is(variance, math.sqrt(right)):
        raise Mistake("This is the standard deviation. Hint: return the variance β·(1−ᾱ_t')/(1−ᾱ_t), without the root.")
    if _is(variance, beta):
        raise Mistake("This is β, the variance of the step up. Hint: the posterior is narrower: β·(1−ᾱ_t')/(1−ᾱ_t).")
    if not _is(variance, right):
        raise Mistake(
            f"The variance is {variance:.4f}, expected {right:.4f}. Hint: β·(1−ᾱ_t')/(1−ᾱ_t), β = 1 − ᾱ_t/ᾱ_t'."
        )
    _say("The mean and variance hold for two levels any distance apart.")


def order_of_convergence(function: Callable[[Tensor, Tensor], Tensor | float]) -> None:
    """Check ``function(steps, errors)``: the p of errors = C / steps^p, on exact power laws."""
    steps = torch.tensor([10.0, 30.0, 50.0, 80.0], dtype=torch.float64)
    for p, scale in ((1.0, 3.0), (2.0, 0.4), (1.5, 7.0)):
        errors = scale / steps**p
        found = _number(function(steps.clone(), errors.clone()), "the order")
        slope = ((steps - steps.mean()) * (errors - errors.mean())).sum() / (steps - steps.mean()).square().sum()
        if _is(found, -p):
            raise Mistake("The sign is turned. Hint: the error falls, its slope is −p, and the order is p.")
        if _is(found, slope, 1e-6) or _is(found, -slope, 1e-6):
            raise Mistake("This is the slope of the numbers themselves. Hint: take the logarithm of both.")
        if _is(found, (errors[0] / errors[-1]).log()) or _is(found, (errors[0] / errors[1]).log()):
            raise Mistake(
                "This is how much the error fell. Hint: divide by how much the steps rose, both in logarithms."
            )
        if _is(found, (errors[0] / errors[1]).log2()) or _is(found, (errors[0] / errors[-1]).log2()):
            raise Mistake("This takes for granted that the steps double. Hint: divide by the logarithm of their ratio.")
        if not _is(found, p, 1e-3):
            raise Mistake(f"For errors {scale} / steps^{p} you return {found:.3f}, expected {p}.")
    _say("The order is the slope of log error over log steps, turned positive.")


# Notebook 07: editing


class _Rung(NamedTuple):
    t: float
    alpha: float
    sigma: float


def edit_start(function: Callable[[Tensor, Tensor, list, float], tuple[Tensor, list]]) -> None:
    """Check ``function(image, eps, levels, t)``: the image at the first level at or below t, and the levels from there.

    ``levels`` is a list that falls from noise to data, each with t, alpha and sigma, numbers.
    """
    image, eps = torch.tensor([0.9, -0.7, 0.1]), torch.tensor([0.5, 1.3, -2.0])
    levels = [_Rung(t, 1 - t, t) for t in (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)]
    answer = function(image.clone(), eps.clone(), list(levels), 0.6)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise Mistake("Return two things, the noisy image and the levels that are left: return x, below.")
    for t, right in ((0.5, levels[3:]), (0.6, levels[2:]), (1.0, levels), (0.0, levels[5:])):
        x, below = function(image.clone(), eps.clone(), list(levels), t)
        times = [float(level.t) for level in below]
        if times != [level.t for level in right]:
            known = {
                "The run would begin at pure noise again. Hint: leave out the levels above t.": levels,
                "These are the levels above t. Hint: a run goes down, so keep those at or below t.": [
                    level for level in levels if level.t >= t
                ],
                "The level t itself is missing. Hint: keep the levels with level.t <= t.": [
                    level for level in levels if level.t < t
                ],
                "The levels rise. Hint: a run goes down to data; keep their order.": right[::-1],
                "The level to begin at is missing from the list. Hint: it is the first of those that are left.": right[
                    1:
                ],
            }
            for hint, wrong in known.items():
                if times == [level.t for level in wrong]:
                    raise Mistake(hint)
            raise Mistake(f"From t = {t} you return the levels {times}, expected {[level.t for level in right]}.")
        found, first = _tensor(x, image.shape, "the noisy image"), right[0]
        if _is(found, first.alpha * image + first.sigma * eps):
            continue
        known = {
            "No noise was added. Hint: the network is told that x is noisy, so it must be.": image,
            "The image was not made weaker. Hint: alpha * image + sigma * eps.": image + first.sigma * eps,
            "The factors are swapped. Hint: alpha goes with the image, sigma with eps.": first.sigma * image
            + first.alpha * eps,
            "This is the noise of the top level. Hint: take alpha and sigma of the level where the run begins.": eps,
            "The noise is that of t, but the run begins at the next level below. Hint: take alpha and sigma from it.": (
                1 - t
            )
            * image
            + t * eps,
        }
        for hint, wrong in known.items():
            if _is(found, wrong):
                raise Mistake(hint)
        raise Mistake(f"At t = {first.t} you return {found.tolist()}. Hint: alpha * image + sigma * eps.")
    _say("The run begins with the right noise, and only the levels below are left.")


def keep_known(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check ``function(x0, image, mask)``: x0 where the mask is 1, the image where it is 0, both (B, C, H, W)."""
    x0, image = torch.linspace(-1, 1, 48).reshape(3, 1, 4, 4), torch.linspace(2, 5, 48).reshape(3, 1, 4, 4)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 2:] = 1  # one mask for all three
    given = image.clone()
    found = _tensor(function(x0.clone(), given, mask.clone()), x0.shape, "the estimate")
    known = {
        "The mask is turned round. Hint: 1 is where something new is drawn, 0 is where the image is kept.": mask * image
        + (1 - mask) * x0,
        "The known part is missing. Hint: add (1 - mask) * image.": mask * x0,
        "The new part is missing. Hint: add mask * x0.": (1 - mask) * image,
        "The estimate shows through where the image is known. Hint: mask * x0, and the image only elsewhere.": x0
        + (1 - mask) * image,
        "The image shows through where something new is drawn. Hint: (1 - mask) * image.": mask * x0 + image,
        "This is a mean of both. Hint: each pixel comes from one of them.": (x0 + image) / 2,
        "Nothing was kept. Hint: where the mask is 0, take the image.": x0,
    }
    for hint, wrong in known.items():
        if _is(found, wrong):
            raise Mistake(hint)
    if not _is(found, mask * x0 + (1 - mask) * image):
        raise Mistake(
            "The pixels are neither those of x0 nor those of the image. Hint: mask * x0 + (1 - mask) * image."
        )
    if not torch.equal(given, image):
        raise Mistake("The image that was given has changed. Hint: make a new tensor instead of writing into it.")
    _say("Known pixels stay exactly as they are, and all others come from the estimate.")


def view(function: Callable[..., Tensor]) -> None:
    """Check ``function(x, back)``: a view of images x (B, C, H, H) that only moves pixels about, and the way back."""
    x = torch.randn(2, 1, 6, 6)
    seen = _tensor(function(x.clone(), back=False), x.shape, "what is seen")
    if _is(seen, x):
        raise Mistake("This view changes nothing. Hint: return the turned images.")
    found = _tensor(function(seen.clone(), back=True), x.shape, "what comes back")
    if _is(found, seen):
        raise Mistake("The way back changes nothing. Hint: undo what the view did.")
    if _is(found, function(seen.clone(), back=False)):
        raise Mistake("The way back turns once more in the same direction. Hint: undo it; the other direction.")
    if not _is(found, x):
        raise Mistake("After going there and back, the image is another one. Hint: the way back must undo the view.")
    if not _is(seen.square().sum(), x.square().sum()):
        raise Mistake(
            "The view makes the image brighter or darker, so that noise seen through it is no longer standard normal. "
            "Hint: only move pixels about."
        )
    pixels, there = x.abs().flatten(1).sort(1).values, seen.abs().flatten(1).sort(1).values
    if not _is(there, pixels):
        raise Mistake("The view mixes pixels with each other. Hint: each pixel must arrive somewhere as it is.")
    _say("The view only moves pixels about, and the way back leads to the same image.")


# Notebook 09: beyond digits


def huber(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check ``function(prediction, target)``: the mean of Huber's loss, which turns straight at a difference of 1."""
    prediction = torch.tensor([[0.5, -3.0], [2.0, 0.25], [0.0, -1.5]])
    target = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    d = (prediction - target).abs()
    found = _number(function(prediction.clone(), target.clone()), "the loss")
    right = torch.where(d < 1, d.square() / 2, d - 0.5)
    known = {
        "This is the squared error. Hint: from a difference of 1 on, the loss is |d| − ½.": d.square().mean(),
        "This is the absolute error. Hint: below a difference of 1, the loss is ½d².": d.mean(),
        "This is half the squared error. Hint: from a difference of 1 on, the loss is |d| − ½.": d.square().mean() / 2,
        "The ½ before d² is missing, so the two parts do not meet. Hint: ½d².": torch.where(
            d < 1, d.square(), d - 0.5
        ).mean(),
        "The straight part lies too high, so the two parts do not meet. Hint: |d| − ½.": torch.where(
            d < 1, d.square() / 2, d
        ).mean(),
        "The two parts are swapped. Hint: the parabola is for |d| < 1.": torch.where(
            d < 1, d - 0.5, d.square() / 2
        ).mean(),
        "The sign of the difference counts here. Hint: take its absolute value first.": torch.where(
            prediction - target < 1, d.square() / 2, (prediction - target) - 0.5
        ).mean(),
        "This is the sum. Hint: return the mean, so that the loss does not grow with the batch.": right.sum(),
    }
    for hint, wrong in known.items():
        if _is(found, wrong):
            raise Mistake(hint)
    if not _is(found, right.mean()):
        raise Mistake(f"For differences {d.flatten().tolist()} you return {found:.4f}, expected {right.mean():.4f}.")
    _say("The loss is a parabola near 0 and straight further out, and the two parts meet.")


def ema_step(function: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Check ``function(average, weight, decay)``: the running average after one update."""
    average, weight, decay = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([3.0, 1.0, -0.5]), 0.9
    found = _tensor(function(average.clone(), weight.clone(), decay), average.shape, "the average")
    known = {
        "The two factors are swapped. Hint: decay is close to 1, and goes with the average.": decay * weight
        + (1 - decay) * average,
        "The average only shrinks. Hint: add (1 − decay) times the new weights.": decay * average,
        "The new weights count in full. Hint: multiply them by 1 − decay, so that the factors add up to 1.": decay
        * average
        + weight,
        "This is a plain mean. Hint: the factors are decay and 1 − decay.": (average + weight) / 2,
        "The average did not move. Hint: add (1 − decay) times the new weights.": average,
        "These are the new weights. Hint: decay times the average, plus (1 − decay) times the weights.": weight,
    }
    for hint, wrong in known.items():
        if _is(found, wrong):
            raise Mistake(hint)
    if not _is(found, decay * average + (1 - decay) * weight):
        raise Mistake(f"You return {found.tolist()}. Hint: decay * average + (1 - decay) * weight.")
    _say("The average moves towards the weights by a share of 1 − decay.")


def even_weights(function: Callable[[Tensor], Tensor]) -> None:
    """Check ``function(labels)``: a positive weight for each image, with the same sum in each class."""
    labels = torch.tensor([1, 1, 0, 1, 2, 1, 2, 1])
    counts = labels.bincount()
    found = function(labels.clone())
    if isinstance(found, Tensor) and found.shape == counts.shape:
        raise Mistake("There is one weight for each class. Hint: index it with the labels, weights[labels].")
    found = _tensor(found, labels.shape, "the weights").double()
    if not bool((found > 0).all()):
        raise Mistake("Some weights are not positive: those images would never be drawn.")
    scaled = found / found.sum()
    known = {
        "All weigh the same, so the classes stay uneven. Hint: divide by the size of the class.": torch.ones(8),
        "Frequent classes weigh more here. Hint: divide by the size of the class, do not multiply.": counts[labels],
        "This goes too far: the rare class is drawn most. Hint: 1 / count, not its square.": 1 / counts[labels] ** 2,
    }
    for hint, wrong in known.items():
        if _is(scaled, wrong.double() / wrong.sum()):
            raise Mistake(hint)
    sums = torch.zeros(3, dtype=torch.float64).index_add(0, labels, scaled)
    if not _is(sums, torch.full((3,), 1 / 3)):
        raise Mistake(f"The classes have the shares {[round(s, 3) for s in sums.tolist()]}, expected a third each.")
    if any(len(scaled[labels == label].unique()) > 1 for label in range(3)):
        raise Mistake("Images of one class weigh differently. Hint: the weight depends on the class alone.")
    _say("Every class is drawn as often as the others, and all images of a class alike.")
