"""The learner's checks: the right answer passes, the stub fails, and each known mistake gets its own hint."""

import math
import re
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from diffusion_helpers import checks, schedules

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
REGION = re.compile(r"^( *)### BEGIN SOLUTION.*?### END SOLUTION", re.DOTALL | re.MULTILINE)


def exercises() -> list:
    """(cells that define things, the solution cell, its check cell), one for each exercise of each notebook."""
    found = []
    for path in NOTEBOOKS:
        before: list[str] = []
        for cell in nbformat.read(path, as_version=4).cells:
            role = cell.metadata.get("nbgrader", {})
            if "setup" in cell.metadata.get("tags", []):
                before.append(re.sub(r"^ +%pip.*$", "    pass", cell.source, flags=re.MULTILINE))
            if role.get("solution"):
                solution = cell.source
            if role.get("grade"):
                found.append(pytest.param(list(before), solution, cell.source, id=f"{path.stem}: {role['grade_id']}"))
                before.append(solution)
    return found


def run(cells: list[str]) -> None:
    namespace: dict = {}
    for cell in cells:
        exec(cell, namespace)  # noqa: S102


def test_every_lesson_has_exercises() -> None:
    assert len(exercises()) >= 3 * len(NOTEBOOKS) > 0


@pytest.mark.parametrize(("before", "solution", "check"), exercises())
def test_the_solution_passes_and_says_what_it_established(before, solution, check, capsys) -> None:
    run([*before, solution, check])
    assert capsys.readouterr().out.startswith("✓ ")


@pytest.mark.parametrize(("before", "solution", "check"), exercises())
def test_the_stub_does_not_pass(before, solution, check) -> None:
    stub, regions = REGION.subn(r"\1raise NotImplementedError()", solution)
    assert regions == 1
    with pytest.raises((NotImplementedError, checks.Mistake)):
        run([*before, stub, check])
    without, _ = REGION.subn(r"\1pass", solution)
    with pytest.raises(checks.Mistake):
        run([*before, without, check])


BARS = schedules.linear_beta(300)
NULL = 10
TURNS = cycle([True, False])


def forward(image: Callable[[float], float], share: Callable[[float], float], draw=torch.randn_like):
    def step(x0, bar):
        eps = draw(x0)
        return image(bar) * x0 + share(bar) * eps, eps

    return step


def chain(image: Callable[[float], float], share: Callable[[float], float], draw=torch.randn_like):
    return lambda x, beta: image(beta) * x + share(beta) * draw(x)


def loss_of(sigma=lambda s: s, draw=torch.randn_like, target=lambda x, z, eps: x, see=lambda z: z, error=F.mse_loss):
    def loss(net, x, s):
        eps = draw(x)
        z = see(x + sigma(s) * eps)
        return error(net(z), target(x, z, eps))

    return loss


def seen_twice(measure):
    return lambda net, x, sigma: measure(net(x + sigma * torch.randn_like(x)), x + sigma * torch.randn_like(x), x)


def decibel(estimate, x):
    return -10 * (estimate - x).square().mean().log10().item()


def time_loss(
    draw=torch.randn_like,
    draw_t=lambda n, T: torch.randint(1, T + 1, (n,)),
    target=lambda x0, x, eps: eps,
    root=torch.sqrt,
    scale=True,
):
    def loss(net, x0, bars):
        T = len(bars) - 1
        t = draw_t(len(x0), T)
        bar = bars[t].reshape(-1, 1, 1, 1)
        eps = draw(x0)
        x = root(bar) * x0 + root(1 - bar) * eps
        return F.mse_loss(net(x, t / T if scale else t), target(x0, x, eps))

    return loss


def reverse(
    last_noise=False,
    third=lambda bar, before: 1 - before,
    root_x0=True,
    front=lambda bar, before: before,
    std=torch.sqrt,
):
    def step(x, eps, bars, t):
        bar, before = bars[t], bars[t - 1]
        alpha, beta = bar / before, 1 - bar / before
        x0 = (x - (1 - bar).sqrt() * eps) / bar.sqrt() if root_x0 or t == 1 else (x - (1 - bar) * eps) / bar
        mean = before.sqrt() * beta / (1 - bar) * x0 + alpha.sqrt() * (1 - before) / (1 - bar) * x
        if t > 1:
            mean = front(bar, before).sqrt() * beta / (1 - bar) * x0 + alpha.sqrt() * third(bar, before) / (1 - bar) * x
        return mean + std(beta) * torch.randn_like(x) if t > 1 or last_noise else mean

    return step


def fixed_count(y, p, null):
    y[torch.randperm(len(y))[: int(p * len(y))]] = null
    return y


def dropped(keep=lambda y, p: torch.rand(len(y)) >= p, to=lambda y, null: torch.full_like(y, null)):
    return lambda y, p, null: torch.where(keep(y, p), y, to(y, null))


def blended(first, last, share, swap=False, norm=False):
    one, other = torch.eye(10)[[first, last]]
    row = share * one + (1 - share) * other if swap else (1 - share) * one + share * other
    return row / row.norm() if norm else row


def distance(
    means: Callable = lambda d: d.square().sum(),
    times: float = 2,
    root: Callable = lambda c1, c2: torch.linalg.eigvals(c1 @ c2).real.sqrt().sum(),
) -> Callable:
    """A Frechet distance, right but for what is given."""
    return lambda m1, c1, m2, c2: means(m1 - m2) + c1.trace() + c2.trace() - times * root(c1, c2)


def apart(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.cdist(x.flatten(1), y.flatten(1))


ones = torch.ones(1)


def deterministic(keep=math.sqrt, add=lambda to: math.sqrt(1 - to), roots=True, at=lambda bar, to: (to, to), fresh=0.0):
    """A DDIM step: the scales of x0 and eps as functions of one alpha_bar, ``at`` picks which."""

    def step(x, eps, bar, to):
        x0 = (x - (1 - bar) ** (0.5 if roots else 1) * eps) / bar ** (0.5 if roots else 1)
        first, second = at(bar, to)
        return keep(first) * x0 + add(second) * eps + fresh * torch.randn_like(x)

    return step


def posterior(alpha=lambda bar, to: bar / to, front=lambda bar, to: to, left=lambda bar, to: 1 - to, spread=None):
    def step(x, x0, bar, to):
        a = alpha(bar, to)
        mean = (front(bar, to) ** 0.5 * (1 - a) * x0 + a**0.5 * left(bar, to) * x) / (1 - bar)
        return mean, (spread or (lambda bar, to: (1 - bar / to) * (1 - to) / (1 - bar)))(bar, to)

    return step


def begun(first=lambda below, levels: below[0], below=lambda levels, t: [level for level in levels if level.t <= t]):
    def start(image, eps, levels, t):
        left = below(levels, t)
        level = first([level for level in levels if level.t <= t], levels)
        return level.alpha * image + level.sigma * eps, left

    return start


def begun_with(mix: Callable) -> Callable:
    """A start with the right levels, and the image ``mix(image, eps, level, t)``."""

    def start(image, eps, levels, t):
        below = [level for level in levels if level.t <= t]
        return mix(image, eps, below[0], t), below

    return start


ORTHOGONAL = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))[0]


def seen_as(look: Callable, undo: Callable) -> Callable:
    return lambda x, back: undo(x) if back else look(x)


def left(x: torch.Tensor) -> torch.Tensor:
    return x.rot90(1, (-2, -1))


def right(x: torch.Tensor) -> torch.Tensor:
    return x.rot90(-1, (-2, -1))


def bent(near: Callable, far: Callable) -> Callable:
    """The mean of ``near`` below a difference of 1, and of ``far`` from there on."""
    return lambda a, b: torch.where((a - b).abs() < 1, near((a - b).abs()), far((a - b).abs())).mean()


def overwritten(x0, image, mask):
    image[mask.expand_as(image) == 1] = x0[mask.expand_as(image) == 1]
    return image


MISTAKES = {
    checks.edit_start: [
        (lambda image, eps, levels, t: image, "Return two things"),
        (begun(below=lambda levels, t: levels), "begin at pure noise again"),
        (begun(below=lambda levels, t: [level for level in levels if level.t >= t]), "levels above t"),
        (begun(below=lambda levels, t: [level for level in levels if level.t < t]), "level t itself is missing"),
        (begun(below=lambda levels, t: [level for level in levels if level.t <= t][::-1]), "levels rise"),
        (
            begun(below=lambda levels, t: [level for level in levels if level.t <= t][1:]),
            "level to begin at is missing",
        ),
        (begun(below=lambda levels, t: levels[::2]), "you return the levels"),
        (begun(first=lambda below, levels: levels[0]), "noise of the top level"),
        (begun_with(lambda image, eps, level, t: image), "No noise was added"),
        (begun_with(lambda image, eps, level, t: image + level.sigma * eps), "not made weaker"),
        (begun_with(lambda image, eps, level, t: level.sigma * image + level.alpha * eps), "swapped"),
        (begun_with(lambda image, eps, level, t: (1 - t) * image + t * eps), "noise is that of t"),
        (begun_with(lambda image, eps, level, t: level.alpha**2 * image + level.sigma * eps), "alpha * image"),
    ],
    checks.keep_known: [
        (lambda x0, image, mask: mask * image + (1 - mask) * x0, "turned round"),
        (lambda x0, image, mask: mask * x0, "known part is missing"),
        (lambda x0, image, mask: (1 - mask) * image, "new part is missing"),
        (lambda x0, image, mask: x0 + (1 - mask) * image, "The estimate shows through"),
        (lambda x0, image, mask: mask * x0 + image, "The image shows through"),
        (lambda x0, image, mask: (x0 + image) / 2, "a mean of both"),
        (lambda x0, image, mask: x0, "Nothing was kept"),
        (lambda x0, image, mask: x0 * 0, "neither those"),
        (overwritten, "has changed"),
    ],
    checks.view: [
        (seen_as(lambda x: x, lambda x: x), "changes nothing"),
        (seen_as(left, lambda x: x), "way back changes nothing"),
        (seen_as(left, left), "once more in the same direction"),
        (seen_as(left, lambda x: x.flip(-1)), "must undo"),
        (seen_as(lambda x: 2 * left(x), lambda x: right(x) / 2), "brighter or darker"),
        (seen_as(lambda x: ORTHOGONAL @ x, lambda x: ORTHOGONAL.T @ x), "mixes pixels"),
    ],
    checks.huber: [
        (F.mse_loss, "squared error. Hint"),
        (F.l1_loss, "absolute error"),
        (lambda a, b: F.mse_loss(a, b) / 2, "half the squared error"),
        (bent(lambda d: d**2, lambda d: d - 0.5), "½ before d² is missing"),
        (bent(lambda d: d**2 / 2, lambda d: d), "lies too high"),
        (bent(lambda d: d - 0.5, lambda d: d**2 / 2), "swapped"),
        (lambda a, b: torch.where(a - b < 1, (a - b) ** 2 / 2, a - b - 0.5).mean(), "sign of the difference"),
        (lambda a, b: F.huber_loss(a, b, reduction="sum"), "This is the sum"),
        (lambda a, b: torch.tensor(1.0), "expected"),
        (lambda a, b: F.huber_loss(a, b, reduction="none"), "expected a number"),
    ],
    checks.ema_step: [
        (lambda average, weight, decay: decay * weight + (1 - decay) * average, "swapped"),
        (lambda average, weight, decay: decay * average, "only shrinks"),
        (lambda average, weight, decay: decay * average + weight, "count in full"),
        (lambda average, weight, decay: (average + weight) / 2, "plain mean"),
        (lambda average, weight, decay: average, "did not move"),
        (lambda average, weight, decay: weight, "are the new weights"),
        (lambda average, weight, decay: 0 * weight, "decay * average"),
    ],
    checks.even_weights: [
        (lambda y: 1 / y.bincount(), "index it with the labels"),
        (lambda y: torch.ones(len(y)), "All weigh the same"),
        (lambda y: y.bincount()[y].float(), "Frequent classes weigh more"),
        (lambda y: 1 / y.bincount()[y] ** 2, "goes too far"),
        (lambda y: 1.0 - (y == 1).float(), "not positive"),
        (lambda y: torch.where(y == 1, 1.0, 5.0), "have the shares"),
        (lambda y: torch.tensor([1, 1, 10, 2, 5, 3, 5, 3.0]), "weigh differently"),
    ],
    checks.ddim_step: [
        (deterministic(fresh=0.1), "fresh noise is added"),
        (lambda x, eps, bar, to: (x - (1 - bar) ** 0.5 * eps) / bar**0.5, "estimate of x0 itself"),
        (deterministic(at=lambda bar, to: (to, bar)), "noise has the scale of the level you come from"),
        (deterministic(at=lambda bar, to: (bar, to)), "x0 has the scale of the level you come from"),
        (deterministic(keep=lambda bar: bar), "its root belongs"),
        (deterministic(add=lambda bar: 1 - bar), "is a variance"),
        (deterministic(add=lambda bar: 0), "not put back"),
        (deterministic(roots=False), "lacks its roots"),
        (lambda x, eps, bar, to: deterministic()(x, eps, to, bar), "swapped"),
        (lambda x, eps, bar, to: deterministic()(x, eps, bar, to) + 1, "expected"),
        (lambda x, eps, bar, to: deterministic()(x, eps, bar, min(to, 0.9)), "At ᾱ = 1"),
    ],
    checks.strided_posterior: [
        (lambda x, x0, bar, to: posterior()(x, x0, bar, to)[0], "Return two things"),
        (posterior(left=lambda bar, to: 1 - bar), "(1−ᾱ_t') belongs"),
        (posterior(front=lambda bar, to: bar), "√ᾱ_t' belongs"),
        (posterior(alpha=lambda bar, to: bar), "all the way to clean data"),
        (posterior(alpha=lambda bar, to: to), "α is ᾱ_t' here"),
        (posterior(alpha=lambda bar, to: to / bar), "turned over"),
        (lambda x, x0, bar, to: (x, 0.1), "The mean is"),
        (posterior(spread=lambda bar, to: ((1 - bar / to) * (1 - to) / (1 - bar)) ** 0.5), "standard deviation"),
        (posterior(spread=lambda bar, to: 1 - bar / to), "variance of the step up"),
        (posterior(spread=lambda bar, to: 0.1), "The variance is"),
    ],
    checks.order_of_convergence: [
        (lambda n, e: np.polyfit(n.log().numpy(), e.log().numpy(), 1)[0], "sign is turned"),
        (lambda n, e: -np.polyfit(n.numpy(), e.numpy(), 1)[0], "logarithm of both"),
        (lambda n, e: (e[0] / e[-1]).log(), "how much the error fell"),
        (lambda n, e: (e[0] / e[1]).log2(), "that the steps double"),
        (lambda n, e: 1.0, "expected 2.0"),
    ],
    checks.alpha_bar: [
        (lambda b: torch.cumprod(1 - b, 0), "put ᾱ₀ = 1 in front"),
        (lambda b: torch.cat([ones, torch.cumsum(1 - b, 0)]), "use a product"),
        (lambda b: torch.cumsum(1 - b, 0), "use a product"),
        (lambda b: torch.cat([ones, torch.cumprod(b, 0)]), "multiply what stays"),
        (lambda b: torch.cumprod(b, 0), "multiply what stays"),
        (lambda b: 1 - b, "product of all of them"),
        (lambda b: torch.cat([ones, torch.cumprod(1 - b, 0)]).sqrt(), "return ᾱ itself"),
        (lambda b: torch.cat([torch.cumprod(1 - b, 0), ones]), "comes first"),
        (lambda b: None, "forget to return"),
        (lambda b: torch.zeros(5), "expected [1.0"),
    ],
    checks.forward_step: [
        (forward(lambda b: b, lambda b: 1 - b), "scaled by the roots"),
        (forward(lambda b: b, lambda b: (1 - b) ** 0.5), "its factor is √ᾱ"),
        (forward(lambda b: b**0.5, lambda b: 1 - b), "the factor is √(1−ᾱ)"),
        (forward(lambda b: 1, lambda b: (1 - b) ** 0.5), "variance grows above 1"),
        (forward(lambda b: (1 - b) ** 0.5, lambda b: b**0.5), "swapped"),
        (forward(lambda b: b**0.5, lambda b: 1), "its factor is √(1−ᾱ)"),
        (forward(lambda b: b**0.5, lambda b: (1 - b) ** 0.5, torch.rand_like), "not rand_like"),
        (
            forward(lambda b: b**0.5, lambda b: (1 - b) ** 0.5, lambda x: torch.randn_like(x[:1]).expand_as(x)),
            "batch included",
        ),
        (forward(lambda b: b**0.5, lambda b: (1 - b) ** 0.5, torch.ones_like), "same number everywhere"),
        (lambda x, b: x, "return x_t, eps"),
        (lambda x, b: (b**0.5 * x + (1 - b) ** 0.5 * torch.randn_like(x), torch.randn_like(x)), "same eps in both"),
    ],
    checks.chain_step: [
        (chain(lambda b: 1, lambda b: b**0.5), "it explodes"),
        (chain(lambda b: 1 - b, lambda b: b**0.5), "its factor is √(1−β)"),
        (chain(lambda b: (1 - b) ** 0.5, lambda b: b), "its root √β"),
        (chain(lambda b: (1 - b) ** 0.5, lambda b: b**0.5, torch.rand_like), "not rand_like"),
        (chain(lambda b: (1 - b) ** 0.5, lambda b: b**0.5, torch.zeros_like), "same noise"),
        (
            lambda x, b: (1 - b) ** 0.5 * x + b**0.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)),
            "no seed",
        ),
    ],
    checks.signal_left: [
        (BARS(1.0).alpha.item() ** 2, "multiplied by its root"),
        (BARS(1.0).sigma.item(), "the signal is √ᾱ"),
        (BARS(1.0).snr.item(), "√ᾱ alone"),
        (schedules.linear_beta(1000)(0.3).alpha.item(), "with T = 300"),
        (0.5, "not √ᾱ at T = 300"),
        (None, "expected a number"),
    ],
    checks.denoising_loss: [
        (loss_of(sigma=lambda s: s**2), "multiply the noise by σ itself"),
        (loss_of(sigma=math.sqrt), "not a variance"),
        (loss_of(sigma=lambda s: 1), "σ·eps"),
        (loss_of(draw=torch.rand_like), "not rand_like"),
        (loss_of(see=lambda z: z.clamp(0, 1)), "clamping bends"),
        (loss_of(sigma=lambda s: 0), "give it z"),
        (loss_of(target=lambda x, z, eps: z), "teaches the network to copy"),
        (loss_of(target=lambda x, z, eps: eps), "the target is x"),
        (loss_of(error=lambda a, b: (a - b).square().sum()), "take their mean"),
        (loss_of(error=F.l1_loss), "square the difference"),
        (loss_of(error=lambda a, b: F.mse_loss(a, b).sqrt()), "leave the root away"),
        (lambda net, x, s: x.mean(), "never called"),
    ],
    checks.psnr: [
        (lambda a, b: -decibel(a, b), "sign is turned"),
        (lambda a, b: 2 * decibel(a, b), "The factor is 20"),
        (lambda a, b: decibel(a, b) / 2, "root was taken"),
        (lambda a, b: -10 * (a - b).square().mean().log().item(), "log10"),
        (lambda a, b: decibel(a, b) / 10, "factor 10 is missing"),
        (lambda a, b: decibel(a, b) + 20 * math.log10(255), "the peak is 1"),
        (
            lambda a, b: -10 * (a - b).square().mean((1, 2, 3)).clamp(1e-9).log10().mean().item(),
            "one mean over everything",
        ),
    ],
    checks.gain: [
        (seen_twice(lambda answer, z, x: decibel(answer, x) - decibel(z, x)), "one z for both"),
        (
            lambda net, x, s: (lambda z: decibel(z, x) - decibel(net(z), x))(x + s * torch.randn_like(x)),
            "sign is turned",
        ),
        (
            lambda net, x, s: (lambda z: (decibel(net(z), x) - decibel(z, x)) / 2)(x + s * torch.randn_like(x)),
            "against x",
        ),
    ],
    checks.best_constant: [
        (lambda images: images.mean(), "dim 0"),
        (lambda images: images.median(0).values, "median"),
        (lambda images: images[0], "no single digit"),
        (lambda images: torch.zeros_like(images[0]), "expected the mean"),
    ],
    checks.time_condition: [
        (lambda h1, h2, t, T, t1, t2: (h1 + t2(t[:, None] / T), h2 + t1(t[:, None] / T)), "swapped"),
        (lambda h1, h2, t, T, t1, t2: (h1 + t1(t[:, None]), h2 + t2(t[:, None])), "t / T"),
        (lambda h1, h2, t, T, t1, t2: (h1 * t1(t[:, None] / T), h2 * t2(t[:, None] / T)), "it is added"),
        (lambda h1, h2, t, T, t1, t2: (h1 + t1(t / T), h2 + t2(t / T)), "t[:, None]"),
        (lambda h1, h2, t, T, t1, t2: (h1, h2), "does not change with t"),
    ],
    checks.ddpm_loss: [
        (time_loss(draw_t=lambda n, T: torch.randint(0, T + 1, (n,))), "clean data"),
        (time_loss(draw_t=lambda n, T: torch.randint(1, T, (n,))), "leaves the upper end out"),
        (time_loss(draw_t=lambda n, T: torch.randint(1, T + 1, (1,)).expand(n)), "draw one for each image"),
        (time_loss(scale=False), "t / T"),
        (time_loss(draw=torch.rand_like), "not rand_like"),
        (time_loss(draw=lambda x: torch.randn_like(x[:1]).expand_as(x)), "batch included"),
        (time_loss(root=lambda bar: bar), "factors are their roots"),
        (time_loss(target=lambda x0, x, eps: x0), "compared with the clean"),
        (time_loss(target=lambda x0, x, eps: x), "compared with the noisy"),
        (time_loss(target=lambda x0, x, eps: -eps), "the target is +eps"),
    ],
    checks.reverse_step: [
        (reverse(last_noise=True), "last step"),
        (reverse(third=lambda bar, before: 1 - bar), "(1−ᾱ_{t−1}) belongs"),
        (reverse(root_x0=False), "root is missing"),
        (reverse(front=lambda bar, before: bar), "√ᾱ_{t−1} belongs"),
        (reverse(std=lambda beta: beta), "its root √β_t"),
        (reverse(std=torch.zeros_like), "No noise is added at all"),
        (reverse(std=torch.ones_like), "expected √β_t"),
    ],
    checks.drop_labels: [
        (dropped(to=lambda y, null: torch.zeros_like(y)), "the digit 0"),
        (dropped(to=lambda y, null: torch.full_like(y, -1)), "become -1"),
        (fixed_count, "same number"),
        (dropped(keep=lambda y, p: torch.rand(len(y)) < p), "turned"),
        (dropped(keep=lambda y, p: torch.tensor(next(TURNS)).expand(len(y))), "one random number for each"),
        (lambda y, p, null: y, "No label is dropped"),
        (dropped(keep=lambda y, p: torch.rand(len(y)) >= 0.6), "expected 25%"),
        (
            dropped(keep=lambda y, p: torch.rand(len(y), generator=torch.Generator().manual_seed(0)) >= p),
            "same labels are dropped every time",
        ),
    ],
    checks.guided_eps: [
        (lambda c, u, g: c + g * (c - u), "γ is used as w"),
        (lambda c, u, g: c + g * (u - c), "swapped"),
        (lambda c, u, g: u - g * (c - u), "sign is turned"),
        (lambda c, u, g: g * c + u, "does not leave equal answers alone"),
        (lambda c, u, g: u + (c - u) / g, "goes past c"),
    ],
    checks.gamma_to_w: [
        (lambda g: g, "w is not γ"),
        (lambda g: g + 1, "other way round"),
        (lambda g: -g, "expected -1, 0, 4"),
    ],
    checks.interpolate_labels: [
        (lambda a, b, s: (1 - s) * a + s * b, "no digit 5½"),
        (lambda a, b, s: blended(a, b, s), "divide by its norm"),
        (lambda a, b, s: blended(a, b, s, swap=True, norm=True), "ends are swapped"),
        (lambda a, b, s: torch.eye(10)[a], "not the one-hot rows"),
    ],
    checks.frechet: [
        (distance(means=lambda d: d.norm()), "not squared"),
        (distance(means=lambda d: d.square().mean()), "averaged over the components"),
        (distance(times=1), "taken once"),
        (distance(times=-2), "is added"),
        (lambda m1, c1, m2, c2: (m1 - m2).square().sum(), "left out"),
        (distance(root=lambda c1, c2: (c1 @ c2).trace()), "root is missing"),
        (distance(root=lambda c1, c2: (c1 @ c2).sqrt().trace()), "each entry of the matrix"),
        (distance(root=lambda c1, c2: torch.linalg.eigvals(c1 * c2).real.sqrt().sum()), "entry by entry"),
        (lambda *given: distance()(*given).sqrt(), "root of the distance"),
    ],
    checks.limit_of_many: [
        (lambda n, v: np.polyfit(1 / n, v, 1)[0].item(), "slope"),
        (lambda n, v: np.polyfit(n, v, 1)[1].item(), "fitted over N"),
        (lambda n, v: v[-1], "largest N"),
        (lambda n, v: v.mean(), "mean of the values"),
        (lambda n, v: np.polyval(np.polyfit(1 / n, v, 1), 1.0).item(), "read at 1/N = 1"),
    ],
    checks.nearest_distances: [
        (lambda x, y: apart(x, y).min(0).values, "One number for each training image"),
        (lambda x, y: apart(x, y).square().min(1).values, "squared distances"),
        (lambda x, y: apart(x, y).max(1).values, "farthest"),
        (lambda x, y: apart(x, y).mean(1), "mean distances"),
        (lambda x, y: apart(x, y).min(1).indices, "indices"),
        (lambda x, y: (x[:, None] - y).square().flatten(2).mean(2).min(1).values, "per pixel"),
        (lambda x, y: (x[:, None] - y).abs().flatten(2).amax(2).min(1).values, "in one pixel"),
        (lambda x, y: (x[:, None] - y).abs().flatten(2).sum(2).min(1).values, "absolute"),
    ],
}


@pytest.mark.parametrize(
    ("check", "answer", "hint"),
    [
        pytest.param(check, answer, hint, id=f"{check.__name__}: {hint}")
        for check, known in MISTAKES.items()
        for answer, hint in known
    ],
)
def test_each_known_mistake_gets_its_own_hint(check, answer, hint) -> None:
    for seed in range(3):  # the hint must not hang on the luck of the draw
        torch.manual_seed(seed)
        with pytest.raises(checks.Mistake, match=re.escape(hint)):
            check(answer)


NAN = float("nan")
EMPTY = {
    checks.alpha_bar: lambda b: torch.full((5,), NAN),
    checks.forward_step: lambda x, b: (NAN * x, torch.randn_like(x)),
    checks.chain_step: lambda x, b: NAN * x,
    checks.signal_left: NAN,
    checks.denoising_loss: lambda net, x, s: NAN * net(x + s * torch.randn_like(x)).mean(),
    checks.psnr: lambda a, b: NAN,
    checks.gain: lambda net, x, s: NAN,
    checks.best_constant: lambda images: NAN * images[0],
    checks.time_condition: lambda h1, h2, t, T, t1, t2: (NAN * h1, h2),
    checks.ddpm_loss: lambda net, x0, bars: NAN * net(x0, torch.ones(len(x0))).mean(),
    checks.reverse_step: lambda x, eps, bars, t: NAN * x,
    checks.guided_eps: lambda c, u, g: NAN * c,
    checks.gamma_to_w: lambda g: NAN,
    checks.interpolate_labels: lambda a, b, s: torch.full((10,), NAN),
    checks.frechet: lambda m1, c1, m2, c2: NAN,
    checks.limit_of_many: lambda n, v: v.mean() * NAN,
    checks.nearest_distances: lambda x, y: torch.full((len(x),), NAN),
    checks.ddim_step: lambda x, eps, bar, to: NAN * x,
    checks.strided_posterior: lambda x, x0, bar, to: (NAN * x, 0.1),
    checks.order_of_convergence: lambda n, e: NAN,
    checks.edit_start: lambda image, eps, levels, t: (NAN * image, [level for level in levels if level.t <= t]),
    checks.keep_known: lambda x0, image, mask: NAN * image,
    checks.view: lambda x, back: NAN * x,
    checks.huber: lambda a, b: NAN,
    checks.ema_step: lambda average, weight, decay: NAN * weight,
    checks.even_weights: lambda y: NAN * y,
}


@pytest.mark.parametrize("check", EMPTY)
def test_an_answer_that_is_not_a_number_does_not_pass(check) -> None:
    with pytest.raises(checks.Mistake, match="NaN"):
        check(EMPTY[check])


def test_hints_within_a_check_differ() -> None:
    for check, known in MISTAKES.items():
        said = set()
        for answer, _ in known:
            with pytest.raises(checks.Mistake) as told:
                check(answer)
            said.add(str(told.value))
        assert len(said) >= len({hint for _, hint in known}), check.__name__
