"""Noise schedules: how much signal and how much noise there is at each time.

Every path in this series is Gaussian: ``x = alpha * x0 + sigma * eps`` with ``eps ~ N(0, I)``.
Time runs from t = 0 (data) to t = 1 (noise). A schedule says what alpha and sigma are at t.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Level(NamedTuple):
    """A point on the path: time ``t`` in [0, 1], signal scale ``alpha``, noise scale ``sigma``.

    Each is a float64 tensor on the CPU, of shape () for one level or (B,) for one level per image;
    ``like`` takes it to where it is used.
    """

    t: Tensor
    alpha: Tensor
    sigma: Tensor

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio, alpha² / sigma²; infinite at t = 0."""
        return self.alpha.square() / self.sigma.square()

    def like(self, x: Tensor) -> Level:
        """The same level ready to be combined with ``x`` (B, ...), see ``per_image``; twice is the same as once."""
        if not x.is_floating_point():
            raise ValueError(f"images of {x.dtype}: expected floats (scale them first, see data.symmetric)")
        return Level(*(per_image(part, x) for part in self))


def per_image(values: Tensor, x: Tensor) -> Tensor:
    """Values, () for all images or (B,) one each, in the dtype of ``x`` (B, ...) and shaped to broadcast: (B, 1, ...).

    A value for all stays on the CPU, since torch combines it with images on any device and nothing waits for a GPU.
    Raises ValueError unless there is one for all or one for each image.
    """
    values = values.to(x.dtype) if values.is_floating_point() else values
    if values.ndim != 1:
        return values
    if len(values) != len(x):
        raise ValueError(f"{len(values)} levels for {len(x)} images: expected one each")
    return values.to(x.device, non_blocking=True).reshape(-1, *[1] * (x.ndim - 1))


@dataclass(frozen=True)
class Schedule:
    """A Gaussian path: call it with t in [0, 1] (a float or a tensor) to get the ``Level``.

    ``T`` is the number of noising steps of a tabulated schedule: its table has T + 1 entries,
    entry 0 is clean data, and t is read at the nearest entry, round(t * T). A continuous
    schedule has ``T = None``.
    """

    name: str
    T: int | None
    scales: Callable[[Tensor], tuple[Tensor, Tensor]]

    def __call__(self, t: float | Tensor) -> Level:
        t = torch.as_tensor(t, dtype=torch.float64, device="cpu")
        if not bool(((t >= 0) & (t <= 1)).all()):
            raise ValueError(f"t = {t.tolist()}: expected times in [0, 1], 0 is data and 1 is noise")
        if self.T is not None:
            t = (t * self.T).round() / self.T
        return Level(t, *self.scales(t))

    def grid(self, steps: int, spacing: str = "uniform") -> list[Level]:
        """The ``steps + 1`` levels of a sampling run, from t = 1 to t = 0.

        ``spacing``: "uniform" in time (diffusers calls it trailing); "log_snr", uniform in log(alpha / sigma);
        "karras", uniform in (sigma / alpha)^(1/7), which spends more steps where there is little noise. The last two
        begin their spacing at sigma / alpha = 80 if t = 1 has no signal, end it at 0.002 (or at the first entry of a
        table), and take the last step from there. In a table no entry is taken twice.
        Raises ValueError unless 1 <= steps <= T, and for another spacing.
        Sources: Lu et al. 2022 (arXiv:2206.00927), section 3.1; Karras et al. 2022 (arXiv:2206.00364), equation 5.
        """
        most = self.T if self.T is not None else math.inf
        if not (isinstance(steps, int) and 1 <= steps <= most):
            raise ValueError(f"steps = {steps}: expected a whole number, 1 to {most} for the {self.name} schedule")
        if spacing not in ("uniform", "log_snr", "karras"):
            raise ValueError(f"spacing {spacing!r}: expected 'uniform', 'log_snr' or 'karras'")
        if spacing == "uniform" or steps == 1:
            return [self(t) for t in torch.linspace(1, 0, steps + 1, dtype=torch.float64)]
        known = torch.linspace(0, 1, (self.T or 20_000) + 1, dtype=torch.float64)[1:]
        level = self(known)
        log_ratio = (level.sigma / level.alpha.clamp(min=1e-9)).log()  # rises with t
        low = math.log(0.002) if self.T is None else log_ratio[0].item()
        high = min(log_ratio[-1].item(), math.log(80))
        share = torch.linspace(1, 0, steps, dtype=torch.float64)
        if spacing == "log_snr":
            wanted = low + share * (high - low)
        else:
            wanted = 7 * (math.exp(low / 7) + share * (math.exp(high / 7) - math.exp(low / 7))).log()
        times = torch.from_numpy(np.interp(wanted, log_ratio, known))
        times[0] = 1
        if self.T is not None:
            place = torch.arange(steps)
            # Rounding must not take an entry twice: each is at least 1 below the one before it.
            entries = ((times * self.T).round() + place).cummin(0).values - place
            times = torch.maximum(entries, steps - place) / self.T
        return [self(t) for t in [*times, 0.0]]

    def draw(self, n: int) -> Tensor:
        """``n`` training times, (n,): uniform over 1/T ... T/T, or over (0, 1) if continuous."""
        if self.T is not None:
            return torch.randint(1, self.T + 1, (n,)).double() / self.T
        return torch.rand(n, dtype=torch.float64)

    def stratified(self, n: int) -> Tensor:
        """As ``draw``, but one time in each of ``n`` equally likely strata, in random order.

        Each time alone is as likely as by ``draw``; together they lower the variance of the batch loss.
        Source: after the low-discrepancy sampler of Kingma et al. 2021 (arXiv:2107.00630).
        """
        u = _strata(n)
        return u if self.T is None else ((u * self.T).floor() + 1) / self.T


def _strata(n: int) -> Tensor:
    """``n`` numbers in [0, 1), float64, one in each of ``n`` equal intervals, in random order."""
    u = (torch.randperm(n).double() + torch.rand(n, dtype=torch.float64)) / n
    return u.clamp(max=1 - 2**-53)  # the sum can round up to n


def tabulated(name: str, betas: Tensor) -> Schedule:
    """The variance-preserving schedule of the betas (T,), float64: alpha² = prod(1 - beta), entry 0 is 1.

    Source: Ho et al. 2020 (arXiv:2006.11239), equation 4.
    """
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas, 0)])
    T = len(betas)

    def scales(t: Tensor) -> tuple[Tensor, Tensor]:
        at = alpha_bar[(t * T).round().long()]
        return at.sqrt(), (1 - at).sqrt()

    return Schedule(name, T, scales)


def _check_steps(T: int) -> None:
    if not isinstance(T, int) or T < 1:
        raise ValueError(f"T = {T!r}: expected a whole number of steps, 1 or more")


def linear_beta(T: int = 1000, first: float = 1e-4, last: float = 0.02) -> Schedule:
    """The DDPM schedule: beta rises linearly from ``first`` to ``last`` in ``T`` steps.

    The betas are not rescaled when T changes, as in the course recipe: at T = 300 the last level
    still holds some signal. Raises ValueError unless T >= 1 and 0 < first <= last < 1.
    Source: Ho et al. 2020 (arXiv:2006.11239), section 4.
    """
    _check_steps(T)
    if not 0 < first <= last < 1:
        raise ValueError(f"beta from {first} to {last}: expected 0 < first <= last < 1")
    return tabulated("linear_beta", torch.linspace(first, last, T, dtype=torch.float64))


def cosine(T: int = 1000, offset: float = 0.008) -> Schedule:
    """The cosine schedule: alpha_bar follows cos², each beta at most 0.999.

    Raises ValueError unless T >= 1 and 0 <= offset < 1.
    Source: Nichol and Dhariwal 2021 (arXiv:2102.09672), equation 17.
    """
    _check_steps(T)
    if not 0 <= offset < 1:
        raise ValueError(f"offset = {offset}: expected 0 <= offset < 1")
    t = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    f = torch.cos((t + offset) / (1 + offset) * math.pi / 2).square()
    return tabulated("cosine", (1 - f[1:] / f[:-1]).clamp(max=0.999))


def flow() -> Schedule:
    """The straight path of flow matching: alpha = 1 - t, sigma = t, for continuous t.

    Source: Lipman et al. 2023 (arXiv:2210.02747), example II; Liu et al. 2023 (arXiv:2209.03003).
    """
    return Schedule("flow", None, lambda t: (1 - t, t))


def noise(x0: Tensor, level: Level, eps: Tensor) -> Tensor:
    """The noisy image ``alpha * x0 + sigma * eps``, shape of ``x0`` (B, ...), in one step.

    Raises ValueError when ``eps`` and ``x0`` differ in shape, ``x0`` is not of floats, or there is not
    one level or one level per image. Source: Ho et al. 2020, equation 4.
    """
    if eps.shape != x0.shape:
        raise ValueError(f"eps has shape {tuple(eps.shape)}: expected that of x0, {tuple(x0.shape)}")
    _, alpha, sigma = level.like(x0)
    return alpha * x0 + sigma * eps


def logit_normal(n: int) -> Tensor:
    """``n`` training times (n,) in (0, 1) that favour the middle of the path, stratified.

    t = sigmoid(z) with z ~ N(0, 1); one draw falls in each of n equally likely strata, which
    lowers the variance of the batch loss. Source: Esser et al. 2024 (arXiv:2403.03206), section 3.1.
    """
    u = _strata(n)
    return torch.special.ndtri(u.clamp(1e-6, 1 - 1e-6)).sigmoid()


def noisy_end(n: int) -> Tensor:
    """``n`` training times (n,) in (0, 1] that favour the noisy end, stratified: t = 1 - u² with u in [0, 1).

    There a network has to learn what the caption says and the noise does not; logit-normal times hardly go there.
    """
    return 1 - _strata(n) ** 2
