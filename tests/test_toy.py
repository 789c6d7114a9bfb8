"""The toy density: its noisy versions, its denoiser and its labels against what can be counted or differentiated."""

import pytest
import torch

from diffusion_helpers import edits, samplers, schedules
from diffusion_helpers.lessons.toy import TOY
from diffusion_helpers.lessons.widgets.toy import tilted, toy_explorer

FLOW = schedules.flow()


@pytest.mark.parametrize("toy", [TOY, TOY.along(0), TOY.along(1)])
def test_drawn_points_have_the_mean_and_the_covariance_of_the_mixture(toy):
    x = toy.draw(20_000, generator=torch.Generator().manual_seed(0))
    mean = toy.weights @ toy.means
    off = toy.means - mean
    covariance = (toy.weights[:, None] * off).T @ off + (toy.weights @ toy.stds**2) * torch.eye(x.shape[1])
    assert (x.mean(0) - mean).abs().max() < 0.04  # five standard errors
    assert (x.T.cov().view_as(covariance) - covariance).abs().max() < 0.05


def test_the_density_has_the_mass_one_and_its_tweedie_formula_is_the_denoiser():
    level, x = FLOW(0.4), torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None].requires_grad_()
    toy = TOY.along(0)
    log = toy.log_density(x, level)
    assert log.exp().sum().item() * 16 / 4000 == pytest.approx(1, abs=1e-6)
    (score,) = torch.autograd.grad(log.sum(), x)
    tweedie = (x + level.sigma**2 * score) / level.alpha
    assert torch.allclose(tweedie, toy(x, level).x0, atol=1e-6)


def test_the_denoiser_is_the_mean_of_the_clean_points_that_lie_behind_a_noisy_one():
    generator = torch.Generator().manual_seed(0)
    x0 = TOY.draw(2_000_000, generator=generator)
    level, place = FLOW(0.5), torch.tensor([[0.1, -0.2]])
    x = schedules.noise(x0, level, torch.randn(x0.shape, generator=generator))
    near = x0[(x - place).norm(dim=1) < 0.05]
    assert (near.mean(0) - TOY(place, level).x0).abs().max() < 6 * near.std() / len(near) ** 0.5 + 0.01


def test_labels_follow_bayes_and_one_batch_may_hold_several_levels():
    level, x = FLOW(torch.tensor([0.2, 0.5, 0.9])), torch.tensor([[0.3], [0.3], [-1.0]])
    toy = TOY.along(0)
    for y in range(3):
        joint = toy.log_density(x, level, torch.full((3,), y)).exp() * toy.weights[y]
        assert torch.allclose(joint / toy.log_density(x, level).exp(), toy.chances(x, level)[:, y], atol=1e-5)
    one = torch.cat([toy(x[i : i + 1], FLOW(level.t[i])).x0 for i in range(3)])
    assert torch.allclose(one, toy(x, level).x0, atol=1e-6)


def test_sampling_finds_the_weights_of_the_lumps_and_a_label_its_own():
    n = 4000
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    *_, last = samplers.sample(TOY, x, FLOW.grid(100))
    shares = torch.cdist(last.x, TOY.means).argmin(1).bincount() / n
    assert (shares - TOY.weights).abs().max() < 0.04
    *_, last = samplers.sample(edits.given(TOY, torch.full((n,), 1)), x, FLOW.grid(100))
    assert (last.x.mean(0) - TOY.means[1]).abs().max() < 0.03


def test_the_tilted_density_is_the_label_s_own_at_gamma_one():
    toy, level = TOY.along(0), FLOW(0.3)
    x = torch.linspace(-3, 3, 601)[:, None]
    own = toy.log_density(x, level, torch.full((601,), 2)).exp()
    assert torch.allclose(tilted(toy, x, level, 2, 1.0), own / (own.sum() * 0.01), rtol=1e-3)
    assert torch.allclose(tilted(toy, x, level, 3, 5.0).sum(), torch.tensor(100.0))


def test_the_tilted_density_forgets_the_label_at_gamma_zero_even_where_its_chance_rounds_to_zero():
    toy, x, level = TOY.along(0), torch.linspace(-2.6, 2.6, 521)[:, None], schedules.flow()(0.0)
    for label in range(3):
        assert torch.allclose(tilted(toy, x, level, label, 0.0), tilted(toy, x, level, 3, 0.0))


@pytest.mark.parametrize("options", [{"steps": 3}, {"label": 2, "gamma": 3.0}])
def test_every_control_of_the_explorer_changes_its_picture(options):
    explorer = toy_explorer(**options)
    for name, control in explorer.controls.items():
        before = explorer.image.value
        control.value = control.options[0][1] if name == "label" else control.value + control.step
        assert explorer.image.value != before, name
