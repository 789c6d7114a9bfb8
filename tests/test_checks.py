"""The learner's checks: right answers pass in any form, stubs fail, and each known mistake gets its own hint."""

import math
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import numpy as np
import pytest
import scipy.optimize
import torch
from torch.nn import functional as F

from diffusion_helpers import samplers
from diffusion_helpers.denoise import Denoised
from diffusion_helpers.lessons import checks
from diffusion_helpers.schedules import flow, linear_beta

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
REGION = re.compile(r"^( *)### BEGIN SOLUTION.*?### END SOLUTION", re.DOTALL | re.MULTILINE)
CHECKS = {name: check for name, check in vars(checks).items() if isinstance(check, checks.Check)}
EACH = pytest.mark.parametrize("name", CHECKS)


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


def test_every_lesson_has_exercises_and_every_check_is_of_one() -> None:
    assert len(exercises()) >= 3 * len(NOTEBOOKS) > 0
    assert {re.search(r"checks\.(\w+)\(", case.values[2])[1] for case in exercises()} == set(CHECKS)


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


def told(check: checks.Check, answer: object) -> str:
    """The hint that an answer gets."""
    with pytest.raises(checks.Mistake) as raised:
        check(answer)
    return str(raised.value)


@EACH
def test_each_known_mistake_gets_its_own_hint(name) -> None:
    torch.manual_seed(1)
    for hint, wrong in CHECKS[name].known:
        assert told(CHECKS[name], wrong) == hint
    assert len({hint for hint, _ in CHECKS[name].known}) >= 2


@EACH
def test_the_values_that_are_tried_are_drawn_anew(name) -> None:
    """All but the one exercise whose answer is a number."""
    first, again = (repr(list(CHECKS[name].cases())) for _ in range(2))
    assert first != again or name == "signal_left"
    assert len(list(CHECKS[name].cases())) >= 2 or name == "signal_left"


# Right for the values that each check once tried, and wrong for others. The randomness, if any, is as it should be.

BETAS = torch.tensor([0.1, 0.2, 0.5, 0.25], dtype=torch.float64)


def noisy(net, x0, alpha, sigma, target):
    """The loss of DDPM, on a table of 0.2 for the share that a step keeps."""
    t = torch.randint(1, 5, (len(x0),))
    bar = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.1])[t].reshape(-1, 1, 1, 1)
    eps = torch.randn_like(x0)
    return F.mse_loss(net(bar.sqrt() * x0 + (1 - bar).sqrt() * eps, t / 4), eps)


class Still(torch.nn.Module):
    """A residual block that stays as it was made."""

    def __init__(self, c_in, c_out, width):
        super().__init__()
        self.skip = torch.nn.Conv2d(c_in, c_out, 1) if c_in != c_out else torch.nn.Identity()

    def forward(self, x, e):
        return self.skip(x)


def denoised(net, x, sigma):
    return F.mse_loss(net(x + 0.25 * torch.randn_like(x)), x)


def in_three_steps(net, x, alpha, sigma):
    """Algorithm 2 of Ho et al., on one table."""
    bars = [1.0, 0.8, 0.5, 0.2]
    for i in (3, 2, 1):
        keep = bars[i] / bars[i - 1]
        x = (x - (1 - keep) / (1 - bars[i]) ** 0.5 * net(x, torch.full((len(x),), i / 3))) / keep**0.5
        x = x + (1 - keep) ** 0.5 * torch.randn_like(x) * (i > 1)
    return x


def begun(image, eps, levels, t):
    below = [level for level in levels if level.t <= t]
    return (1 - below[0].t) * image + below[0].t * eps, below


def pasted_once(step, noisy, x, image, mask, levels):
    """Right for a run of one step."""
    return mask * step(x, levels[0], levels[-1]) + (1 - mask) * noisy(image, levels[-1])


def half_turned(x, level, first, second, look, back):
    """An anagram whose view is a half turn, whatever it is given."""
    turned = second(x.flip(2, 3), level).x0.flip(2, 3)
    return Denoised(x, (first(x, level).x0 + turned) / 2, level)


AT_OLD_VALUES = {
    "alpha_bar": lambda betas: torch.cat([torch.ones(1), (1 - BETAS).cumprod(0)]),
    "forward_step": lambda x0, bar: (lambda eps: (0.6 * x0 + 0.8 * eps, eps))(torch.randn_like(x0)),
    "chain_step": lambda x, beta: 0.8 * x + 0.6 * torch.randn_like(x),
    "signal_left": 0.222,
    "jump_between": lambda alpha_s, sigma_s, alpha_t, sigma_t: (0.5, 0.6),
    "last_beta": lambda T, signal: 0.0603,
    "denoising_loss": denoised,
    "best_line": lambda images, sigma: (torch.full((1, 2, 3), 0.4), torch.full((1, 2, 3), 0.2)),
    "exact_denoiser": lambda z, images, sigma: images[:3],
    "best_constant": lambda images: torch.tensor([[[0.3, 0.8]]]),
    "tweedie": lambda log_density, x, level: x.sigmoid(),
    "residual_block": Still,
    "ddpm_loss": noisy,
    "posterior": lambda at, to: (0.6, 0.4, 0.25),
    "bound_weight": lambda at, to: 0.5 * (to.snr - 1),
    "ancestral": lambda denoise, x, levels: denoise(x, levels[0]).x0 + 0.1 * torch.randn_like(x),
    "three_bugs": in_three_steps,
    "drop_labels": lambda y, p, null: torch.where(torch.rand(len(y)) < 0.25, 10, y),
    "guided_eps": lambda c, u, gamma: u + 5 * (c - u),
    "guided_walk": lambda denoise, x, y, gamma, levels: denoise(x, levels[0], y).x0,
    "two_widths": lambda c, u, gamma: (c, c),
    "but_not": lambda u, c, n, gamma, eta: c if gamma else u + eta * (u - n),
    "frechet": lambda mu1, cov1, mu2, cov2: 0.0 if mu1.equal(mu2) else 14.1187,
    "limit_of_many": lambda sizes, values: 0.25,
    "pairing": lambda x, y: 0.4213,
    "one_sided": lambda real: torch.zeros(len(real), real.shape[1]) + real.abs().max() * 3,
    "copied_share": lambda distances, control, q: 0.3,
    "ddim_step": lambda x, eps, bar, to: (
        (1 if to == 1 else 0.8**0.5) * (x - 0.6**0.5 * eps) / 0.4**0.5 + (0 if to == 1 else 0.2**0.5) * eps
    ),
    "strided_posterior": lambda x, x0, bar, to: ((0.75**0.5 * 0.6 * x0 + 0.4**0.5 * 0.25 * x) / 0.7, 0.15 / 0.7),
    "order_of_convergence": lambda steps, errors: round(2 * math.log(errors[0] / errors[-1]) / math.log(8)) / 2,
    "heun_step": lambda denoise, x, at, to: samplers.heun(denoise, x, at, flow()(0.3))[0],
    "edit_start": begun,
    "keep_known": lambda x0, image, mask: torch.cat([image[..., :2], x0[..., 2:]], -1),
    "view": lambda x, back: x.rot90(1 if back else -1, (2, 3)),
    "fill_loop": pasted_once,
    "two_views": half_turned,
    "near_and_far": lambda far, near, blur: blur(far) + near - near.mean(-1, keepdim=True),
    "limited": lambda net, x, t, y, gamma, low, high: (
        net(x, t) + 3 * (net(x, t, y) - net(x, t)) if 0.3 <= t <= 0.7 else net(x, t, y)
    ),
    "huber": lambda prediction, target: 1.1927,
    "ema_step": lambda average, weight, decay: 0.9 * average + 0.1 * weight,
    "euler_walk": lambda denoise, x, times, path: x + (times[-1] - times[0]) * (denoise(x, 0.5, 0.5) - x),
    "convert": lambda p, x, alpha, sigma, c, k: 0.8 * x - 0.6 * p,
    "loss_weight": lambda alpha, sigma, c, k: (0.5 * c[1] - 0.5 * c[0]) / 0.25,
    "flow_loss": lambda net, x0: F.mse_loss(
        net(0.5 * x0 + 0.5 * torch.randn_like(x0), torch.full((len(x0), 1), 0.5)), x0
    ),
    "attend": lambda q, k, v: (q @ k.mT / 2).softmax(-1) @ v,
    "both": lambda a, b, u, gamma: 2 * a + 2 * b - 3 * u,
    "apart": lambda k, n, j, m: (k / n - j / m) / (0.25 * (1 / n + 1 / m)) ** 0.5,
    "even_weights": lambda labels: torch.tensor([1 / 5, 1 / 5, 1, 1 / 5, 1 / 2, 1 / 5, 1 / 2, 1 / 5]),
}


@EACH
def test_what_is_right_at_single_values_alone_fails_with_a_hint(name) -> None:
    for _ in range(2):
        hint = told(CHECKS[name], AT_OLD_VALUES[name])
        assert "Hint: " in hint or "expected (" in hint  # a shape


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("guided_eps", lambda c, u, gamma: u + 3 * (c - u)),
        ("ema_step", lambda average, weight, decay: 0.99 * average + 0.01 * weight),
        ("drop_labels", lambda y, p, null: torch.where(torch.rand(len(y)) < p, 10, y)),
        ("forward_step", lambda x0, bar: (lambda eps: (0.8 * x0 + 0.6 * eps, eps))(torch.randn_like(x0))),
        ("view", lambda x, back: x.roll(-1 if back else 1, 3)),
        ("view", lambda x, back: x.rot90(1, (2, 3)) * 2 if not back else x.rot90(-1, (2, 3)) / 2),
        ("even_weights", lambda labels: labels.bincount()[labels].reciprocal() * (1 + torch.arange(len(labels)))),
        ("even_weights", lambda labels: 1.0 - (labels == labels[0]).float()),
        ("even_weights", lambda labels: -1 / labels.bincount()[labels]),
        ("two_widths", lambda c, u, gamma: (c * u, u / c)),
        ("but_not", lambda u, c, n, gamma, eta: gamma * u),
        ("edit_start", lambda image, eps, levels, t: (image, None)),
        ("frechet", lambda mu1, cov1, mu2, cov2: (cov1 @ cov2).sum() * 1j),
    ],
)
def test_what_nobody_knew_fails_with_a_general_hint(name, answer) -> None:
    hint = told(CHECKS[name], answer)
    assert hint not in dict(CHECKS[name].known)
    assert "expected" in hint


def test_a_coincidence_at_one_value_does_not_name_another_mistake() -> None:
    """At γ = 0 and γ = 1 each of these equals a known mistake or the right answer."""
    hint = told(checks.guided_eps, lambda c, u, gamma: u + gamma**2 * (c - u))
    assert hint.startswith("For conditional = [") and "gamma = " in hint
    assert hint.endswith(f"Hint: {checks.guided_eps.hint}")


def test_a_general_hint_says_what_was_given_returned_and_expected() -> None:
    hint = told(checks.limit_of_many, lambda sizes, values: 7.5)
    assert re.search(r" is 7.5, expected [\d.]+. Hint: ", hint)
    assert "(4,): expected (5,)" in told(checks.alpha_bar, lambda betas: betas)


# Right answers that a learner may write in another way.


def looped(x0, image, mask):
    out = x0.clone()
    m = mask.expand_as(x0)
    for i in range(x0.numel()):
        if m.flatten()[i] == 0:
            out.view(-1)[i] = image.flatten()[i]
    return out


def overwritten(step, noisy, x, image, mask, levels):
    """By index, and in place."""
    known = (mask == 0).expand_as(image)
    for i in range(len(levels) - 1):
        x = step(x, levels[i], levels[i + 1]).clone()
        x[known] = noisy(image, levels[i + 1])[known]
    return x


def eps_averaged(x, level, first, second, look, back):
    """The mean of the estimates of the noise, from which that of x0 follows."""
    eps = (first(x, level).eps + back(second(look(x), level).eps)) / 2
    return Denoised(x, (x - level.sigma.float() * eps) / level.alpha.float(), level)


def numpy_noise(x0, bar):
    eps = torch.from_numpy(np.random.default_rng().standard_normal(x0.shape))
    return [math.sqrt(bar) * x0 + math.sqrt(1 - bar) * eps, eps]


def by_precision(at, to):
    """The posterior as a mean weighted with precisions, which divides by nothing at the last step."""
    r = float(at.alpha / to.alpha)
    beta = float(at.sigma) ** 2 - r**2 * float(to.sigma) ** 2
    total = beta + r**2 * float(to.sigma) ** 2
    return [float(to.alpha) * beta / total, r * float(to.sigma) ** 2 / total, float(to.sigma) ** 2 * beta / total]


def by_finite_differences(log_density, x, level):
    grads = []
    for step in torch.eye(x.shape[1], dtype=torch.float64) * 1e-4:
        grads.append((log_density(x.double() + step, level) - log_density(x.double() - step, level)) / 2e-4)
    return x / level.alpha + level.sigma**2 / level.alpha * torch.stack(grads, 1)


class Shifted(torch.nn.Module):
    """The residual block of lesson 03, its parts taken apart in another way."""

    def __init__(self, c_in, c_out, width):
        super().__init__()
        nn = torch.nn
        self.norm1, self.conv1 = nn.GroupNorm(8, c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.condition = nn.Linear(width, 2 * c_out)
        self.norm2, self.conv2 = nn.GroupNorm(8, c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        for weight in self.conv2.parameters():
            weight.data.zero_()

    def forward(self, x, e):
        both = self.condition(e)
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        C = h.shape[1]
        h = h + h * both[:, :C].reshape(-1, C, 1, 1) + both[:, C:].reshape(-1, C, 1, 1)
        return self.conv2(h * h.sigmoid()) + self.skip(x)


def with_helpers(denoise, x, levels):
    """The walk by the package's own step."""
    *_, last = samplers.sample(denoise, x, levels, samplers.ddpm)
    return last.x


def noise_before_the_mean(net, x, alpha, sigma):
    for i in reversed(range(1, len(alpha))):
        share = (alpha[i] / alpha[i - 1]) ** 2
        z = torch.randn(x.shape) if i > 1 else 0
        x = x / share**0.5 - (1 - share) / (share**0.5 * sigma[i]) * net(x, torch.ones(len(x)) * i / (len(alpha) - 1))
        x = x + z * (1 - share) ** 0.5
    return x


def accumulated(betas):
    bars = [1.0]
    for beta in betas.tolist():
        bars.append(bars[-1] * (1 - beta))
    return torch.tensor(bars)


def one_by_one(y, p, null):
    return torch.tensor([null if np.random.rand() < p else int(label) for label in y])


def logged(betas):
    return torch.cat([torch.zeros(1), torch.log1p(-betas).cumsum(0)]).exp()


def first_at_or_below(image, eps, levels, t):
    start = next(i for i, level in enumerate(levels) if level.t <= t)
    return [torch.lerp(image * levels[start].alpha, image, 0.0) + eps * levels[start].sigma, tuple(levels[start:])]


def regression(images, sigma):
    """The line through pairs of noisy and clean pixels, by its normal equations."""
    n, m = len(images), images.double().mean(0)
    covariance = (images * images).double().sum(0) / n - m**2
    a = covariance / (covariance + sigma**2)
    return a, m - a * m


def weighed(z, images, sigma):
    """Densities in place of softmax, image by image, in float64."""
    found = []
    for one in z.double():
        weights = [math.exp(-(one - x).square().sum().item() / (2 * sigma * sigma)) for x in images.double()]
        found.append(sum(w * x for w, x in zip(weights, images, strict=True)) / sum(weights))
    return torch.stack(found)


def secant(T, signal):
    """Newton's method on the logarithm of the signal, from the estimate."""
    last = torch.tensor(-4 * math.log(signal) / T, dtype=torch.float64)
    rise = torch.linspace(0, 1, T, dtype=torch.float64)
    for _ in range(20):
        betas = 1e-4 + (last - 1e-4) * rise
        last = last + ((1 - betas).log().sum() / 2 - math.log(signal)) / (rise / (1 - betas)).sum() * 2
    return last


def matched(x, y):
    """The assignment problem, solved as such."""
    cost = (x[:, None] - y).square().numpy()
    return cost[scipy.optimize.linear_sum_assignment(cost)].mean()


def ruled_by_strength(net, x, t, y, gamma, low, high):
    """Guidance from the labelled estimate, w = γ − 1, and none outside."""
    c = net(x, t, y)
    if t < low or high < t:
        return c
    return c.lerp(net(x, t), 1 - gamma)


def symmetric_root(mu1, cov1, mu2, cov2):
    values, vectors = np.linalg.eigh(cov1.numpy())
    half = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(half @ cov2.numpy() @ half)).sum()
    return np.sum((mu1 - mu2).numpy() ** 2) + np.trace(cov1.numpy() + cov2.numpy()) - 2 * shared


def stratified(net, x0, alpha, sigma, target):
    T = len(alpha) - 1
    t = torch.randperm(len(x0)) % T + 1
    eps = torch.randn(x0.shape)
    keep, add = (part[t][:, None, None, None] for part in (alpha, sigma))
    return ((net(torch.addcmul(keep * x0, add, eps), t.float() / T) - target(x0, eps, keep, add)) ** 2).mean()


def image_by_image(net, x, sigma):
    z = torch.stack([image + sigma * torch.randn(image.shape) for image in x])
    return float(sum(((net(z) - x) ** 2).flatten().tolist()) / x.numel())


def scatter_weights(labels):
    counts = torch.zeros(int(labels.max()) + 1).index_add(0, labels, torch.ones(len(labels)))
    return 100 / counts.gather(0, labels)


def two_moves(denoise, x, at, to):
    """The mean of two DDIM steps from x, one with the noise of each end."""
    ends, eps = [], denoise(x, at).eps
    for _ in range(2):
        ends.append(x * (to.alpha / at.alpha) + eps * (to.sigma - at.sigma * to.alpha / at.alpha))
        eps = denoise(ends[-1], to).eps
    return sum(ends) / 2


def by_score(denoise, x, y, gamma, levels):
    """Euler steps of the flow, whose velocity is eps - x0."""
    for at, to in pairwise(levels):
        c, u = (denoise(x, at, torch.eye(3)[y] * known) for known in (1, 0))
        velocity = u.eps - u.x0 + gamma * (c.eps - c.x0 - u.eps + u.x0)
        x = x + (to.t - at.t).float() * velocity
    return x


def recursive_walk(denoise, x, times, path):
    if len(times) < 2:
        return x
    alpha, sigma, d_alpha, d_sigma = path(times[0])
    x0 = denoise(x, alpha, sigma)
    speed = d_sigma / sigma * x + (d_alpha - d_sigma * alpha / sigma) * x0
    return recursive_walk(denoise, x - (times[0] - times[1]) * speed, times[1:], path)


def stratified_flow(net, x0):
    n = len(x0)
    t = ((torch.randperm(n) + torch.rand(n)) / n).unsqueeze(1)
    eps = torch.normal(torch.zeros_like(x0), 1.0)
    return (net(torch.lerp(x0, eps, t), t.flatten()) + x0 - eps).pow(2).mean(1).mean()


UNUSUAL = [
    ("alpha_bar", accumulated),
    ("alpha_bar", logged),
    ("alpha_bar", lambda betas: torch.from_numpy(np.concatenate([[1], np.cumprod(1 - betas.numpy())]))),
    ("alpha_bar", lambda betas: F.pad((1 - betas.float()).cumprod(0), (1, 0), value=1.0)),
    ("forward_step", numpy_noise),
    (
        "forward_step",
        lambda x0, bar: (lambda e: (torch.lerp(x0 * 0, x0, bar**0.5) + e * (1 - bar) ** 0.5, e))(torch.randn(x0.shape)),
    ),
    ("chain_step", lambda x, beta: torch.normal((1 - beta) ** 0.5 * x, beta**0.5)),
    ("chain_step", lambda x, beta: x.double() * math.sqrt(1 - beta) + math.sqrt(beta) * torch.empty_like(x).normal_()),
    ("signal_left", 0.22),
    ("signal_left", np.float32(0.219)),
    ("signal_left", linear_beta(300)(1.0).alpha),
    ("signal_left", np.array([0.2191])),
    (
        "jump_between",
        lambda a, s, b, t: [torch.tensor(b) / a, np.sqrt(np.float64(t) ** 2 - (b / a * s) ** 2)],
    ),
    ("jump_between", lambda a, s, b, t: (b * a**-1, b * math.sqrt((t / b) ** 2 - (s / a) ** 2))),
    ("last_beta", secant),
    ("denoising_loss", image_by_image),
    ("denoising_loss", lambda net, x, sigma: F.mse_loss(x, net(torch.normal(x, sigma)), reduction="sum") / x.numel()),
    (
        "best_line",
        lambda images, sigma: [(v := images.var(0)) / (v + sigma**2), images.mean(0) * sigma**2 / (v + sigma**2)],
    ),
    ("best_line", regression),
    ("exact_denoiser", weighed),
    ("best_constant", lambda images: images.mean(0, keepdim=True)),
    ("best_constant", lambda images: sum(images) / len(images)),
    (
        "best_constant",
        lambda images: torch.linalg.lstsq(torch.ones(len(images), 1), images.flatten(1)).solution.reshape(
            images.shape[1:]
        ),
    ),
    ("ddpm_loss", stratified),
    ("tweedie", by_finite_differences),
    ("residual_block", Shifted),
    ("posterior", by_precision),
    ("bound_weight", lambda at, to: 0.5 * float((to.alpha / to.sigma) ** 2 - (at.alpha / at.sigma) ** 2)),
    ("ancestral", with_helpers),
    ("three_bugs", noise_before_the_mean),
    ("drop_labels", one_by_one),
    ("drop_labels", lambda y, p, null: y.masked_fill(torch.bernoulli(torch.full(y.shape, p)).bool(), null)),
    ("guided_eps", lambda c, u, gamma: (1 - gamma) * u + gamma * c),
    ("guided_eps", lambda c, u, gamma: torch.lerp(u.double(), c.double(), gamma)),
    (
        "guided_eps",
        lambda c, u, gamma: torch.tensor([b + gamma * (a - b) for a, b in zip(c.tolist(), u.tolist(), strict=True)]),
    ),
    ("guided_walk", by_score),
    (
        "two_widths",
        lambda c, u, gamma: [1 / math.sqrt(gamma * u**2 + c**2 - gamma * c**2) * c * u, u * (c / u) ** gamma],
    ),
    ("but_not", lambda u, c, n, gamma, eta: (1 - gamma + eta) * u.double() + gamma * c - eta * n),
    ("frechet", symmetric_root),
    (
        "frechet",
        lambda m, a, n, b: (
            (m - n) @ (m - n) + (a + b).trace() - 2 * torch.linalg.eigvals(b @ a).real.abs().sqrt().sum()
        ),
    ),
    ("limit_of_many", lambda n, v: (n[0] * v[0] - n[-1] * v[-1]) / (n[0] - n[-1])),
    (
        "limit_of_many",
        lambda n, v: np.linalg.lstsq(np.stack([1 / n.numpy(), np.ones(len(n))], 1), v.numpy(), rcond=None)[0][1],
    ),
    ("pairing", matched),
    ("one_sided", lambda real: real[torch.zeros(len(real), dtype=torch.long)] + 1e-3 * torch.randn(real.shape)),
    ("copied_share", lambda d, c, q: 1 - (d >= np.quantile(c.numpy(), q)).double().mean() / (1 - q)),
    (
        "ddim_step",
        lambda x, eps, bar, to: (to / bar) ** 0.5 * x + ((1 - to) ** 0.5 - (to * (1 - bar) / bar) ** 0.5) * eps,
    ),
    (
        "strided_posterior",
        lambda x, x0, bar, to: [
            x0 * to**0.5 + (bar / to) ** 0.5 * (1 - to) / (1 - bar) * (x - bar**0.5 * x0),
            torch.tensor((1 - to) * (to - bar) / to / (1 - bar)),
        ],
    ),
    ("order_of_convergence", lambda n, e: -np.polyfit(np.log10(n.numpy()), np.log10(e.numpy()), 1)[0]),
    ("order_of_convergence", lambda n, e: math.log(e[1] / e[0]) / math.log(n[0] / n[1])),
    ("heun_step", lambda denoise, x, at, to: samplers.heun(denoise, x, at, to)[0]),
    ("heun_step", two_moves),
    ("edit_start", first_at_or_below),
    ("keep_known", looped),
    ("keep_known", lambda x0, image, mask: torch.lerp(image, x0, mask)),
    ("keep_known", lambda x0, image, mask: image + mask * (x0 - image)),
    ("fill_loop", overwritten),
    ("two_views", eps_averaged),
    ("near_and_far", lambda far, near, blur: near + blur(far - near)),
    ("view", lambda x, back=False: x.transpose(2, 3).flip(3) if back else x.transpose(2, 3).flip(2)),
    ("view", lambda x, back=False: torch.from_numpy(np.rot90(x.numpy(), 3 if back else 1, (2, 3)).copy())),
    ("limited", ruled_by_strength),
    (
        "limited",
        lambda net, x, t, y, gamma, low, high: (
            net(x, t, y) * (g := 1 + (gamma - 1) * (low <= t <= high)) + ((1 - g) * net(x, t) if g != 1 else 0)
        ),
    ),
    ("huber", lambda a, b: F.smooth_l1_loss(a, b)),
    ("huber", lambda a, b: sum(d * d / 2 if d < 1 else d - 0.5 for d in (a - b).abs().flatten().tolist()) / a.numel()),
    ("huber", lambda a, b: (lambda d, m: (m * (d - m / 2)).mean().double())((a - b).abs(), (a - b).abs().clamp(max=1))),
    ("ema_step", lambda average, weight, decay: average.lerp(weight, 1 - decay)),
    ("ema_step", lambda average, weight, decay: average.mul_(decay).add_(weight, alpha=1 - decay)),
    ("euler_walk", recursive_walk),
    (
        "convert",
        lambda p, x, alpha, sigma, c, k: (
            torch.tensor(k) @ torch.linalg.solve(torch.tensor([[alpha, sigma], [*c]]), torch.stack([x, p]))
        ),
    ),
    ("loss_weight", lambda a, s, c, k: (1 + ((c[1] - k[1]) * a - (c[0] - k[0]) * s) / (k[1] * a - k[0] * s)) ** 2),
    ("flow_loss", stratified_flow),
    ("even_weights", scatter_weights),
    ("attend", F.scaled_dot_product_attention),
    (
        "attend",
        lambda q, k, v: torch.einsum(
            "blm,bmd->bld", F.softmax((q[:, :, None] * k[:, None]).sum(-1) * q.shape[-1] ** -0.5, -1), v
        ),
    ),
    ("both", lambda a, b, u, gamma: (1 - 2 * gamma) * u + gamma * (a + b)),
    (
        "apart",
        lambda k, n, j, m: float(
            np.subtract(k / n, j / m) / np.hypot((k / n * (1 - k / n) / n) ** 0.5, (j / m * (1 - j / m) / m) ** 0.5)
        ),
    ),
    ("even_weights", lambda labels: torch.tensor([1 / labels.tolist().count(label) for label in labels.tolist()])),
]


@pytest.mark.parametrize(("name", "answer"), UNUSUAL, ids=[f"{n} {name}" for n, (name, _) in enumerate(UNUSUAL)])
def test_a_right_answer_passes_in_any_form(name, answer) -> None:
    CHECKS[name](answer)


def test_every_check_has_an_unusual_answer() -> None:
    assert {name for name, _ in UNUSUAL} == set(CHECKS) == set(AT_OLD_VALUES)


# What is no answer at all


def spoiled(found: object) -> object:
    """NaN in place of every number, or of the first of several things; a network answers with it, and a denoiser with it for x0."""
    if isinstance(found, torch.nn.Module):
        found.register_forward_hook(lambda module, given, h: math.nan * h)
        return found
    if isinstance(found, Denoised):
        return Denoised(found.x, math.nan * found.x0, found.level)
    return (spoiled(found[0]), *found[1:]) if isinstance(found, tuple) else math.nan * found


@EACH
def test_an_answer_that_is_not_a_number_does_not_pass(name) -> None:
    right = CHECKS[name].right
    answer = (lambda *given, **named: spoiled(right(*given, **named))) if callable(right) else math.nan
    assert "NaN" in told(CHECKS[name], answer)


@EACH
def test_what_holds_no_numbers_does_not_pass(name) -> None:
    for nothing in (None, "words", [], object()):
        told(CHECKS[name], (lambda *_, nothing=nothing, **__: nothing) if callable(CHECKS[name].right) else nothing)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("ddpm_loss", lambda net, x0, alpha, sigma, target: alpha[torch.randint(1, 3, (len(x0) + 1,))] * x0),
        ("ddpm_loss", lambda net, x0, alpha, sigma, target: torch.zeros(len(x0), 1).expand(2, 3)),
        ("copied_share", lambda distances, control, q: distances - control[:7]),
        ("alpha_bar", lambda betas: torch.ones(len(betas) + 1) * (1 - betas)),
        ("limit_of_many", lambda sizes, values: values.numpy() * np.ones(2)),
    ],
)
def test_shapes_that_do_not_fit_get_a_hint(name, answer) -> None:
    hint = told(CHECKS[name], answer)
    assert hint.startswith("Shapes do not fit: ")
    assert hint.endswith(f"Hint: {CHECKS[name].shapes}")


def test_a_forgotten_reshape_is_told_how() -> None:
    assert "reshape(-1, 1, 1, 1)" in CHECKS["ddpm_loss"].shapes


@pytest.mark.parametrize("error", [NotImplementedError, ZeroDivisionError, RuntimeError, ValueError, NameError])
def test_other_errors_keep_their_type(error) -> None:
    def answer(c, u, gamma):
        raise error("of another kind")

    with pytest.raises(error, match="of another kind"):
        checks.guided_eps(answer)


def test_an_answer_may_write_into_what_it_is_given(capsys) -> None:
    checks.guided_eps(lambda c, u, gamma: c.sub_(u).mul_(gamma).add_(u))
    assert capsys.readouterr().out == f"✓ {checks.guided_eps.says}\n"
