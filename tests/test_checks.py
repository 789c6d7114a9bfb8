"""The learner's checks: right answers pass in any form, stubs fail, and each known mistake gets its own hint."""

import math
import re
from fractions import Fraction
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from diffusion_helpers.lessons import checks
from diffusion_helpers.schedules import linear_beta

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
ends = torch.eye(10)[[3, 8]]


def noisy(net, x0, bars):
    """The loss of DDPM, on a table of 0.2 for the share that a step keeps."""
    t = torch.randint(1, 5, (len(x0),))
    bar = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.1])[t].reshape(-1, 1, 1, 1)
    eps = torch.randn_like(x0)
    return F.mse_loss(net(bar.sqrt() * x0 + (1 - bar).sqrt() * eps, t / 4), eps)


def denoised(net, x, sigma):
    return F.mse_loss(net(x + 0.25 * torch.randn_like(x)), x)


def gained(net, x, sigma):
    z = x + 0.5 * torch.randn_like(x)
    return 10 * math.log10(z.square().mean() / net(z).square().mean())


def ancestral(x, eps, bars, t):
    first = (x - 0.2**0.5 * eps) / 0.8**0.5
    if t == 1:
        return first
    x0 = (x - 0.6**0.5 * eps) / 0.4**0.5
    return (0.8**0.5 * 0.5 * x0 + 0.5**0.5 * 0.2 * x) / 0.6 + 0.5**0.5 * torch.randn_like(x)


def begun(image, eps, levels, t):
    below = [level for level in levels if level.t <= t]
    return (1 - below[0].t) * image + below[0].t * eps, below


AT_OLD_VALUES = {
    "alpha_bar": lambda betas: torch.cat([torch.ones(1), (1 - BETAS).cumprod(0)]),
    "forward_step": lambda x0, bar: (lambda eps: (0.6 * x0 + 0.8 * eps, eps))(torch.randn_like(x0)),
    "chain_step": lambda x, beta: 0.8 * x + 0.6 * torch.randn_like(x),
    "signal_left": 0.222,
    "denoising_loss": denoised,
    "psnr": lambda estimate, x: -10 * math.log10(estimate.square().mean()),
    "gain": gained,
    "best_constant": lambda images: torch.tensor([[[0.3, 0.8]]]),
    "time_condition": lambda h1, h2, t, T, t1, t2: (h1 + t1(t[:, None] / 300), h2 + t2(t[:, None] / 300)),
    "ddpm_loss": noisy,
    "reverse_step": ancestral,
    "drop_labels": lambda y, p, null: torch.where(torch.rand(len(y)) < 0.25, 10, y),
    "guided_eps": lambda c, u, gamma: u + 5 * (c - u),
    "gamma_to_w": lambda gamma: {0.0: -1.0, 1.0: 0.0}.get(gamma, 4.0),
    "interpolate_labels": lambda first, last, share: F.normalize((1 - share) * ends[0] + share * ends[1], dim=0),
    "frechet": lambda mu1, cov1, mu2, cov2: 0.0 if mu1.equal(mu2) else 14.1187,
    "limit_of_many": lambda sizes, values: 0.25,
    "nearest_distances": lambda samples, known: torch.tensor([0.0, 3.8234, 3.8659, 4.0598, 4.2378]),
    "ddim_step": lambda x, eps, bar, to: (
        (1 if to == 1 else 0.8**0.5) * (x - 0.6**0.5 * eps) / 0.4**0.5 + (0 if to == 1 else 0.2**0.5) * eps
    ),
    "strided_posterior": lambda x, x0, bar, to: ((0.75**0.5 * 0.6 * x0 + 0.4**0.5 * 0.25 * x) / 0.7, 0.15 / 0.7),
    "order_of_convergence": lambda steps, errors: round(2 * math.log(errors[0] / errors[-1]) / math.log(8)) / 2,
    "edit_start": begun,
    "keep_known": lambda x0, image, mask: torch.cat([image[..., :2], x0[..., 2:]], -1),
    "view": lambda x, back: x.rot90(1 if back else -1, (2, 3)),
    "huber": lambda prediction, target: 1.1927,
    "ema_step": lambda average, weight, decay: 0.9 * average + 0.1 * weight,
    "euler_walk": lambda denoise, x, times, path: x + (times[-1] - times[0]) * (denoise(x, 0.5, 0.5) - x),
    "convert": lambda p, x, alpha, sigma, c, k: 0.8 * x - 0.6 * p,
    "loss_weight": lambda alpha, sigma, c, k: (0.5 * c[1] - 0.5 * c[0]) / 0.25,
    "flow_loss": lambda net, x0: F.mse_loss(
        net(0.5 * x0 + 0.5 * torch.randn_like(x0), torch.full((len(x0), 1), 0.5)), x0
    ),
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
        ("gain", lambda net, x, sigma: 0.0 * net(x + sigma * torch.randn_like(x)).mean()),
        ("interpolate_labels", lambda first, last, share: torch.eye(10)[5]),
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
    hint = told(checks.gamma_to_w, lambda gamma: 7.5)
    assert re.match(r"For gamma = 0: w is 7.5, expected -1. Hint: ", hint)
    assert "(4,): expected (5,)" in told(checks.alpha_bar, lambda betas: betas)


# Right answers that a learner may write in another way.


def looped(x0, image, mask):
    out = x0.clone()
    m = mask.expand_as(x0)
    for i in range(x0.numel()):
        if m.flatten()[i] == 0:
            out.view(-1)[i] = image.flatten()[i]
    return out


def numpy_noise(x0, bar):
    eps = torch.from_numpy(np.random.default_rng().standard_normal(x0.shape))
    return [math.sqrt(bar) * x0 + math.sqrt(1 - bar) * eps, eps]


def small_variance(x, eps, bars, t):
    bar, before = bars[t].double(), bars[t - 1].double()
    beta = 1 - bar / before
    x0 = (x - (1 - bar).sqrt() * eps) / bar.sqrt()
    mean = before.sqrt() * beta / (1 - bar) * x0 + (bar / before).sqrt() * (1 - before) / (1 - bar) * x
    return mean + (beta * (1 - before) / (1 - bar)).sqrt() * torch.randn_like(x) * (t > 1)


def classic_variance(x, eps, bars, t):
    """Ho et al., algorithm 2."""
    alpha = bars[t] / bars[t - 1]
    mean = (x - (1 - alpha) / (1 - bars[t]).sqrt() * eps) / alpha.sqrt()
    return mean if t < 2 else torch.normal(mean, (1 - alpha).sqrt().expand_as(mean))


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


def slow_distances(samples, known):
    return torch.stack([min((s - k).double().square().sum().sqrt() for k in known) for s in samples])


def expanded_distances(samples, known):
    a, b = samples.flatten(1), known.flatten(1)
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp(min=0).sqrt().amin(1)


def symmetric_root(mu1, cov1, mu2, cov2):
    values, vectors = np.linalg.eigh(cov1.numpy())
    half = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(half @ cov2.numpy() @ half)).sum()
    return np.sum((mu1 - mu2).numpy() ** 2) + np.trace(cov1.numpy() + cov2.numpy()) - 2 * shared


def stratified(net, x0, bars):
    T = len(bars) - 1
    t = torch.randperm(len(x0)) % T + 1
    eps = torch.randn(x0.shape)
    keep, add = (part[t][:, None, None, None] for part in (bars**0.5, (1 - bars) ** 0.5))
    return ((net(torch.addcmul(keep * x0, add, eps), t.float() / T) - eps) ** 2).mean()


def image_by_image(net, x, sigma):
    z = torch.stack([image + sigma * torch.randn(image.shape) for image in x])
    return float(sum(((net(z) - x) ** 2).flatten().tolist()) / x.numel())


def peak_snr(estimate, x):
    rmse = np.sqrt(np.mean((estimate.numpy() - x.numpy()) ** 2))
    return np.float32(20 * np.log10(1 / rmse))


def scatter_weights(labels):
    counts = torch.zeros(int(labels.max()) + 1).index_add(0, labels, torch.ones(len(labels)))
    return 100 / counts.gather(0, labels)


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
    ("psnr", peak_snr),
    ("psnr", lambda estimate, x: 10 * torch.log10(1 / F.mse_loss(estimate.double(), x.double()))),
    (
        "psnr",
        lambda estimate, x: -10 / math.log(10) * math.log(sum(((estimate - x) ** 2).flatten().tolist()) / x.numel()),
    ),
    ("denoising_loss", image_by_image),
    ("denoising_loss", lambda net, x, sigma: F.mse_loss(x, net(torch.normal(x, sigma)), reduction="sum") / x.numel()),
    (
        "gain",
        lambda net, x, sigma: (lambda z: 10 * torch.log10((z - x).norm() ** 2 / (net(z) - x).norm() ** 2))(
            torch.normal(x, sigma)
        ),
    ),
    ("best_constant", lambda images: images.mean(0, keepdim=True)),
    ("best_constant", lambda images: sum(images) / len(images)),
    (
        "best_constant",
        lambda images: torch.linalg.lstsq(torch.ones(len(images), 1), images.flatten(1)).solution.reshape(
            images.shape[1:]
        ),
    ),
    (
        "time_condition",
        lambda h1, h2, t, T, t1, t2: [h + block(t.reshape(-1, 1).double() / T) for h, block in ((h1, t1), (h2, t2))],
    ),
    (
        "time_condition",
        lambda h1, h2, t, T, t1, t2: (h1.add_(t1((t / T).unsqueeze(1))), h2.add_(t2((t / T).unsqueeze(1)))),
    ),
    ("ddpm_loss", stratified),
    ("ddpm_loss", lambda net, x0, bars: sum(noisy_part(net, x0, bars)) / x0.numel()),
    ("reverse_step", small_variance),
    ("reverse_step", classic_variance),
    ("drop_labels", one_by_one),
    ("drop_labels", lambda y, p, null: y.masked_fill(torch.bernoulli(torch.full(y.shape, p)).bool(), null)),
    ("guided_eps", lambda c, u, gamma: (1 - gamma) * u + gamma * c),
    ("guided_eps", lambda c, u, gamma: torch.lerp(u.double(), c.double(), gamma)),
    (
        "guided_eps",
        lambda c, u, gamma: torch.tensor([b + gamma * (a - b) for a, b in zip(c.tolist(), u.tolist(), strict=True)]),
    ),
    ("gamma_to_w", lambda gamma: torch.tensor([gamma - 1])),
    ("gamma_to_w", lambda gamma: np.float32(gamma) - np.float32(1)),
    ("gamma_to_w", lambda gamma: -(Fraction(1) - Fraction(gamma))),
    (
        "interpolate_labels",
        lambda first, last, share: F.normalize(
            (1 - share) * F.one_hot(torch.tensor(first), 10) + share * F.one_hot(torch.tensor(last), 10), dim=0
        ),
    ),
    (
        "interpolate_labels",
        lambda first, last, share: torch.tensor(
            [((1 - share) * (i == first) + share * (i == last)) / math.hypot(share, 1 - share) for i in range(10)]
        ),
    ),
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
    ("nearest_distances", slow_distances),
    ("nearest_distances", expanded_distances),
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
    ("edit_start", first_at_or_below),
    ("keep_known", looped),
    ("keep_known", lambda x0, image, mask: torch.lerp(image, x0, mask)),
    ("keep_known", lambda x0, image, mask: image + mask * (x0 - image)),
    ("view", lambda x, back=False: x.transpose(2, 3).flip(3) if back else x.transpose(2, 3).flip(2)),
    ("view", lambda x, back=False: torch.from_numpy(np.rot90(x.numpy(), 3 if back else 1, (2, 3)).copy())),
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
    ("even_weights", lambda labels: torch.tensor([1 / labels.tolist().count(label) for label in labels.tolist()])),
]


def noisy_part(net, x0, bars):
    """The squared errors of DDPM's loss, image by image, all in float64."""
    t = torch.tensor(np.random.randint(1, len(bars), len(x0)))
    eps = torch.randn_like(x0)
    x = torch.stack([bars[i] ** 0.5 * a + (1 - bars[i]) ** 0.5 * b for i, a, b in zip(t, x0, eps, strict=True)])
    return (net(x, t / (len(bars) - 1)) - eps).double().square().flatten()


@pytest.mark.parametrize(("name", "answer"), UNUSUAL, ids=[f"{n} {name}" for n, (name, _) in enumerate(UNUSUAL)])
def test_a_right_answer_passes_in_any_form(name, answer) -> None:
    CHECKS[name](answer)


def test_every_check_has_an_unusual_answer() -> None:
    assert {name for name, _ in UNUSUAL} == set(CHECKS) == set(AT_OLD_VALUES)


# What is no answer at all


def spoiled(found: object) -> object:
    """NaN in place of every number, or of the first of several things."""
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
        ("ddpm_loss", lambda net, x0, bars: bars[torch.randint(1, len(bars), (len(x0),))] * x0),
        ("ddpm_loss", lambda net, x0, bars: torch.zeros(len(x0), 1).expand_as(x0)),
        ("time_condition", lambda h1, h2, t, T, t1, t2: (h1 + t / T, h2 + t / T)),
        ("nearest_distances", lambda samples, known: (samples - known).flatten(1).norm(dim=1)),
        ("alpha_bar", lambda betas: torch.ones(len(betas) + 1) * (1 - betas)),
        ("limit_of_many", lambda sizes, values: values.numpy() * np.ones(2)),
    ],
)
def test_shapes_that_do_not_fit_get_a_hint(name, answer) -> None:
    hint = told(CHECKS[name], answer)
    assert hint.startswith("Shapes do not fit: ")
    assert hint.endswith(f"Hint: {CHECKS[name].shapes}")


def test_a_forgotten_reshape_is_told_how() -> None:
    for name in ("ddpm_loss", "time_condition"):
        assert "(B, 1, 1, 1)" in CHECKS[name].shapes or "reshape(-1, 1, 1, 1)" in CHECKS[name].shapes


@pytest.mark.parametrize("error", [NotImplementedError, ZeroDivisionError, RuntimeError, ValueError, NameError])
def test_other_errors_keep_their_type(error) -> None:
    def answer(gamma):
        raise error("of another kind")

    with pytest.raises(error, match="of another kind"):
        checks.gamma_to_w(answer)


def test_an_answer_may_write_into_what_it_is_given(capsys) -> None:
    checks.guided_eps(lambda c, u, gamma: c.sub_(u).mul_(gamma).add_(u))
    assert capsys.readouterr().out == f"✓ {checks.guided_eps.says}\n"
