"""The denoiser contract, against the exact denoiser of Gaussian data."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from diffusion_helpers.denoise import KINDS, Denoised, Denoiser, evaluating, target, to_x0
from diffusion_helpers.schedules import cosine, flow, linear_beta, noise
from diffusion_helpers.unet import CourseUNet, ResidualUNet

SCHEDULES = [linear_beta(20), linear_beta(1000), cosine(20), flow()]
TIMES = (0.05, 0.3, 0.5, 0.75, 0.95, 1.0)
MU, S = 0.3, 0.5  # the data: every pixel N(MU, S²)

every_kind = pytest.mark.parametrize("kind", KINDS)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: f"{s.name}-{s.T}")


class Exact(nn.Module):
    """Predicts the conditional mean of its target given x, for data N(MU, S²), plus ``off``."""

    classes = 0

    def __init__(self, kind, schedule, off=0.0):
        super().__init__()
        self.kind, self.schedule, self.off = kind, schedule, off

    def forward(self, x, t):
        _, alpha, sigma = self.schedule(t).like(x)
        pull = (x - alpha * MU) / (alpha**2 * S**2 + sigma**2)
        x0, eps = MU + alpha * S**2 * pull, sigma * pull
        return {"eps": eps, "x0": x0, "v": alpha * eps - sigma * x0, "flow": eps - x0}[self.kind] + self.off


class Spy(nn.Module):
    """A network of ten classes that remembers the labels and times it was given."""

    classes = 10

    def forward(self, x, t, y):
        self.t, self.y = t, y
        return torch.zeros_like(x)


class Mixing(nn.Module):
    """A network whose BatchNorm, in train mode, lets one image of a batch change another."""

    classes = 0

    def __init__(self):
        super().__init__()
        self.norm, self.frozen = nn.BatchNorm2d(1), nn.BatchNorm2d(1)
        self.frozen.eval()

    def forward(self, x, t):
        return self.frozen(self.norm(x))


def usable(kind, level):
    return not (kind == "eps" and level.alpha == 0)


@every_kind
@every_schedule
def test_a_perfect_prediction_gives_back_x0_at_every_level(kind, schedule):
    x0, eps = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64).unbind()
    for t in TIMES:
        level = schedule(t)
        if usable(kind, level):
            x = noise(x0, level, eps)
            assert torch.allclose(to_x0(kind, target(kind, x0, eps, level), x, level), x0, atol=1e-7)


@every_kind
def test_the_round_trip_holds_with_one_level_per_image(kind):
    x0, eps = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64).unbind()
    level = flow()(torch.tensor([0.1, 0.5, 0.9]))
    x = noise(x0, level, eps)
    assert torch.allclose(to_x0(kind, target(kind, x0, eps, level), x, level), x0)


def test_the_targets_are_the_published_ones():
    x0, eps = torch.randn(2, 3, 1, 4, 4).unbind()
    level = linear_beta(300)(0.5)
    alpha, sigma = level.alpha.float(), level.sigma.float()
    assert torch.equal(target("eps", x0, eps, level), eps)
    assert torch.equal(target("x0", x0, eps, level), x0)
    assert torch.allclose(target("v", x0, eps, level), alpha * eps - sigma * x0)
    assert torch.equal(target("flow", x0, eps, level), eps - x0)


def test_flow_target_is_the_velocity_of_the_straight_path():
    x0, eps = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64).unbind()
    early, late = (noise(x0, flow()(t), eps) for t in (0.4, 0.6))
    assert torch.allclose((late - early) / 0.2, target("flow", x0, eps, flow()(0.5)))


@every_schedule
def test_x_is_always_alpha_x0_plus_sigma_eps(schedule):
    x, x0 = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64).unbind()
    for t in TIMES:
        d = Denoised(x, x0, schedule(t))
        assert torch.allclose(d.level.alpha * d.x0 + d.level.sigma * d.eps, x)
    assert torch.equal(Denoised(x, x0, schedule(0.0)).eps, torch.zeros_like(x))  # no noise in data


@every_kind
@every_schedule
def test_an_exact_network_of_any_kind_gives_the_exact_posterior_mean(kind, schedule):
    denoiser = Denoiser(Exact(kind, schedule), kind, schedule)
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    for t in TIMES:
        level = schedule(t)
        if usable(kind, level):
            posterior_mean = (x * level.alpha / level.sigma**2 + MU / S**2) / (1 / S**2 + level.snr)
            assert torch.allclose(denoiser(x, level).x0, posterior_mean, atol=1e-7)


@every_kind
@pytest.mark.parametrize("schedule", [linear_beta(20), flow()], ids=lambda s: s.name)
def test_the_exact_network_reaches_the_least_possible_loss_and_any_other_does_not(kind, schedule):
    B, pixels, off = 4096, 16, 0.5
    t = torch.arange(1, 21, dtype=torch.float64) / 20
    t = t[torch.arange(B) % 20]  # every level equally often
    x0 = MU + S * torch.randn(B, 1, 4, 4, dtype=torch.float64)
    level = schedule(t)
    # Given x, the target c0 x0 + c1 (x - alpha x0) / sigma varies only with x0.
    c0, c1 = KINDS[kind](level)
    posterior = S**2 * level.sigma**2 / (level.alpha**2 * S**2 + level.sigma**2)
    variance = (c0 - c1 * level.alpha / level.sigma) ** 2 * posterior
    least, error = variance.mean(), ((2 * variance**2).mean() / (B * pixels)).sqrt()
    exact = Denoiser(Exact(kind, schedule), kind, schedule).loss(x0, t=t)
    worse = Denoiser(Exact(kind, schedule, off), kind, schedule).loss(x0, t=t)
    cross = 2 * off * (variance.mean() / (B * pixels)).sqrt()
    assert abs(exact - least) < 6 * error
    assert abs(worse - least - off**2) < 6 * (error + cross) and worse > exact


def test_without_given_times_the_loss_averages_over_the_levels_1_to_T():
    B, schedule = 4096, linear_beta(20)
    spy = Spy()
    loss = Denoiser(spy, "eps", schedule).loss(torch.zeros(B, 1, 2, 2), torch.zeros(B).long())
    assert set((spy.t * 20).round().int().tolist()) == set(range(1, 21))
    assert abs(float(loss) - 1) < 6 * (2 / (4 * B)) ** 0.5  # predicting 0 leaves the variance of eps


def test_the_loss_has_gradients_for_the_network_only():
    net = Mixing()
    x0 = torch.randn(4, 1, 4, 4)
    Denoiser(net, "eps", flow()).loss(x0).backward()
    assert net.norm.weight.grad is not None and x0.grad is None


def test_calling_a_denoiser_keeps_batchnorm_in_eval_mode_and_changes_nothing():
    net = Mixing()
    denoiser = Denoiser(net, "x0", flow())
    net.norm.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.randn(5, 1, 4, 4)
    together, alone = denoiser(x, flow()(0.5)).x0, denoiser(x[:1], flow()(0.5)).x0
    assert torch.allclose(together[:1], alone)  # the other images of the batch do not matter
    assert (net.training, net.norm.training, net.frozen.training) == (True, True, False)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not torch.allclose(net(x, None)[:1], alone)  # in train mode they would have


def test_the_modes_come_back_after_an_error_too():
    net = Mixing()
    with pytest.raises(RuntimeError, match="stop"), evaluating(net):
        assert not net.norm.training
        raise RuntimeError("stop")
    assert net.training and net.norm.training and not net.frozen.training


@pytest.mark.parametrize("distance, mean", [(F.mse_loss, 2.25), (F.l1_loss, 1.5), (F.huber_loss, 1.0)])
def test_the_distance_between_prediction_and_target_can_be_chosen(distance, mean):
    """The target is x0 = 1.5, the prediction 0; Huber's is |d| - 1/2 above 1."""

    class Zero(nn.Module):
        def forward(self, x, t):
            return torch.zeros_like(x)

    x0, denoiser = torch.full((4, 1, 3, 3), 1.5), Denoiser(Zero(), "x0", flow())
    assert float(denoiser.loss(x0, distance=distance)) == pytest.approx(mean)
    if distance is F.mse_loss:
        assert float(denoiser.loss(x0)) == pytest.approx(mean)  # what it is if none is chosen


@pytest.mark.parametrize("digit", [0, 7])
@pytest.mark.parametrize("drop", [0.0, 0.1, 0.5, 1.0])
def test_labels_are_dropped_with_the_given_probability_to_the_null_class(digit, drop):
    n, spy = 20_000, Spy()
    Denoiser(spy, "eps", flow()).loss(torch.zeros(n, 1, 1, 1), torch.full((n,), digit), drop=drop)
    count = torch.bincount(spy.y, minlength=11)
    assert abs(int(count[10]) - n * drop) <= 6 * (n * drop * (1 - drop)) ** 0.5
    assert int(count[10] + count[digit]) == n and spy.y.dtype == torch.int64  # never another digit


def test_labels_are_dropped_independently_not_a_fixed_count_per_batch():
    batches, size, p, spy = 500, 40, 0.1, Spy()
    denoiser, counts = Denoiser(spy, "eps", flow()), []
    for _ in range(batches):
        denoiser.loss(torch.zeros(size, 1, 1, 1), torch.zeros(size).long(), drop=p)
        counts.append(int((spy.y == 10).sum()))
    variance = size * p * (1 - p)
    assert abs(float(torch.tensor(counts).double().var()) / variance - 1) < 6 * (2 / (batches - 1)) ** 0.5


def test_the_labels_of_the_caller_are_not_changed():
    y = torch.arange(10)
    Denoiser(Spy(), "eps", flow()).loss(torch.zeros(10, 1, 1, 1), y, drop=1.0)
    assert torch.equal(y, torch.arange(10))


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda x: target("noise", x, x, flow()(0.5)), "'noise'.*eps, x0, v, flow"),
        (lambda x: to_x0("score", x, x, flow()(0.5)), "'score'.*eps, x0, v, flow"),
        (lambda x: Denoiser(nn.Identity(), "epsilon", flow()), "'epsilon'.*eps, x0, v, flow"),
        (lambda x: to_x0("eps", x, x, flow()(1.0)), "eps prediction at alpha = 0"),
        (lambda x: to_x0("eps", x, x, flow()(torch.tensor([0.5, 1.0]))), "eps prediction at alpha = 0"),
        (lambda x: Denoiser(Spy(), "eps", flow()).loss(x, torch.eye(10)[:2]), r"\(2, 10\)"),
        (lambda x: Denoiser(Spy(), "eps", flow()).loss(x, torch.zeros(3).long()), r"\(3,\)"),
        (lambda x: Denoiser(Spy(), "eps", flow()).loss(x, torch.zeros(2).long(), t=torch.rand(3)), "3 levels for 2"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call(torch.zeros(2, 1, 1, 1))


@every_kind
def test_the_gradient_through_a_denoiser_is_finite_at_mixed_levels_with_0_among_them(kind):
    """With the estimate's own derivative: x0 = mu + pull (x - alpha mu), eps = (x - alpha x0) / sigma and 0 at 0."""
    denoiser = Denoiser(Exact(kind, flow()), kind, flow())
    x = torch.randn(4, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    level = flow()(torch.tensor([0.0, 0.3, 0.7, 0.9]))
    alpha, sigma = (part[:, None, None, None] for part in (level.alpha, level.sigma))
    pull = alpha * S**2 / (alpha**2 * S**2 + sigma**2)
    d = denoiser(x, level)
    (x0,) = torch.autograd.grad(d.x0.sum(), x, retain_graph=True)
    (eps,) = torch.autograd.grad(d.eps.sum(), x)
    assert torch.allclose(x0, pull.expand_as(x))
    expected = torch.where(sigma > 0, (1 - alpha * pull) / sigma.clamp(min=1e-9), 0.0)
    assert torch.allclose(eps, expected.expand_as(x))
    zero = Denoised(x, x.detach(), flow()(0.0))
    assert torch.equal(torch.autograd.grad(zero.eps.sum(), x)[0], torch.zeros_like(x))


@pytest.mark.parametrize("kind", ["eps", "x0", "v", "flow"])
def test_the_parts_of_a_batch_are_answered_as_the_whole(kind):
    denoiser = Denoiser(Exact(kind, flow()), kind, flow())
    x, t = torch.randn(5, 1, 2, 2, dtype=torch.float64), torch.tensor([0.9, 0.1, 0.5, 0.3, 0.7])
    whole = denoiser(x, flow()(t))
    for part in (slice(0, 2), slice(2, 5)):
        d = denoiser(x[part], flow()(t[part]))
        assert torch.allclose(d.x0, whole.x0[part]) and torch.allclose(d.eps, whole.eps[part])


NETS = [lambda: CourseUNet(D=2, time=True, classes=10), lambda: ResidualUNet((8, 16), classes=10)]


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [0.5, torch.tensor([0.2, 0.5, 0.9])], ids=["one level", "a level each"])
def test_no_forward_pass_waits_for_a_value_on_the_device(net, kind, t):
    """Tensors on "meta" have no values: whoever asks for one, as .item() and bool() do, gets an error."""
    with torch.device("meta"):
        denoiser, x, y = Denoiser(net(), kind, flow()), torch.empty(3, 1, 28, 28), torch.zeros(3).long()
    for labels in (y, torch.empty(3, 10, device="meta")):
        d = denoiser(x, flow()(t), labels)
        assert d.x0.shape == d.eps.shape == x.shape and d.eps.device.type == "meta"
    with pytest.raises(RuntimeError, match="meta"):
        bool((x == 0).any())  # the test would see it


def test_levels_are_converted_once_in_training():
    """All of them: a batch has a level for each image, so each conversion is three copies to the device."""
    copies = []

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, call, types, args=(), kwargs=None):
            if call is torch.ops.aten._to_copy.default and kwargs.get("dtype") == torch.float32:
                copies.append(args[0].shape)
            return call(*args, **(kwargs or {}))

    with Counting():
        Denoiser(Spy(), "v", linear_beta(10)).loss(torch.zeros(7, 1, 2, 2), torch.zeros(7).long())
    assert copies == [(7,)] * 3


def test_labels_are_never_silently_ignored_by_a_network_without_classes():
    denoiser = Denoiser(CourseUNet(D=2, time=True), "eps", flow())
    x, y = torch.zeros(2, 1, 28, 28), torch.tensor([3, 3])
    for call in (lambda: denoiser(x, flow()(0.5), y), lambda: denoiser.loss(x, y)):
        with pytest.raises(ValueError, match="labels were given to a network of 0 classes"):
            call()
