"""Noise schedules: the Markov chain, the closed form, and the grid of times."""

import math
from statistics import NormalDist

import pytest
import torch

from diffusion_helpers.schedules import cosine, flow, linear_beta, logit_normal, noise, noisy_end


def betas_of_ddpm(T):
    return torch.linspace(1e-4, 0.02, T, dtype=torch.float64).tolist()


def betas_of_cosine(T):
    f = [math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(T + 1)]
    return [min(1 - f[t] / f[t - 1], 0.999) for t in range(1, T + 1)]


CHAINS = [
    pytest.param(make(T), betas(T), id=f"{make.__name__}-{T}")
    for make, betas in ((linear_beta, betas_of_ddpm), (cosine, betas_of_cosine))
    for T in (1, 2, 50, 300, 1000)
]


def table(schedule):
    """All levels of a tabulated schedule, entry 0 to entry T."""
    return schedule(torch.arange(schedule.T + 1, dtype=torch.float64) / schedule.T)


@pytest.mark.parametrize("schedule, betas", CHAINS)
def test_markov_chain_has_the_mean_and_variance_of_the_closed_form(schedule, betas):
    level = table(schedule)
    x0, mean, variance = 0.7, 0.7, 0.0
    assert len(betas) == schedule.T
    for t, beta in enumerate(betas, start=1):  # x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) eps
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        assert mean == pytest.approx(float(level.alpha[t]) * x0, rel=1e-9)
        assert variance == pytest.approx(float(level.sigma[t]) ** 2, rel=1e-9)


def test_simulated_markov_chain_agrees_with_one_jump():
    N, x0, schedule = 20_000, 0.7, linear_beta(1000)
    x = torch.full((N,), x0, dtype=torch.float64)
    for t, beta in enumerate(betas_of_ddpm(1000), start=1):
        x = math.sqrt(1 - beta) * x + math.sqrt(beta) * torch.randn(N, dtype=torch.float64)
        if t % 250 == 0:
            level = schedule(t / 1000)
            jump = noise(torch.full_like(x, x0), level, torch.randn_like(x))
            for sample in (x, jump):  # six standard errors of a mean and of a variance
                assert abs(sample.mean() - level.alpha * x0) < 6 * level.sigma / N**0.5
                assert abs(sample.var() - level.sigma**2) < 6 * level.sigma**2 * (2 / (N - 1)) ** 0.5


@pytest.mark.parametrize("schedule, betas", CHAINS)
def test_the_table_has_T_plus_1_entries_is_data_at_0_and_preserves_variance(schedule, betas):
    level = table(schedule)
    assert (level.alpha[0], level.sigma[0]) == (1, 0)
    assert torch.allclose(level.alpha**2 + level.sigma**2, torch.ones(len(betas) + 1).double(), atol=1e-14)
    assert bool((level.alpha.diff() < 0).all()) and bool((level.sigma.diff() > 0).all())
    assert {part.dtype for part in level} == {torch.float64}


@pytest.mark.parametrize(
    "T, signal", [(50, ".78"), (200, ".364"), (300, ".219"), (400, ".132"), (500, ".080"), (1000, ".006")]
)
def test_linear_beta_leaves_the_published_signal_at_the_last_step(T, signal):
    digits = len(signal) - 1
    assert f"{float(linear_beta(T)(1.0).alpha):.{digits}f}" == f"0{signal}"


@pytest.mark.parametrize("T", [10, 300, 1000])
def test_cosine_alpha_bar_follows_the_squared_cosine_until_beta_is_capped(T):
    alpha_bar = table(cosine(T)).alpha ** 2
    f = torch.cos((torch.arange(T + 1).double() / T + 0.008) / 1.008 * math.pi / 2) ** 2
    assert torch.allclose(alpha_bar[:-1], (f / f[0])[:-1], atol=1e-12)
    betas = 1 - alpha_bar[1:] / alpha_bar[:-1]
    assert float(betas.max()) == pytest.approx(0.999)  # only the last step needs the cap: f ends at 0


def test_flow_is_the_straight_line_between_data_and_noise():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    level = flow()(t)
    assert torch.equal(level.alpha, 1 - t) and torch.equal(level.sigma, t) and torch.equal(level.t, t)


def test_snr_is_infinite_at_data_and_falls_with_time():
    snr = table(linear_beta(300)).snr
    assert snr[0] == math.inf and bool((snr.diff()[1:] < 0).all())
    assert float(flow()(0.25).snr) == pytest.approx(9)


@pytest.mark.parametrize("t, entry", [(0.0, 0), (0.049, 0), (0.051, 1), (0.3, 3), (0.949, 9), (1.0, 10)])
def test_a_tabulated_schedule_reads_the_nearest_entry_and_says_so_in_t(t, entry):
    level, every = linear_beta(10)(t), table(linear_beta(10))
    assert float(level.t) == pytest.approx(entry / 10)
    assert (level.alpha, level.sigma) == (every.alpha[entry], every.sigma[entry])


@pytest.mark.parametrize("T", [1, 10, 300, 1000])
def test_every_time_k_over_T_reads_entry_k_also_in_float32(T):
    k = torch.arange(T + 1)
    assert torch.equal((linear_beta(T)(k.float() / T).t * T).round().long(), k)


@pytest.mark.parametrize("schedule", [linear_beta(60), cosine(60), flow()], ids=lambda s: s.name)
def test_every_grid_falls_strictly_from_noise_to_data(schedule):
    for steps in range(1, 61):
        levels = schedule.grid(steps)
        times = [float(level.t) for level in levels]
        assert len(levels) == steps + 1 and (times[0], times[-1]) == (1.0, 0.0)
        assert all(b < a for a, b in zip(times, times[1:], strict=False))
        assert (levels[-1].alpha, levels[-1].sigma) == (1, 0)


@pytest.mark.parametrize("steps", [2, 5, 10, 50, 300])
@pytest.mark.parametrize("spacing", ["log_snr", "karras"])
def test_every_spacing_has_its_steps_falls_strictly_and_goes_from_noise_to_data(spacing, steps) -> None:
    for schedule in (linear_beta(300), linear_beta(1000), cosine(1000), flow()):
        t = torch.stack([level.t for level in schedule.grid(steps, spacing)])
        assert len(t) == steps + 1 and t[0] == 1 and t[-1] == 0 and bool((t.diff() < 0).all())


@pytest.mark.parametrize(
    ("spacing", "even"), [("log_snr", lambda ratio: ratio.log()), ("karras", lambda ratio: ratio ** (1 / 7))]
)
@pytest.mark.parametrize("schedule", [linear_beta(1000), cosine(1000), flow()], ids=lambda s: s.name)
def test_the_spacings_are_even_in_what_their_papers_say(schedule, spacing, even) -> None:
    inner = schedule.grid(12, spacing)[1:-1]
    gaps = even(torch.stack([level.sigma / level.alpha for level in inner])).diff()
    rounding = 0.02 if schedule.T is None else 0.3  # a table has only its entries to choose from
    assert bool(((gaps / gaps.median() - 1).abs() < rounding).all())


def test_the_full_grid_visits_every_entry_once():
    assert [round(float(level.t) * 60) for level in linear_beta(60).grid(60)] == list(range(60, -1, -1))


@pytest.mark.parametrize("schedule", [linear_beta(10), flow()], ids=lambda s: s.name)
def test_one_level_per_image_broadcasts_like_a_loop_over_images(schedule):
    x0, eps = torch.randn(2, 3, 1, 4, 4).unbind()
    t = torch.tensor([0.1, 0.5, 0.9])
    loop = [noise(x0[i : i + 1], schedule(float(t[i])), eps[i : i + 1]) for i in range(3)]
    assert torch.allclose(noise(x0, schedule(t), eps), torch.cat(loop))


def test_like_takes_the_dtype_of_the_images_and_keeps_a_single_level_a_scalar():
    x = torch.zeros(3, 1, 4, 4)
    many, one = flow()(torch.rand(3)).like(x), flow()(0.5).like(x)
    assert {part.shape for part in many} == {(3, 1, 1, 1)} and {part.shape for part in one} == {()}
    assert {part.dtype for part in (*many, *one)} == {torch.float32}


def test_noise_is_exactly_the_image_at_data_and_exactly_the_noise_at_the_end_of_flow():
    x0, eps = torch.randn(2, 3, 1, 4, 4).unbind()
    assert torch.equal(noise(x0, linear_beta(10)(0.0), eps), x0)
    assert torch.equal(noise(x0, flow()(1.0), eps), eps)


@pytest.mark.parametrize("schedule", [linear_beta(10), cosine(10)], ids=lambda s: s.name)
def test_draw_visits_every_index_1_to_T_equally_often_and_never_0(schedule):
    n, p = 20_000, 0.1
    count = torch.bincount((schedule.draw(n) * 10).round().long(), minlength=11)
    assert len(count) == 11 and count[0] == 0
    assert bool(((count[1:] - n * p).abs() < 6 * (n * p * (1 - p)) ** 0.5).all())


def test_draw_of_a_continuous_schedule_is_uniform():
    n = 20_000
    t = flow().draw(n)
    assert t.shape == (n,) and bool(((t >= 0) & (t < 1)).all())
    assert float((t.sort().values - torch.arange(n) / n).abs().max()) < 3 / n**0.5  # Kolmogorov-Smirnov, p < 1e-7


@pytest.mark.parametrize("n", [1, 2, 128, 1000])
def test_stratified_times_fall_one_in_each_stratum_of_a_continuous_schedule(n):
    t = flow().stratified(n)
    assert t.shape == (n,) and torch.equal((t * n).floor().long().sort().values, torch.arange(n))


@pytest.mark.parametrize("schedule", [linear_beta(10), cosine(10)], ids=lambda s: s.name)
@pytest.mark.parametrize("n", [10, 70, 25])
def test_a_stratified_batch_holds_each_index_as_often_as_it_can(schedule, n):
    """n/10 strata lie in each tenth, and at most two more reach into it."""
    index = schedule.stratified(n) * 10
    count = torch.bincount(index.round().long(), minlength=11)
    assert torch.allclose(index, index.round(), rtol=0, atol=1e-12)
    assert len(count) == 11 and count[0] == 0
    assert bool(((count[1:] - n / 10).abs() < (1e-9 if n % 10 == 0 else 2)).all())


def test_each_stratified_time_alone_is_as_likely_as_any_and_knows_nothing_of_its_place():
    """First, middle and last of many small batches: an index and its place in the batch are independent."""
    batches, p = 6000, 0.1
    index = torch.stack([linear_beta(10).stratified(3) * 10 for _ in range(batches)]).round().long()
    for place in index.T:
        count = torch.bincount(place, minlength=11)[1:]
        assert bool(((count - batches * p).abs() < 6 * (batches * p * (1 - p)) ** 0.5).all())


@pytest.mark.parametrize("n", [1, 2, 128, 1000])
def test_logit_normal_puts_one_time_in_each_equally_likely_stratum(n):
    t = logit_normal(n)
    probability = torch.special.ndtr(t.logit())
    assert t.shape == (n,) and bool(((t > 0) & (t < 1)).all())
    assert torch.equal((probability * n).floor().long().sort().values, torch.arange(n))


def test_logit_normal_has_the_quantiles_of_a_sigmoid_of_a_normal():
    n = 20_000
    t = logit_normal(n).sort().values
    for p in (0.01, 0.1, 0.5, 0.9, 0.99):
        low, high = (1 / (1 + math.exp(-NormalDist().inv_cdf(p + d / n))) for d in (-1, 1))
        assert low <= t[round(p * n)] <= high


def test_logit_normal_is_not_sorted_so_that_image_and_time_are_independent():
    n = 10_000
    ranks = logit_normal(n).argsort().argsort().double()
    correlation = torch.corrcoef(torch.stack([ranks, torch.arange(n).double()]))[0, 1]
    assert abs(float(correlation)) < 6 / n**0.5


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_times_of_the_noisy_end_have_one_in_each_stratum_of_their_root(n):
    t = noisy_end(n)
    assert t.shape == (n,) and bool(((t > 0) & (t <= 1)).all())
    u = (1 - t).sqrt()  # half of them have t above 3/4
    assert torch.equal((u * n + 1e-9).floor().long().sort().values, torch.arange(n))


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda: flow()(1.5), "1.5"),
        (lambda: flow()(-0.25), "-0.25"),
        (lambda: linear_beta(10)(torch.tensor([0.5, 3.0])), "3.0"),
        (lambda: flow()(math.nan), "nan"),
        (lambda: linear_beta(0), "T = 0"),
        (lambda: linear_beta(2.5), "T = 2.5"),
        (lambda: cosine(-3), "T = -3"),
        (lambda: linear_beta(10, first=0.0), "0.0"),
        (lambda: linear_beta(10, first=0.03, last=0.02), "0.03"),
        (lambda: linear_beta(10, last=1.0), "1.0"),
        (lambda: linear_beta(10).grid(0), "steps = 0"),
        (lambda: linear_beta(10).grid(11), "steps = 11"),
        (lambda: flow().grid(-1), "steps = -1"),
        (lambda: flow().grid(2.5), "steps = 2.5"),
        (lambda: flow().grid(5, "trailing"), "spacing 'trailing': expected 'uniform', 'log_snr' or 'karras'"),
        (lambda: noise(torch.zeros(2, 1), flow()(0.5), torch.zeros(1)), r"\(1,\).*\(2, 1\)"),
        (lambda: noise(torch.zeros(3, 1), flow()(torch.rand(2)), torch.zeros(3, 1)), "2 levels for 3 images"),
        (lambda: noise(torch.zeros(3, 1).byte(), flow()(0.5), torch.zeros(3, 1)), "uint8"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
