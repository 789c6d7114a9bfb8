"""Guidance, clipping and label mixtures, on a network and on an exact denoiser with classes."""

import pytest
import torch
from oracles import THREE, gaussian
from torch import nn
from torch.nn import functional as F

from diffusion_helpers.denoise import Denoised, Denoiser
from diffusion_helpers.edits import clip, guide, mix_labels
from diffusion_helpers.samplers import ddim, ddpm, sample
from diffusion_helpers.schedules import Level, flow, linear_beta
from diffusion_helpers.unet import CourseUNet, ResidualUNet

LEVEL = flow()(0.6)


def network():
    """A course network of ten classes, its BatchNorm statistics filled so that labels matter, and images for it."""
    net = CourseUNet(D=4, time=True, classes=10).requires_grad_(False)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    net(torch.randn(33, 1, 28, 28), torch.rand(33), torch.arange(33) % 11)
    return Denoiser(net, "eps", flow()), torch.randn(4, 1, 28, 28)


def oracle():
    """The exact denoiser of three classes, one Gaussian each, and points for it."""
    return THREE, torch.randn(4, 1, 1, 2)


both = pytest.mark.parametrize("make", [network, oracle])
strengths = pytest.mark.parametrize("gamma", [-0.5, 0.0, 0.5, 1.0, 1.5, 5.0, 10.0])


def labels(model):
    return torch.tensor([0, 2, 1, 0])


def null(model):
    return torch.full((4,), model.classes)


def answers(make):
    """A model, images, labels, and its answers without a label and with one."""
    model, x = make()
    y = labels(model)
    return model, x, y, model(x, LEVEL, null(model)), model(x, LEVEL, y)


def scaled(a, b):
    """Whether a is b up to the rounding of float32."""
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5 * float(1 + b.abs().max()))


# Guidance


@both
@strengths
def test_gamma_is_1_plus_w(make, gamma):
    model, x = make()
    y = labels(model)
    assert torch.equal(guide(model, y, gamma=gamma)(x, LEVEL).x0, guide(model, y, w=gamma - 1)(x, LEVEL).x0)


@both
def test_gamma_1_is_exactly_the_conditional_answer_and_gamma_0_the_unconditional(make):
    model, x, y, u, c = answers(make)
    for name, answer, strength in (("gamma", u, 0), ("gamma", c, 1), ("w", u, -1), ("w", c, 0)):
        guided = guide(model, y, **{name: strength})(x, LEVEL)
        assert torch.equal(guided.x0, answer.x0) and torch.equal(guided.eps, answer.eps)
    assert not torch.allclose(u.x0, c.x0, rtol=1e-3, atol=1e-4)


@both
@strengths
def test_guidance_is_linear_in_gamma_for_x0_and_for_eps(make, gamma):
    model, x, y, u, c = answers(make)
    guided = guide(model, y, gamma=gamma)(x, LEVEL)
    assert scaled(guided.x0, u.x0 + gamma * (c.x0 - u.x0))
    assert scaled(guided.eps, u.eps + gamma * (c.eps - u.eps))
    w = gamma - 1
    assert scaled(guided.eps, (1 + w) * c.eps - w * u.eps)  # Ho and Salimans 2022, equation 6
    assert torch.equal(guided.x, x) and scaled(0.4 * guided.x0 + 0.6 * guided.eps, x)


@both
@pytest.mark.parametrize("gamma", [0.0, 1.0, 3.0])
def test_one_hot_weights_are_integer_labels(make, gamma):
    model, x = make()
    y = labels(model)
    one_hot = F.one_hot(y, model.classes).float()
    assert torch.equal(guide(model, y, gamma=gamma)(x, LEVEL).x0, guide(model, one_hot, gamma=gamma)(x, LEVEL).x0)


@both
def test_zeros_like_labels_is_the_digit_0_and_not_the_null_label(make):
    model, x, y, u, _ = answers(make)
    mistaken = model(x, LEVEL, torch.zeros_like(y)).x0
    digit_0 = F.one_hot(torch.zeros(4).long(), model.classes).float()
    assert torch.equal(mistaken, model(x, LEVEL, digit_0).x0)
    assert not torch.allclose(mistaken, u.x0, rtol=1e-3, atol=1e-4)
    assert torch.equal(u.x0, model(x, LEVEL, torch.zeros(4, model.classes)).x0)  # null is no class at all
    for gamma in (0.0, 3.0):
        right = guide(model, y, gamma=gamma)(x, LEVEL).x0
        wrong = mistaken + gamma * (model(x, LEVEL, y).x0 - mistaken)
        assert not torch.allclose(right, wrong, rtol=1e-3, atol=1e-4)


@both
def test_guiding_towards_the_null_label_changes_nothing(make):
    model, x, _, u, _ = answers(make)
    assert scaled(guide(model, null(model), gamma=7.0)(x, LEVEL).x0, u.x0)


@both
@pytest.mark.parametrize("gamma", [0.0, 1.0, 3.0])
def test_a_mixed_batch_with_one_level_per_image_is_a_loop_over_images(make, gamma):
    model, x = make()
    y = torch.tensor([0, 2, 1, model.classes])  # the null label among them
    level = flow()(torch.tensor([0.9, 0.5, 0.2, 0.7]))
    together = guide(model, y, gamma=gamma)(x, level)
    for i in range(4):
        alone = guide(model, y[i : i + 1], gamma=gamma)(x[i : i + 1], Level(*(part[i] for part in level)))
        assert scaled(together.x0[i : i + 1], alone.x0) and scaled(together.eps[i : i + 1], alone.eps)


@pytest.mark.parametrize("gamma, images", [(0.0, 4), (1.0, 4), (3.0, 8)])
def test_the_network_is_asked_once_with_both_answers_in_one_batch_where_both_are_needed(gamma, images):
    asked = []

    class Spy:
        classes = 3

        def __call__(self, x, level, y):
            asked.append(len(x))
            return THREE(x, level, y)

    guide(Spy(), labels(THREE), gamma=gamma)(torch.randn(4, 1, 1, 2), LEVEL)
    assert asked == [images]


@pytest.mark.parametrize("step", [ddim, ddpm])
def test_an_exact_conditional_denoiser_gives_each_image_its_own_class(step):
    n = 500
    y = torch.arange(3).repeat(n)
    levels, x = linear_beta(1000).grid(200), torch.randn(3 * n, 1, 1, 2)
    *_, last = sample(guide(THREE, y, gamma=1.0), x, levels, step)
    for k in range(3):
        points = last.x[y == k].reshape(n, 2)
        assert bool((torch.cdist(points, THREE.means).argmin(1) == k).all())
        assert bool(((points.mean(0) - THREE.means[k]).abs() < 6 * THREE.stds[k] / n**0.5).all())
    *_, last = sample(guide(THREE, y, gamma=0.0), x, levels, step)
    counts, _, _ = THREE.statistics(last.x)
    w, N = THREE.weights, 3 * n
    assert bool(((counts / N - w).abs() < 6 * (w * (1 - w) / N).sqrt()).all())


def test_guidance_beyond_1_moves_the_estimate_away_from_the_other_classes():
    # At high noise u is pulled towards the other means: guidance overshoots c on the far side of u.
    x, level, y = torch.randn(64, 1, 1, 2), flow()(0.9), torch.zeros(64).long()
    c, u = (THREE(x, level, labels).x0 for labels in (y, torch.full_like(y, 3)))
    for gamma in (2.0, 5.0):
        guided = guide(THREE, y, gamma=gamma)(x, level).x0
        assert torch.allclose((guided - u).norm(dim=-1), gamma * (c - u).norm(dim=-1), rtol=1e-4, atol=1e-5)
        assert bool((((guided - c) * (c - u)).sum(-1) >= 0).all())


def test_guidance_leaves_the_labels_and_images_of_the_caller_alone():
    model, x = network()
    y, before = labels(model), x.clone()
    guide(model, y, gamma=3.0)(x, LEVEL)
    assert torch.equal(x, before) and torch.equal(y, labels(model))


# Clipping


@pytest.mark.parametrize("low, high", [(-1.0, 1.0), (0.0, 1.0), (-0.6, 0.6)])
def test_clip_bounds_x0_and_eps_follows(low, high):
    x = 3 * torch.randn(64, 1, 1, 2, dtype=torch.float64)
    free = gaussian(0.3, 2.0)
    for level in (flow()(0.3), linear_beta(300)(1.0), flow()(torch.linspace(0.05, 1, 64))):
        d, raw = clip(free, low, high)(x, level), free(x, level)
        _, alpha, sigma = level.like(x)
        assert float(d.x0.min()) >= low and float(d.x0.max()) <= high
        assert torch.allclose(alpha * d.x0 + sigma * d.eps, x) and torch.equal(d.x, x)
        inside = (raw.x0 >= low) & (raw.x0 <= high)
        assert bool(inside.any()) and not bool(inside.all())
        assert torch.equal(d.x0[inside], raw.x0[inside]) and torch.equal(d.eps[inside], raw.eps[inside])


@pytest.mark.parametrize("step", [ddim, ddpm])
def test_a_clipped_and_guided_run_ends_within_the_range_of_pixels(step):
    model, x = network()
    states = list(sample(clip(guide(model, labels(model), gamma=10.0)), x, linear_beta(100).grid(10), step))
    assert all(float(d.x0.abs().max()) <= 1 for d in states) and float(states[-1].x.abs().max()) <= 1


# Label mixtures


@pytest.mark.parametrize("first, last, steps, classes", [(0, 9, 2, 10), (7, 3, 11, 10), (1, 0, 5, 2), (4, 4, 3, 10)])
def test_mix_labels_goes_from_one_one_hot_to_the_other_in_rows_of_length_1(first, last, steps, classes):
    rows = mix_labels(first, last, steps, classes)
    assert rows.shape == (steps, classes) and rows.dtype == torch.float32
    assert torch.equal(rows[0], F.one_hot(torch.tensor(first), classes).float())
    assert torch.equal(rows[-1], F.one_hot(torch.tensor(last), classes).float())
    assert torch.allclose(rows.norm(dim=1), torch.ones(steps))
    others = [k for k in range(classes) if k not in (first, last)]
    assert bool((rows >= 0).all()) and bool((rows[:, others] == 0).all())
    assert torch.allclose(rows, mix_labels(last, first, steps, classes).flip(0))
    if first != last:
        assert bool((rows[:, last].diff() > 0).all())


def test_with_shared_noise_a_label_mixture_leads_from_one_class_to_the_other():
    y = mix_labels(0, 1, 11, 3)
    x = torch.randn(1, 1, 1, 2).expand(11, 1, 1, 2)
    *_, last = sample(guide(THREE, y, gamma=1.0), x, linear_beta(1000).grid(100))
    nearest = torch.cdist(last.x.reshape(11, 2), THREE.means).argmin(1).tolist()
    assert nearest == sorted(nearest) and (nearest[0], nearest[-1]) == (0, 1)


# Bad input


def model():
    return Denoiser(CourseUNet(D=2, time=True, classes=10), "eps", flow())


Y = torch.tensor([3, 7])


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda: guide(model(), Y, gamma=3.0, w=2.0), "gamma = 3.0 and w = 2.0"),
        (lambda: guide(model(), Y, gamma=0.0, w=-1.0), "gamma = 0.0 and w = -1.0"),
        (lambda: guide(model(), Y), "gamma = None and w = None"),
        (lambda: guide(Denoiser(CourseUNet(D=2, time=True), "eps", flow()), Y, gamma=3.0), "0 classes"),
        (lambda: guide(model(), torch.tensor([3, 11]), gamma=3.0), "labels from 3 to 11: expected 0 to 9"),
        (lambda: guide(model(), torch.tensor([-1, 3]), gamma=0.0), "labels from -1 to 3: expected 0 to 9"),
        (lambda: guide(model(), torch.tensor(3), gamma=3.0), r"labels of shape \(\)"),
        (lambda: guide(model(), Y[:, None], gamma=3.0), r"labels of shape \(2, 1\)"),
        (lambda: guide(model(), torch.zeros(2, 9), gamma=3.0), r"\(2, 9\): expected \(B, 10\)"),
        (lambda: guide(model(), torch.tensor([3.0, 7.0]), gamma=3.0), r"\(2,\): expected \(B, 10\)"),
        (lambda: mix_labels(0, 10, 5, 10), "labels 0 and 10: expected 0 to 9"),
        (lambda: mix_labels(-1, 3, 5, 10), "labels -1 and 3: expected 0 to 9"),
        (lambda: mix_labels(10, 0, 5, 10), "labels 10 and 0: expected 0 to 9"),
        (lambda: mix_labels(0, 3, 1, 10), "1 steps"),
    ],
)
def test_bad_input_is_named_before_any_image_is_made(call, named):
    with pytest.raises(ValueError, match=named):
        call()


@pytest.mark.parametrize("gamma", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("net", [CourseUNet(D=2, time=True, classes=10), ResidualUNet((8, 16), classes=10)])
@pytest.mark.parametrize(
    "y, shape, named",
    [
        (Y, (3, 1, 28, 28), "2 labels for 3 images"),
        (Y[:1], (2, 1, 28, 28), "1 labels for 2 images"),  # one label is not spread over the batch
        (torch.zeros(3, 10), (2, 1, 28, 28), "3 labels for 2 images"),
        (Y, (2, 3, 28, 28), r"\(., 3, 28, 28\): expected \(B, 1, "),
        (Y, (2, 1, 27, 27), "27"),
    ],
)
def test_labels_and_images_that_do_not_match_are_named(gamma, net, y, shape, named):
    with pytest.raises(ValueError, match=named):
        guide(Denoiser(net, "flow", flow()), y, gamma=gamma)(torch.zeros(shape), LEVEL)


def test_clip_answers_for_the_same_images_at_the_same_level():
    x = torch.randn(2, 1, 1, 2)
    d = clip(THREE)(x, LEVEL)
    assert isinstance(d, Denoised) and d.x is x and d.level is LEVEL
