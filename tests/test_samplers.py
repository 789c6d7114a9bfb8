"""The samplers, against the papers' formulas, diffusers, and data whose exact denoiser is known."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from oracles import THREE, Mixture, gaussian
from torch import nn

from diffusion_helpers import edits
from diffusion_helpers.denoise import Denoised, Denoiser, to_x0
from diffusion_helpers.samplers import Trajectory, ddim, ddpm, dpmpp_2m, heun, move, resampled, sample
from diffusion_helpers.schedules import Level, cosine, flow, linear_beta
from diffusion_helpers.unet import CourseUNet, ResidualUNet

beta_ddpm = partial(ddpm, variance="beta")
STEPS = {"ddim": ddim, "ddpm": ddpm, "ddpm-beta": beta_ddpm}
TABLES = [linear_beta(1000), linear_beta(300), cosine(50), linear_beta(1)]

by_name = {"ids": lambda s: f"{s.name}-{s.T}"}
every_table = pytest.mark.parametrize("schedule", TABLES, **by_name)
every_schedule = pytest.mark.parametrize("schedule", [linear_beta(1000), cosine(1000), flow()], **by_name)
every_step = pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)


def images(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def knowing(x0):
    """A denoiser that always answers x0."""
    return lambda x, level: Denoised(x, x0, level)


def next_x(step, *args, **options):
    return step(*args, **options)[0]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def mean_and_std(monkeypatch):
    """Of a call that adds normal noise: the result with noise 0, and what noise 1 adds to it."""

    def with_noise(value, call, *args, **options):
        with monkeypatch.context() as patch:
            for name in ("randn", "randn_like"):
                patch.setattr(torch, name, lambda like, **_: torch.full(getattr(like, "shape", like), value))
            return call(*args, **options)

    def measure(*call, **options):
        mean = with_noise(0.0, *call, **options)
        return mean, with_noise(1.0, *call, **options) - mean

    return measure


def textbook(schedule):
    """The papers' beta_t and abar_t of a table, indexed t = 0 ... T as in Ho et al. 2020 (beta_0 is not used)."""
    T = schedule.T
    if schedule.name == "cosine":
        f = [math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(T + 1)]
        beta = [0.0] + [min(1 - f[t] / f[t - 1], 0.999) for t in range(1, T + 1)]
    else:
        beta = [0.0] + torch.linspace(1e-4, 0.02, T, dtype=torch.float64).tolist()
    abar = [1.0]
    for t in range(1, T + 1):
        abar.append(abar[-1] * (1 - beta[t]))
    return beta, abar


# The oracles themselves


@pytest.mark.parametrize("t", [0.05, 0.4, 1.0])
def test_the_oracle_is_the_posterior_mean_found_by_numerical_integration(t):
    level, x = flow()(t), 3 * torch.rand(4, 1, 1, 2, dtype=torch.float64) - 1.5
    axis = torch.linspace(-2, 2, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)  # every x0, (G, 2)
    wide = Mixture([0.6, 0.4], [[-0.5, 0.2], [0.6, -0.3]], [0.15, 0.2])
    distance = torch.cdist(grid, wide.means.double())
    prior = (wide.weights / wide.stds**2 * torch.exp(-(distance**2) / (2 * wide.stds.double() ** 2))).sum(1)
    likelihood = -(x.reshape(4, 1, 2) - level.alpha * grid).square().sum(-1) / (2 * level.sigma**2)  # (4, G)
    posterior = (prior.log() + likelihood).softmax(1)
    assert torch.allclose(wide(x, level).x0.reshape(4, 2), posterior @ grid, atol=1e-6)


def test_a_mixture_of_one_component_is_the_gaussian_also_with_one_level_per_image():
    x, level = images(5, 1, 1, 2), flow()(torch.linspace(0, 1, 5))
    assert torch.allclose(Mixture([1.0], [[0.3, 0.3]], [0.5])(x, level).x0, gaussian(0.3, 0.5)(x, level).x0, atol=1e-7)


# One step against the papers


@every_table
@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_ddpm_has_the_mean_and_std_of_the_papers_with_the_papers_indices(schedule, variance, mean_and_std):
    beta, abar = textbook(schedule)
    x0, x = images(2, 3, 1, 4, 4)
    for t in range(1, schedule.T + 1):
        at, to = schedule(t / schedule.T), schedule((t - 1) / schedule.T)
        mean, std = mean_and_std(next_x, ddpm, knowing(x0), x, at, to, variance=variance)
        # Ho et al. 2020, equation 7
        mu = math.sqrt(abar[t - 1]) * beta[t] / (1 - abar[t]) * x0
        mu = mu + math.sqrt(1 - beta[t]) * (1 - abar[t - 1]) / (1 - abar[t]) * x
        beta_tilde = (1 - abar[t - 1]) / (1 - abar[t]) * beta[t]
        assert torch.allclose(mean, mu, atol=1e-7)
        expected = 0.0 if t == 1 else math.sqrt(beta[t] if variance == "beta" else beta_tilde)
        assert torch.allclose(std, torch.full_like(std, expected), atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_move_has_the_mean_and_std_of_ddim_at_every_eta(eta, mean_and_std):
    schedule, (x0, x) = linear_beta(300), images(2, 3, 1, 4, 4)
    for at, to in pairwise(schedule.grid(30)):
        mean, std = mean_and_std(move, Denoised(x, x0, at), to, eta)
        a, b = at.alpha**2, to.alpha**2
        sigma = eta * ((1 - b) / (1 - a) * (1 - a / b)).sqrt()  # Song et al. 2021, equation 16
        eps = (x - a.sqrt() * x0) / (1 - a).sqrt()
        assert torch.allclose(mean, b.sqrt() * x0 + (1 - b - sigma**2).clamp(min=0).sqrt() * eps)  # equation 12
        assert torch.allclose(std, sigma)


@pytest.mark.parametrize("schedule", [linear_beta(1000), linear_beta(300), cosine(1000)], **by_name)
@pytest.mark.parametrize("steps", [10, 34])
def test_strided_sampling_is_the_courses_formula_and_not_the_one_with_t_for_t_prime(schedule, steps, mean_and_std):
    _, abar = textbook(schedule)
    x0, x = images(2, 3, 1, 4, 4)
    for at, to in pairwise(schedule.grid(steps)):
        t, t_ = (round(float(level.t) * schedule.T) for level in (at, to))
        mean, _ = mean_and_std(move, Denoised(x, x0, at), to, eta=1.0)
        alpha = abar[t] / abar[t_]
        first = math.sqrt(abar[t_]) * (1 - alpha) / (1 - abar[t]) * x0
        right = first + math.sqrt(alpha) * (1 - abar[t_]) / (1 - abar[t]) * x
        wrong = first + math.sqrt(alpha) * (1 - abar[t]) / (1 - abar[t]) * x
        assert torch.allclose(mean, right, atol=1e-7)
        if t_ < schedule.T / 2:  # above, both are almost all noise and the mistake hides
            assert (wrong - right).abs().max() > 0.01 * x.abs().max()
    assert torch.equal(mean, x0) and not torch.allclose(wrong, x0, atol=0.5)  # the mistake keeps noise in the result


@every_schedule
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_move_in_float32_is_the_move_in_float64_up_to_rounding(eta, schedule, mean_and_std):
    x0, x = torch.randn(2, 3, 1, 4, 4)
    for steps in (4, 100):
        for at, to in pairwise(schedule.grid(steps)):
            rounded = mean_and_std(move, Denoised(x, x0, at), to, eta)
            exact = mean_and_std(move, Denoised(x.double(), x0.double(), at), to, eta)
            for a, b in zip(rounded, exact, strict=True):
                assert torch.allclose(a.double(), b, atol=3e-6, rtol=0)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@every_schedule
def test_one_level_per_image_moves_like_a_loop_over_images(eta, schedule, mean_and_std):
    x0, x = images(2, 3, 1, 4, 3)  # as many columns as images: a wrong broadcast would not fail by itself
    at, to = schedule(torch.tensor([0.3, 0.9, 1.0])), schedule(torch.tensor([0.0, 0.7, 0.2]))

    def one(i):
        level, lower = (Level(*(part[i] for part in both)) for both in (at, to))
        return mean_and_std(move, Denoised(x[i : i + 1], x0[i : i + 1], level), lower, eta)

    together = mean_and_std(move, Denoised(x, x0, at), to, eta)
    alone = [torch.cat(parts) for parts in zip(*map(one, range(3)), strict=True)]
    for a, b in zip(together, alone, strict=True):
        assert torch.allclose(a, b.expand_as(a))


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_one_level_per_image_adds_noise_only_to_images_that_do_not_arrive(variance, mean_and_std):
    at, to = linear_beta(10)(torch.tensor([0.1, 0.9])), linear_beta(10)(torch.tensor([0.0, 0.8]))
    _, std = mean_and_std(next_x, ddpm, gaussian(0.0, 0.5), images(2, 1, 1, 2), at, to, variance=variance)
    assert bool((std[0] == 0).all()) and bool((std[1] > 0).all())


@every_schedule
def test_the_fresh_noise_is_standard_normal_and_independent_between_pixels(schedule):
    N, at, to = 40_000, schedule(0.8), schedule(0.5)
    d = Denoised(torch.zeros(N, 1, 1, 2), torch.zeros(N, 1, 1, 2), at)
    z = move(d, to, 1.0).double() / (to.sigma / at.sigma * (at.sigma**2 - (at.alpha / to.alpha * to.sigma) ** 2).sqrt())
    z = z.reshape(N, 2)
    assert float(z.mean(0).abs().max()) < 6 / N**0.5
    assert float((z.T @ z / N - torch.eye(2)).abs().max()) < 6 * (2 / N) ** 0.5
    assert float((z**4).mean() - 3) == pytest.approx(0, abs=6 * (96 / (2 * N)) ** 0.5)


# One path, three names: DDIM, an Euler step of the flow, an Euler step of the EDM ODE


def test_ddim_on_the_flow_schedule_is_an_euler_step_of_the_flow():
    x, denoise = images(3, 1, 1, 2), THREE
    for at, to in pairwise(flow().grid(20)):
        following, d = ddim(denoise, x, at, to)
        velocity = d.eps - d.x0
        assert torch.allclose(following, x + (to.t - at.t) * velocity)
        x = following


@pytest.mark.parametrize("schedule", [linear_beta(1000), cosine(1000), flow()], **by_name)
def test_ddim_is_an_euler_step_of_the_edm_ode_in_its_coordinates(schedule):
    x, denoise = images(3, 1, 1, 2), THREE
    for at, to in pairwise(schedule(t) for t in torch.linspace(0.98, 0, 21)):
        following, d = ddim(denoise, x, at, to)
        z, s, lower = x / at.alpha, at.sigma / at.alpha, to.sigma / to.alpha
        slope = (z - d.x0) / s  # Karras et al. 2022, equation 3 with D = x0
        assert torch.allclose(following / to.alpha, z + (lower - s) * slope)
        x = following


def test_ddim_is_the_same_on_any_schedule_with_matched_levels():
    table = linear_beta(1000).grid(50)[1:]
    straight = [flow()(level.sigma / (level.alpha + level.sigma)) for level in table]  # the same sigma / alpha
    x = images(3, 1, 1, 2)
    *_, a = sample(THREE, x * table[0].sigma, table)
    *_, b = sample(THREE, x * straight[0].sigma, straight)
    scale = (table[0].alpha / straight[0].alpha) / (table[0].sigma / straight[0].sigma)
    assert float(scale) == pytest.approx(1) and torch.allclose(a.x, b.x)


def by_ratio(schedule, steps, high=20.0, low=0.05):
    """``steps + 1`` levels evenly spaced in log(alpha / sigma), between two ratios sigma / alpha, off the ends."""
    ratio = torch.logspace(math.log10(high), math.log10(low), steps + 1, dtype=torch.float64)
    return (
        [Level(r / (1 + r), 1 / (1 + r), r / (1 + r)) for r in ratio]
        if schedule == "straight"
        else [Level(r / (1 + r), 1 / (1 + r * r).sqrt(), r / (1 + r * r).sqrt()) for r in ratio]
    )


@pytest.mark.parametrize("schedule", ["straight", "circle"])
def test_heun_is_the_heun_of_edm_in_its_coordinates(schedule):
    x = images(3, 1, 1, 2)
    for at, to in pairwise(by_ratio(schedule, 15)):
        following, d = heun(THREE, x, at, to)
        z, s, lower = x / at.alpha, at.sigma / at.alpha, to.sigma / to.alpha
        slope = (z - d.x0) / s  # Karras et al. 2022, algorithm 1, lines 4 to 8
        guess = z + (lower - s) * slope
        after = (guess - THREE(to.alpha * guess, to).x0) / lower
        assert torch.allclose(following / to.alpha, z + (lower - s) * (slope + after) / 2)
        x = following


@pytest.mark.parametrize("schedule", ["straight", "circle"])
def test_dpmpp_2m_is_the_formula_of_its_paper(schedule):
    x, prev = images(3, 1, 1, 2), None
    for at, to in pairwise(by_ratio(schedule, 15)):
        following, d = dpmpp_2m(THREE, x, at, to, prev)
        h, D = (to.alpha / to.sigma).log() - (at.alpha / at.sigma).log(), d.x0
        if prev is not None:
            r = ((at.alpha / at.sigma).log() - (prev.level.alpha / prev.level.sigma).log()) / h
            D = (1 + 1 / (2 * r)) * d.x0 - 1 / (2 * r) * prev.x0
        assert torch.allclose(following, to.sigma / at.sigma * x - to.alpha * torch.expm1(-h) * D)
        x, prev = following, d


@pytest.mark.parametrize("step", [heun, dpmpp_2m])
def test_steps_of_second_order_begin_and_end_like_ddim(step):
    levels, x = flow().grid(4), images(3, 1, 1, 2)
    first = THREE(x, levels[0])
    assert torch.equal(step(THREE, x, levels[0], levels[1])[0], ddim(THREE, x, levels[0], levels[1])[0])
    assert torch.equal(step(THREE, x, levels[3], levels[4], first)[0], ddim(THREE, x, levels[3], levels[4])[0])


@pytest.mark.parametrize("step", [heun, dpmpp_2m])
def test_one_level_per_image_steps_like_a_loop_over_images(step):
    times, x = (
        torch.tensor([[1.0, 0.8, 0.6], [0.7, 0.5, 0.25], [0.5, 0.3, 0.0]], dtype=torch.float64),
        images(3, 1, 1, 2),
    )
    before, at, to = (flow()(t) for t in times.T)
    together, _ = step(THREE, x, at, to, THREE(x, before))
    for i, (a, b, c) in enumerate(times):
        alone, _ = step(THREE, x[i : i + 1], flow()(b), flow()(c), THREE(x[i : i + 1], flow()(a)))
        assert torch.allclose(together[i : i + 1], alone)


# Whole runs: the distribution and the order


@pytest.mark.parametrize("schedule", ["straight", "circle"])
@pytest.mark.parametrize("step, order", [(ddim, 1), (heun, 2), (dpmpp_2m, 2)], ids=["ddim", "heun", "dpmpp_2m"])
def test_the_order_of_convergence_on_the_mixture_is_that_of_theory_within_a_tenth(step, order, schedule):
    x = images(64, 1, 1, 2)

    def end(steps, step):
        *_, last = sample(THREE, x * by_ratio(schedule, 1)[0].sigma, by_ratio(schedule, steps), step)
        return last.x

    exact = end(4000, heun)
    # The median, since a point between two components is far from theory until the steps are much finer.
    error = [(end(steps, step) - exact).norm(dim=-1).median() for steps in (160, 320, 640)]
    for coarse, fine in pairwise(error):
        assert math.log2(coarse / fine) == pytest.approx(order, rel=0.1)


@pytest.mark.parametrize(
    "step, spacing", [(ddim, "karras"), (heun, "karras"), (heun, "log_snr"), (dpmpp_2m, "log_snr")]
)
@every_schedule
def test_an_exact_denoiser_recovers_the_mixture_in_few_steps(step, spacing, schedule):
    recovered(THREE, images(3000, 1, 1, 2), schedule.grid(200 if step is ddim else 40, spacing), step)


@every_step
@every_schedule
def test_an_exact_denoiser_recovers_the_mixture(step, schedule):
    recovered(THREE, images(3000, 1, 1, 2), schedule.grid(1000), step)


def recovered(denoise, x, levels, step):
    N = len(x)
    *_, last = sample(denoise, x, levels, step)
    counts, means, stds = THREE.statistics(last.x)
    w, s = THREE.weights.double(), THREE.stds.double()
    n = N * w
    assert bool(((counts / N - w).abs() < 6 * (w * (1 - w) / N).sqrt()).all())  # six standard errors each
    assert bool(((means - THREE.means).abs() < 6 * (s / n.sqrt())[:, None]).all())
    assert bool(((stds - s).abs() < 6 * s / (4 * n).sqrt()).all())  # 2 n numbers in each std


@every_schedule
def test_going_back_up_leaves_the_distribution_alone(schedule):
    recovered(THREE, images(3000, 1, 1, 2), schedule.grid(200), resampled(partial(ddpm, variance="beta"), 3))


@pytest.mark.parametrize("times", [1, 2, 4])
def test_a_resampled_step_asks_that_many_times_and_once_is_the_step(times):
    asked = []

    def counted(x, level):
        asked.append(level.t)
        return THREE(x, level)

    x, at, to = images(5, 1, 1, 2), flow()(0.5), flow()(0.4)
    lower, _ = resampled(ddim, times, seeded(0))(counted, x, at, to)
    assert asked == [at.t] * times
    assert torch.equal(lower, ddim(THREE, x, at, to)[0]) == (times == 1)


def test_a_run_of_one_level_takes_no_step():
    x = images(3, 1, 1, 2)
    [clean] = sample(THREE, x, flow().grid(5)[-1:])
    [noisy] = sample(THREE, x, flow().grid(5)[:1])
    assert torch.equal(clean.x, x) and torch.equal(noisy.x, x) and torch.equal(noisy.x0, THREE(x, noisy.level).x0)


@pytest.mark.parametrize("steps", [20, 50])
def test_in_few_steps_the_posterior_variance_gives_too_little_spread_and_beta_too_much(steps):
    N, s, levels = 100_000, 0.5, linear_beta(1000).grid(steps)
    lower, upper = (
        [*sample(gaussian(0.3, s), images(N, 1, 1, 1), levels, step)][-1].x.std() for step in (ddpm, beta_ddpm)
    )
    error = s / (2 * N) ** 0.5
    assert lower < s - 3 * error and upper > s + 3 * error


@pytest.mark.parametrize("schedule", [linear_beta(1000), flow()], **by_name)
def test_the_error_of_ddim_halves_when_the_steps_double(schedule):
    mu, s, x = 0.3, 0.5, images(1, 1, 4, 4)
    start = schedule(1.0)
    exact = mu + s * (x - start.alpha * mu) / (start.alpha**2 * s**2 + start.sigma**2).sqrt()  # the ODE, solved
    error = []
    for steps in (125, 250, 500):
        *_, last = sample(gaussian(mu, s), x, schedule.grid(steps))
        error.append(float((last.x - exact).abs().max()))
    assert all(1.8 < a / b < 2.2 for a, b in pairwise(error)) and error[-1] < 0.01


# The states of a run


@pytest.mark.parametrize("T", [1, 7, 50])
@every_step
def test_T_steps_ask_the_denoiser_at_T_down_to_1_and_t_0_is_the_result(T, step):
    asked = []

    def spy(x, level):
        asked.append(round(float(level.t) * T))
        return gaussian(0.3, 0.5)(x, level)

    states = list(sample(spy, images(2, 1, 4, 4), linear_beta(T).grid(T), step))
    assert asked == list(range(T, 0, -1))
    assert [round(float(d.level.t) * T) for d in states] == list(range(T, -1, -1))


@every_step
@every_schedule
def test_the_first_state_is_the_noise_and_the_result_is_the_last_estimate_of_x0(step, schedule):
    x, levels = images(3, 1, 1, 2), schedule.grid(9)
    states = list(sample(THREE, x, levels, step))
    assert len(states) == len(levels) and all(d.level is level for d, level in zip(states, levels, strict=True))
    assert torch.equal(states[0].x, x)
    assert torch.equal(states[-1].x, states[-2].x0) and torch.equal(states[-1].x, states[-1].x0)


@every_step
def test_a_run_may_stop_above_the_data_and_then_still_estimates_it(step):
    levels = flow().grid(10)[:6]
    states = list(sample(THREE, images(3, 1, 1, 2), levels, step))
    assert len(states) == 6 and torch.equal(states[-1].x0, THREE(states[-1].x, levels[-1]).x0)


@every_step
@every_schedule
def test_x_is_alpha_x0_plus_sigma_eps_in_every_state(step, schedule):
    for d in sample(THREE, images(3, 1, 1, 2), schedule.grid(20), step):
        assert torch.allclose(d.level.alpha * d.x0 + d.level.sigma * d.eps, d.x)


def test_deterministic_sampling_is_a_function_of_its_noise_and_leaves_the_random_stream_alone():
    x, levels = images(3, 1, 1, 2), flow().grid(10)
    *_, first = sample(THREE, x, levels)
    before = torch.get_rng_state()
    *_, again = sample(THREE, x, levels)
    *_, other = sample(THREE, x + 0.1, levels)
    assert torch.equal(first.x, again.x) and not torch.equal(first.x, other.x)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("step", [ddpm, beta_ddpm], ids=["posterior", "beta"])
def test_ancestral_sampling_is_a_function_of_its_noise_and_its_generator(step):
    x, levels = images(3, 1, 1, 2), linear_beta(100).grid(10)
    a, b, c = ([*sample(THREE, x, levels, partial(step, generator=seeded(s)))][-1].x for s in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_sampling_does_not_change_its_noise_nor_build_a_graph():
    x = torch.randn(2, 1, 28, 28)
    before = x.clone()
    states = list(sample(Denoiser(CourseUNet(D=2, time=True), "eps", linear_beta(10)), x, linear_beta(10).grid(2)))
    assert torch.equal(x, before) and torch.is_grad_enabled()
    assert not any(part.requires_grad for d in states for part in (d.x, d.x0))


def test_batchnorm_left_in_train_mode_does_not_mix_the_images_of_a_batch_while_sampling():
    schedule = linear_beta(10)
    net = CourseUNet(D=4, time=True).train()
    statistics = {name: value.clone() for name, value in net.state_dict().items()}
    x, levels = torch.randn(3, 1, 28, 28), schedule.grid(4)
    denoiser = Denoiser(net, "eps", schedule)
    *_, together = sample(denoiser, x, levels)
    for i in range(3):
        *_, alone = sample(denoiser, x[i : i + 1], levels)
        assert torch.allclose(together.x[i : i + 1], alone.x, rtol=1e-4, atol=1e-4)
    assert net.training and all(torch.equal(statistics[name], value) for name, value in net.state_dict().items())
    times = torch.ones(3)
    assert not torch.allclose(net(x, times)[:1], net(x[:1], times[:1]), atol=1e-2)  # train mode would have


@every_step
def test_a_trajectory_holds_every_state_within_float16_and_returns_float32(step):
    states = list(sample(THREE, torch.randn(3, 1, 1, 2), linear_beta(100).grid(10), step))
    trajectory = Trajectory(iter(states))
    assert len(trajectory) == 11
    for d, kept in zip(states, trajectory, strict=True):
        assert kept.level is d.level and {kept.x.dtype, kept.x0.dtype, kept.eps.dtype} == {torch.float32}
        for a, b in ((d.x, kept.x), (d.x0, kept.x0)):
            assert torch.allclose(a, b, rtol=2**-11, atol=2**-24)  # half a unit in the last place of float16
        _, alpha, sigma = kept.level.like(kept.x)
        assert torch.allclose(alpha * kept.x0 + sigma * kept.eps, kept.x, atol=1e-5)
    assert torch.equal(trajectory[-1].x, trajectory[10].x)


# diffusers: its timestep t is our entry t + 1, as its table lacks the entry of clean data.


class AnyNet(nn.Module):
    """Some network, the same for both sides: parity has to hold whatever it predicts."""

    classes = 0

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1).double()

    def forward(self, x, t):
        return self.conv(x).tanh() + t[:, None, None, None]


def scheduler_of(kind, schedule, spacing, steps, **options):
    diffusers = pytest.importorskip("diffusers", reason="parity with diffusers needs it: pip install diffusers")
    betas = {"num_train_timesteps": schedule.T, "beta_start": 1e-4, "beta_end": 0.02}
    scheduler = getattr(diffusers, kind)(**betas, timestep_spacing=spacing, **{"clip_sample": False, **options})
    scheduler.set_timesteps(steps)
    ours = schedule(torch.arange(1, schedule.T + 1) / schedule.T).alpha ** 2
    assert torch.allclose(scheduler.alphas_cumprod.double(), ours, rtol=2e-5)  # the same table, theirs in float32:
    scheduler.alphas_cumprod = ours  # in float64 the steps can be compared without its rounding
    return scheduler, [schedule(t / schedule.T) for t in [*(scheduler.timesteps + 1).tolist(), 0]]


SPACINGS = [("leading", 300), ("leading", 30), ("trailing", 30), ("trailing", 10)]


@pytest.mark.parametrize("spacing, steps", SPACINGS)
@pytest.mark.parametrize("clipped", [False, True], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("variance, theirs", [("posterior", "fixed_small"), ("beta", "fixed_large")])
def test_ddpm_is_the_ddpm_of_diffusers_step_by_step(spacing, steps, clipped, variance, theirs):
    net, schedule, x = AnyNet(), linear_beta(300), images(3, 1, 4, 4)
    denoise = edits.clip(Denoiser(net, "eps", schedule)) if clipped else Denoiser(net, "eps", schedule)
    scheduler, levels = scheduler_of(
        "DDPMScheduler", schedule, spacing, steps, variance_type=theirs, clip_sample=clipped
    )
    with torch.no_grad():
        for t, (at, to) in zip(scheduler.timesteps, pairwise(levels), strict=True):
            if t > 0 and to.t == 0:
                break  # here diffusers adds noise to a strided run's last step: algorithm 2 of the paper adds none
            expected = scheduler.step(net(x, at.t.expand(3)), t, x, generator=seeded(int(t))).prev_sample
            x, _ = ddpm(denoise, x, at, to, variance=variance, generator=seeded(int(t)))
            assert torch.allclose(x, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("spacing, steps", SPACINGS)
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_move_is_the_ddim_of_diffusers_step_by_step(spacing, steps, eta):
    net, schedule, x = AnyNet(), linear_beta(300), images(3, 1, 4, 4)
    scheduler, levels = scheduler_of("DDIMScheduler", schedule, spacing, steps, set_alpha_to_one=True)
    with torch.no_grad():
        for t, (at, to) in zip(scheduler.timesteps, pairwise(levels), strict=True):
            eps = net(x, at.t.expand(3))
            expected = scheduler.step(eps, t, x, eta=eta, generator=seeded(int(t))).prev_sample
            x = move(Denoised(x, to_x0("eps", eps, x, at), at), to, eta, generator=seeded(int(t)))
            assert torch.allclose(x, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("spacing, steps", [("trailing", 30), ("trailing", 10), ("leading", 20)])
def test_dpmpp_2m_is_the_multistep_solver_of_diffusers_step_by_step(spacing, steps):
    net, schedule, x = AnyNet(), linear_beta(300), images(3, 1, 4, 4)
    diffusers = pytest.importorskip("diffusers", reason="parity with diffusers needs it: pip install diffusers")
    betas = {"num_train_timesteps": 300, "beta_start": 1e-4, "beta_end": 0.02}
    scheduler = diffusers.DPMSolverMultistepScheduler(**betas, timestep_spacing=spacing, final_sigmas_type="zero")
    scheduler.set_timesteps(steps)
    levels = [schedule(t / 300) for t in [*(scheduler.timesteps + 1).tolist(), 0]]
    denoise, prev = Denoiser(net, "eps", schedule), None
    with torch.no_grad():
        for t, (at, to) in zip(scheduler.timesteps, pairwise(levels), strict=True):
            expected = scheduler.step(net(x, at.t.expand(3)), t, x).prev_sample
            x, prev = dpmpp_2m(denoise, x, at, to, prev)
            assert torch.allclose(x, expected.double(), rtol=1e-5, atol=1e-5)  # theirs has its levels in float32


def test_trailing_timesteps_of_diffusers_are_our_grid():
    _, levels = scheduler_of("DDIMScheduler", linear_beta(300), "trailing", 30)
    assert all(torch.equal(a.t, b.t) for a, b in zip(levels, linear_beta(300).grid(30), strict=True))


# Bad input

D = Denoised(torch.zeros(2, 1, 1, 2), torch.zeros(2, 1, 1, 2), flow()(0.5))
X = torch.zeros(2, 1, 1, 2)


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda: move(D, flow()(0.2), eta=-0.1), "eta = -0.1"),
        (lambda: move(D, flow()(0.2), eta=1.5), "eta = 1.5"),
        (lambda: move(D, flow()(0.2), eta=math.nan), "eta = nan"),
        (lambda: move(D, flow()(0.7)), "t = 0.5 to t = 0.7"),
        (lambda: move(D, flow()(0.5)), "t = 0.5 to t = 0.5"),
        (lambda: move(D, flow()(torch.tensor([0.2, 0.75]))), r"0\.75"),
        (lambda: move(D, flow()(torch.tensor([0.1, 0.2, 0.3]))), "3 levels for 2 images"),
        (lambda: ddpm(THREE, X, flow()(0.5), flow()(0.2), variance="fixed_small"), "'fixed_small'.*posterior.*beta"),
        (lambda: sample(THREE, X, flow().grid(5)[::-1]), "t = 0.0 to t = 0.2"),
        (lambda: sample(THREE, X, [flow()(t) for t in (1.0, 0.5, 0.75, 0.0)]), "t = 0.5 to t = 0.75"),
        (lambda: sample(THREE, X, [flow()(t) for t in (1.0, 0.5, 0.5)]), "t = 0.5 to t = 0.5"),
        (lambda: sample(THREE, X, []), "0 levels"),
        (lambda: resampled(ddim, 0), "times = 0"),
    ],
)
def test_bad_input_is_named_at_the_call_before_any_step(call, named):
    with pytest.raises(ValueError, match=named):
        call()


@pytest.mark.parametrize(
    "net, shape, named",
    [
        (CourseUNet(D=2, time=True), (2, 3, 28, 28), r"\(2, 3, 28, 28\): expected \(B, 1, 28, 28\)"),
        (CourseUNet(D=2, time=True), (2, 1, 32, 32), r"\(2, 1, 32, 32\): expected \(B, 1, 28, 28\)"),
        (CourseUNet(D=2, time=True), (1, 28, 28), r"\(1, 28, 28\)"),
        (ResidualUNet((8, 16)), (2, 3, 28, 28), r"\(2, 3, 28, 28\): expected \(B, 1, H, W\)"),
        (ResidualUNet((8, 16)), (2, 1, 28, 30), "28x30 pixels: expected multiples of 4"),
    ],
)
@every_step
def test_images_of_wrong_channels_or_size_are_named(step, net, shape, named):
    with pytest.raises(ValueError, match=named):
        list(sample(Denoiser(net, "flow", flow()), torch.zeros(shape), flow().grid(2), step))
