"""Guidance and every edit, on a network and on exact denoisers."""

import pytest
import torch
from oracles import THREE, Mixture, gaussian
from torch import nn
from torch.nn import functional as F

from diffusion_helpers import edits
from diffusion_helpers.denoise import Denoised, Denoiser
from diffusion_helpers.edits import classifier_free, clip, during, given, guide, mix_labels
from diffusion_helpers.samplers import ddim, ddpm, dpmpp_2m, heun, resampled, sample
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
def test_gamma_1_is_exactly_the_conditional_answer_and_gamma_0_the_unconditional(make):
    model, x, y, u, c = answers(make)
    for answer, gamma in ((u, 0.0), (c, 1.0)):
        guided = classifier_free(model, y, gamma)(x, LEVEL)
        assert torch.equal(guided.x0, answer.x0) and torch.equal(guided.eps, answer.eps)
    assert not torch.allclose(u.x0, c.x0, rtol=1e-3, atol=1e-4)


@both
@strengths
def test_guidance_is_linear_in_gamma_for_x0_and_for_eps(make, gamma):
    model, x, y, u, c = answers(make)
    guided = classifier_free(model, y, gamma=gamma)(x, LEVEL)
    assert scaled(guided.x0, u.x0 + gamma * (c.x0 - u.x0))
    assert scaled(guided.eps, u.eps + gamma * (c.eps - u.eps))
    w = gamma - 1
    assert scaled(guided.eps, (1 + w) * c.eps - w * u.eps)  # Ho and Salimans 2022, equation 6
    assert torch.equal(guided.x, x) and scaled(0.4 * guided.x0 + 0.6 * guided.eps, x)


@both
@pytest.mark.parametrize("gamma", [0.0, 3.0])
def test_guidance_in_an_interval_is_the_guided_answer_inside_and_exactly_the_conditional_outside(make, gamma):
    model, x = make()
    y = labels(model)
    everywhere = classifier_free(model, y, gamma)
    inside = during(everywhere, given(model, y), 0.3, 0.7)
    for t in (0.3, 0.5, 0.7):
        assert torch.equal(inside(x, flow()(t)).x0, everywhere(x, flow()(t)).x0)
    for t in (0.05, 0.29, 0.71, 0.99):
        assert torch.equal(inside(x, flow()(t)).x0, model(x, flow()(t), y).x0)
    mixed = flow()(torch.tensor([0.1, 0.4, 0.6, 0.9]))
    found, c = inside(x, mixed).x0, model(x, mixed, y).x0
    assert scaled(found[[0, 3]], c[[0, 3]]) and scaled(found[[1, 2]], everywhere(x, mixed).x0[[1, 2]])


@both
@pytest.mark.parametrize("gamma", [0.0, 1.0, 3.0])
def test_one_hot_weights_are_integer_labels(make, gamma):
    model, x = make()
    y = labels(model)
    one_hot = F.one_hot(y, model.classes).float()
    assert torch.equal(
        classifier_free(model, y, gamma=gamma)(x, LEVEL).x0, classifier_free(model, one_hot, gamma=gamma)(x, LEVEL).x0
    )


@both
def test_zeros_like_labels_is_the_digit_0_and_not_the_null_label(make):
    model, x, y, u, _ = answers(make)
    mistaken = model(x, LEVEL, torch.zeros_like(y)).x0
    digit_0 = F.one_hot(torch.zeros(4).long(), model.classes).float()
    assert torch.equal(mistaken, model(x, LEVEL, digit_0).x0)
    assert not torch.allclose(mistaken, u.x0, rtol=1e-3, atol=1e-4)
    assert torch.equal(u.x0, model(x, LEVEL, torch.zeros(4, model.classes)).x0)  # null is no class at all
    for gamma in (0.0, 3.0):
        right = classifier_free(model, y, gamma=gamma)(x, LEVEL).x0
        wrong = mistaken + gamma * (model(x, LEVEL, y).x0 - mistaken)
        assert not torch.allclose(right, wrong, rtol=1e-3, atol=1e-4)


@both
def test_guiding_towards_the_null_label_changes_nothing(make):
    model, x, _, u, _ = answers(make)
    assert scaled(classifier_free(model, null(model), gamma=7.0)(x, LEVEL).x0, u.x0)


@both
@pytest.mark.parametrize("gamma", [0.0, 1.0, 3.0])
def test_a_mixed_batch_with_one_level_per_image_is_a_loop_over_images(make, gamma):
    model, x = make()
    y = torch.tensor([0, 2, 1, model.classes])  # the null label among them
    level = flow()(torch.tensor([0.9, 0.5, 0.2, 0.7]))
    together = classifier_free(model, y, gamma=gamma)(x, level)
    for i in range(4):
        alone = classifier_free(model, y[i : i + 1], gamma=gamma)(x[i : i + 1], Level(*(part[i] for part in level)))
        assert scaled(together.x0[i : i + 1], alone.x0) and scaled(together.eps[i : i + 1], alone.eps)


@pytest.mark.parametrize("gamma, images", [(0.0, 4), (1.0, 4), (3.0, 8)])
def test_the_network_is_asked_once_with_both_answers_in_one_batch_where_both_are_needed(gamma, images):
    asked = []

    class Spy:
        classes = 3

        def __call__(self, x, level, y):
            asked.append(len(x))
            return THREE(x, level, y)

    classifier_free(Spy(), labels(THREE), gamma=gamma)(torch.randn(4, 1, 1, 2), LEVEL)
    assert asked == [images]


@pytest.mark.parametrize("step", [ddim, ddpm])
def test_an_exact_conditional_denoiser_gives_each_image_its_own_class(step):
    n = 500
    y = torch.arange(3).repeat(n)
    levels, x = linear_beta(1000).grid(200), torch.randn(3 * n, 1, 1, 2)
    *_, last = sample(classifier_free(THREE, y, gamma=1.0), x, levels, step)
    for k in range(3):
        points = last.x[y == k].reshape(n, 2)
        assert bool((torch.cdist(points, THREE.means).argmin(1) == k).all())
        assert bool(((points.mean(0) - THREE.means[k]).abs() < 6 * THREE.stds[k] / n**0.5).all())
    *_, last = sample(classifier_free(THREE, y, gamma=0.0), x, levels, step)
    counts, _, _ = THREE.statistics(last.x)
    w, N = THREE.weights, 3 * n
    assert bool(((counts / N - w).abs() < 6 * (w * (1 - w) / N).sqrt()).all())


def test_guidance_beyond_1_moves_the_estimate_away_from_the_other_classes():
    # At high noise u is pulled towards the other means: guidance overshoots c on the far side of u.
    x, level, y = torch.randn(64, 1, 1, 2), flow()(0.9), torch.zeros(64).long()
    c, u = (THREE(x, level, labels).x0 for labels in (y, torch.full_like(y, 3)))
    for gamma in (2.0, 5.0):
        guided = classifier_free(THREE, y, gamma=gamma)(x, level).x0
        assert torch.allclose((guided - u).norm(dim=-1), gamma * (c - u).norm(dim=-1), rtol=1e-4, atol=1e-5)
        assert bool((((guided - c) * (c - u)).sum(-1) >= 0).all())


def test_guidance_leaves_the_labels_and_images_of_the_caller_alone():
    model, x = network()
    y, before = labels(model), x.clone()
    classifier_free(model, y, gamma=3.0)(x, LEVEL)
    assert torch.equal(x, before) and torch.equal(y, labels(model))


@strengths
def test_guidance_blends_any_two_denoisers_edited_ones_too(gamma):
    x, far, near = torch.randn(4, 1, 1, 2), gaussian(0.3, 0.5), clip(THREE, -0.5, 0.5)
    c, u = near(x, LEVEL), far(x, LEVEL)
    guided = guide(near, far, gamma)(x, LEVEL)
    assert scaled(guided.x0, (1 - gamma) * u.x0 + gamma * c.x0) and guided.x is x and guided.level is LEVEL
    inner = guide(clip(given(THREE, labels(THREE))), given(THREE, null(THREE)), gamma)(x, LEVEL)
    assert scaled(inner.x0, THREE(x, LEVEL).x0 * (1 - gamma) + gamma * THREE(x, LEVEL, labels(THREE)).x0.clamp(-1, 1))


def test_a_second_label_in_the_place_of_none_is_guided_away_from():
    model, x = network()
    four, nine = (torch.full((4,), digit) for digit in (4, 9))
    guided = guide(given(model, nine), given(model, four), 3.0)(x, LEVEL)
    assert scaled(guided.x0, 3 * model(x, LEVEL, nine).x0 - 2 * model(x, LEVEL, four).x0)


def test_two_models_are_asked_each_for_its_own():
    good, x = network()
    bad, y = network()[0], labels(good)
    guided = guide(given(good, y), given(bad, y), 2.0)(x, LEVEL)  # autoguidance
    assert scaled(guided.x0, 2 * good(x, LEVEL, y).x0 - bad(x, LEVEL, y).x0)


# Composition: what holds for every edit


MASK = torch.zeros(1, 8, 8).index_fill(2, torch.tensor([1, 2, 5]), 1)
IMAGE = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
EDITS = {
    "given": lambda y: given(Striped(), y),
    "guide": lambda y: classifier_free(Striped(), y, 3.0),
    "during": lambda y: during(classifier_free(Striped(), y, 3.0), given(Striped(), y), 0.3, 0.7),
    "clip": lambda y: clip(given(Striped(), y)),
    "inpaint": lambda y: edits.inpaint(given(Striped(), y), IMAGE, MASK),
    "upscale": lambda y: edits.upscale(given(Striped(), y), F.avg_pool2d(IMAGE, 4), 4),
    "anagram": lambda y: edits.anagram([given(Striped(), y)] * 2, [edits.UPRIGHT, edits.QUARTER_TURN]),
    "hybrid": lambda y: edits.hybrid(given(Striped(), y), gaussian(0.3, 0.5), 1.0),
}
every_edit = pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)


class Striped:
    """A denoiser of three classes: stripes as bright as the label, pulled towards x where there is little noise."""

    classes = 3

    def __call__(self, x, level, y):
        _, alpha, _ = level.like(x)
        stripes = (y @ torch.tensor([0.2, 0.5, 0.9]))[:, None, None, None] * torch.tensor([1.0, -1.0]).repeat(4)
        return Denoised(x, alpha * x + (1 - alpha) * stripes, level)


@every_edit
@pytest.mark.parametrize("t", [0.2, 0.5, torch.tensor([0.1, 0.4, 0.6, 0.8, 1.0])], ids=["late", "middle", "each"])
def test_every_edit_keeps_x_and_the_level_and_ties_x0_and_eps_by_them(edit, t):
    x, level = torch.randn(5, 1, 8, 8), flow()(t)
    d = edit(torch.tensor([0, 1, 2, 3, 0]))(x, level)
    _, alpha, sigma = level.like(x)
    assert torch.equal(d.x, x) and all(torch.equal(a, b) for a, b in zip(d.level, level, strict=True))
    assert d.x0.shape == x.shape and torch.allclose(alpha * d.x0 + sigma * d.eps, x, atol=1e-5)


@every_edit
def test_every_edit_answers_the_parts_of_a_batch_as_the_whole(edit):
    x, y, t = torch.randn(5, 1, 8, 8), torch.tensor([0, 1, 2, 3, 0]), torch.tensor([0.1, 0.4, 0.6, 0.8, 1.0])
    whole = edit(y)(x, flow()(t)).x0
    parts = [edit(y[part])(x[part], flow()(t[part])).x0 for part in (slice(0, 2), slice(2, 5))]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-6)


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
    states = list(sample(clip(classifier_free(model, labels(model), gamma=10.0)), x, linear_beta(100).grid(10), step))
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
    *_, last = sample(classifier_free(THREE, y, gamma=1.0), x, linear_beta(1000).grid(100))
    nearest = torch.cdist(last.x.reshape(11, 2), THREE.means).argmin(1).tolist()
    assert nearest == sorted(nearest) and (nearest[0], nearest[-1]) == (0, 1)


# Projections


every_step = pytest.mark.parametrize("step", [ddim, ddpm, heun, dpmpp_2m, resampled(ddpm, 3)])


def run(denoise, x, levels, step=ddim):
    *_, last = sample(denoise, x, levels, step)
    return last.x


@every_step
@pytest.mark.parametrize("schedule", [flow(), linear_beta(50)], ids=lambda s: s.name)
def test_inpainting_leaves_known_pixels_exactly_as_they_were_and_fills_in_the_rest(step, schedule):
    image = torch.rand(3, 1, 8, 8) * 2 - 1
    found = run(edits.inpaint(gaussian(0.2, 0.5), image, MASK), torch.randn_like(image), schedule.grid(10), step)
    new = MASK.expand_as(image) == 1
    assert torch.equal(found[~new], image[~new])
    assert not bool((found[new] == image[new]).any())


def test_a_mask_of_ones_changes_nothing_and_a_mask_of_zeros_gives_the_image():
    x, image = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    denoise = gaussian(0.2, 0.5)
    assert torch.equal(edits.inpaint(denoise, image, torch.ones(1, 4, 4))(x, LEVEL).x0, denoise(x, LEVEL).x0)
    assert torch.equal(edits.inpaint(denoise, image, torch.zeros(1, 4, 4))(x, LEVEL).x0, image)


@pytest.mark.parametrize("step", [ddpm, resampled(ddpm, 3)])
def test_what_is_filled_in_fits_what_is_known(step):
    """Points on a line x = y: who knows x must find y."""
    line = torch.linspace(-1, 1, 9)[:, None].repeat(1, 2).tolist()
    denoise = Mixture([1 / 9] * 9, line, [0.05] * 9)
    known = torch.linspace(-1, 1, 9).repeat(40)
    image = torch.stack([known, torch.zeros_like(known)], 1).reshape(-1, 1, 1, 2)
    found = run(edits.inpaint(denoise, image, torch.tensor([0.0, 1.0])), torch.randn_like(image), flow().grid(60), step)
    assert (found[..., 1] - found[..., 0]).abs().median() < 0.15  # 0.67 if it did not look


def test_resampling_makes_the_new_part_fit_better():
    line = torch.linspace(-1, 1, 9)[:, None].repeat(1, 2).tolist()
    denoise = Mixture([1 / 9] * 9, line, [0.05] * 9)
    image = torch.linspace(-1, 1, 9).repeat(80)[:, None].repeat(1, 2).reshape(-1, 1, 1, 2)
    masked, start = edits.inpaint(denoise, image, torch.tensor([0.0, 1.0])), torch.randn_like(image)
    off = [(run(masked, start, flow().grid(20), step) - image).abs().mean() for step in (ddpm, resampled(ddpm, 5))]
    assert off[1] < off[0]


@every_step
@pytest.mark.parametrize("factor", [2, 4])
def test_upscaling_keeps_the_mean_of_every_block(step, factor):
    small = torch.rand(3, 1, 8 // factor, 8 // factor) * 2 - 1
    found = run(edits.upscale(gaussian(0.2, 0.5), small, factor), torch.randn(3, 1, 8, 8), flow().grid(10), step)
    assert torch.allclose(F.avg_pool2d(found, factor), small, atol=1e-5)
    assert (found - F.interpolate(small, scale_factor=factor)).abs().mean() > 0.1


# Where to begin


@every_step
def test_sdedit_at_level_0_returns_the_image_and_at_1_forgets_it(step):
    image, eps, levels = torch.rand(2, 1, 4, 4), torch.randn(2, 1, 4, 4), flow().grid(10)
    x, rest = edits.sdedit(image, levels, 0.0, eps)
    assert len(rest) == 1 and torch.equal(run(gaussian(0.2, 0.5), x, rest, step), image)
    x, rest = edits.sdedit(image, levels, 1.0, eps)
    assert len(rest) == 11 and torch.equal(x, eps)


@pytest.mark.parametrize(("t", "start"), [(0.5, 0.5), (0.3, 0.3), (0.39, 0.3), (0.05, 0.0)])
def test_sdedit_begins_at_the_first_level_that_is_low_enough(t, start):
    image, eps = torch.rand(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    x, rest = edits.sdedit(image, flow().grid(10), t, eps)
    assert rest[0].t == pytest.approx(start) and len(rest) == round(10 * start) + 1
    assert torch.allclose(x, (1 - start) * image + start * eps, atol=1e-6)


def test_slerp_stays_on_the_sphere_from_one_noise_to_the_other():
    first, last = torch.randn(2, 1, 28, 28)
    last = last * first.norm() / last.norm()
    path = edits.slerp(first, last, 7)
    assert torch.allclose(path[0], first, atol=1e-5) and torch.allclose(path[-1], last, atol=1e-5)
    assert torch.allclose(path.flatten(1).norm(dim=1), first.norm(), rtol=1e-4)
    ahead = F.cosine_similarity(path[:-1].flatten(1), path[1:].flatten(1))
    assert torch.allclose(ahead, ahead[0], atol=1e-5)  # steps of one length


@pytest.mark.parametrize("turn", [0.0, 1e-4, 1e-2])
def test_slerp_between_noises_that_are_nearly_one_has_no_nan(turn):
    first, other = torch.randn(2, 1, 28, 28)
    path = edits.slerp(first, first + turn * other, 5)
    assert torch.allclose(path, first + turn * torch.linspace(0, 1, 5)[:, None, None, None] * other, atol=1e-3)


# Views


VIEWS = {
    "upright": edits.UPRIGHT,
    "vertical flip": edits.VERTICAL_FLIP,
    "half turn": edits.HALF_TURN,
    "quarter turn": edits.QUARTER_TURN,
    "negative": edits.View(lambda x: -x, lambda x: -x),
    "tiles": edits.tiles(8, 2, torch.Generator().manual_seed(1)),
    "pixels": edits.tiles(8, 1, torch.Generator().manual_seed(1)),
}
every_view = pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)


@every_view
def test_a_view_is_orthogonal_and_back_undoes_it(view):
    x, z = torch.randn(2, 3, 2, 8, 8)
    assert torch.equal(view.back(view.look(x)), x) and torch.equal(view.look(view.back(x)), x)
    assert torch.equal(view.look(x).flatten().abs().sort().values, x.flatten().abs().sort().values)
    assert torch.allclose((view.look(x) * view.look(z)).sum(), (x * z).sum(), rtol=1e-4)
    assert torch.equal(view.look(x)[1:], view.look(x[1:]))  # each image on its own


def test_every_view_shows_what_its_name_says():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    known = {
        "upright": [1, 2, 3, 4],
        "vertical flip": [3, 4, 1, 2],
        "half turn": [4, 3, 2, 1],
        "quarter turn": [2, 4, 1, 3],
        "negative": [-1, -2, -3, -4],
    }
    for name, pixels in known.items():
        assert VIEWS[name].look(x).flatten().tolist() == pixels


@every_view
def test_an_anagram_of_one_view_is_sampling_through_it(view):
    ramp = torch.linspace(-1, 1, 64).reshape(1, 8, 8)
    denoise, x = gaussian(ramp, 0.3), torch.randn(4, 1, 8, 8)
    found = run(edits.anagram([denoise], [view]), x, flow().grid(10))
    assert torch.allclose(view.look(found), run(denoise, view.look(x), flow().grid(10)), atol=1e-5)


def test_the_mean_of_x0_is_the_mean_of_eps():
    first, second, x = gaussian(0.4, 0.3), gaussian(-0.2, 0.6), torch.randn(2, 1, 8, 8)
    turn = edits.HALF_TURN
    both = edits.anagram([first, second], [edits.UPRIGHT, turn])(x, LEVEL)
    assert torch.allclose(both.eps, (first(x, LEVEL).eps + turn.back(second(turn.look(x), LEVEL).eps)) / 2, atol=1e-5)


# Frequencies


def test_a_hybrid_has_the_mean_of_the_far_image_and_the_detail_of_the_near_one():
    stripes = torch.tensor([-0.5, 0.5]).repeat(4).expand(1, 8, 8)
    x = torch.randn(1, 1, 8, 8)
    x0 = edits.hybrid(lambda x, level: Denoised(x, torch.full_like(x, 0.3), level), known(0.7 + stripes), 2.0)(
        x, LEVEL
    ).x0
    assert torch.allclose(x0, 0.3 + stripes.expand_as(x0), atol=0.02)


def known(image):
    return lambda x, level: Denoised(x, image.expand_as(x), level)


def test_a_hybrid_of_one_denoiser_is_that_denoiser():
    denoise, x = gaussian(0.4, 0.3), torch.randn(2, 1, 8, 8)
    assert torch.allclose(edits.hybrid(denoise, denoise, 1.5)(x, LEVEL).x0, denoise(x, LEVEL).x0, atol=1e-5)


# Bad input


def model():
    return Denoiser(CourseUNet(D=2, time=True, classes=10), "eps", flow())


Y, X = torch.tensor([3, 7]), torch.zeros(2, 1, 4, 4)


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda: given(Denoiser(CourseUNet(D=2, time=True), "eps", flow()), Y), "0 classes"),
        (lambda: classifier_free(model(), torch.tensor([3, 11]), gamma=3.0), "labels from 3 to 11: expected 0 to 9"),
        (lambda: classifier_free(model(), torch.tensor([-1, 3]), gamma=0.0), "labels from -1 to 3: expected 0 to 9"),
        (lambda: classifier_free(model(), torch.tensor(3), gamma=3.0), r"labels of shape \(\)"),
        (lambda: classifier_free(model(), Y[:, None], gamma=3.0), r"labels of shape \(2, 1\)"),
        (lambda: classifier_free(model(), torch.zeros(2, 9), gamma=3.0), r"\(2, 9\): expected \(B, 10\)"),
        (lambda: classifier_free(model(), torch.tensor([3.0, 7.0]), gamma=3.0), r"\(2,\): expected \(B, 10\)"),
        (lambda: during(THREE, THREE, 0.7, 0.3), "times from 0.7 to 0.3: expected 0 <= low <= high <= 1"),
        (lambda: during(THREE, THREE, 0.2, 1.5), "times from 0.2 to 1.5"),
        (lambda: mix_labels(0, 10, 5, 10), "labels 0 and 10: expected 0 to 9"),
        (lambda: mix_labels(-1, 3, 5, 10), "labels -1 and 3: expected 0 to 9"),
        (lambda: mix_labels(10, 0, 5, 10), "labels 10 and 0: expected 0 to 9"),
        (lambda: mix_labels(0, 3, 1, 10), "1 steps"),
        (lambda: edits.inpaint(THREE, X, torch.full((4, 4), 0.5)), "a mask from 0.5 to 0.5: expected only 0"),
        (lambda: edits.inpaint(THREE, X, torch.zeros(5, 5)), r"a mask of shape \(5, 5\) for images of \(2, 1, 4, 4\)"),
        (lambda: edits.upscale(gaussian(0, 1), X, 4)(X, LEVEL), r"\(2, 1, 4, 4\) times 4"),
        (lambda: edits.sdedit(X, flow().grid(5), 1.2, X), "t = 1.2: expected 0"),
        (lambda: edits.sdedit(X, flow().grid(5)[:2], 0.1, X), "no level at or below t = 0.1"),
        (lambda: edits.sdedit(X, flow().grid(5), 0.5, X[:1]), "eps has shape"),
        (lambda: edits.tiles(28, 5), "tiles of 5 pixels in images of 28"),
        (lambda: edits.anagram([THREE], [edits.UPRIGHT, edits.HALF_TURN]), "1 denoisers and 2 views"),
        (lambda: edits.hybrid(THREE, THREE, 0.0), "sigma = 0.0"),
        (lambda: edits.blur(X, 0.0), "sigma = 0.0 in images of 4 pixels: expected above 0 and at most 1"),
        (lambda: edits.blur(X, 1.1), "sigma = 1.1 in images of 4 pixels: expected above 0 and at most 1"),
        (lambda: edits.slerp(X[0] + 1, -X[0] - 1, 3), "opposite noises"),
        (lambda: edits.slerp(X[0], X[1], 1), "1 steps"),
        (lambda: edits.slerp(X[0], X, 3), "expected one shape"),
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
        classifier_free(Denoiser(net, "flow", flow()), y, gamma=gamma)(torch.zeros(shape), LEVEL)


def test_clip_answers_for_the_same_images_at_the_same_level():
    x = torch.randn(2, 1, 1, 2)
    d = clip(THREE)(x, LEVEL)
    assert isinstance(d, Denoised) and d.x is x and d.level is LEVEL
