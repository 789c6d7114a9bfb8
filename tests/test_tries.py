"""What was tried beside the ladder is what it says: the base with one thing changed."""

from dataclasses import replace
from itertools import permutations

import measure_tries
import pytest
import torch

from diffusion_helpers import data, samplers, schedules
from diffusion_helpers.bench import speedrun
from diffusion_helpers.denoise import Denoiser


class Seen(torch.nn.Module):
    """A network that keeps what it was given and answers with nothing; ``images`` counts them."""

    time, classes = True, 10

    def __init__(self):
        super().__init__()
        self.weight, self.given, self.images = torch.nn.Parameter(torch.zeros(())), None, 0

    def forward(self, x, t, y):
        self.given, self.images = (x, t, y), self.images + len(x)
        return self.weight * x


def test_the_base_is_a_rung_of_the_ladder_with_all_before_it():
    entry = measure_tries.base()
    assert (entry.optimizer, entry.times, entry.decay, entry.spec) == (
        "Muon",
        "logit_normal",
        "linear",
        speedrun.Entry().spec,
    )
    assert (entry.batch, entry.sampler, entry.steps, entry.gamma) == (64, "ddim", 10, 2.0)


def test_noises_go_to_the_nearest_digits_of_their_label():
    images = torch.randint(0, 256, (10, 1, 2, 2), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    labels = torch.tensor([3, 3, 7, 3, 7, 7, 3, 7, 3, 3])
    model = Denoiser(Seen(), "flow", schedules.flow())
    entry = next(entry for entry in measure_tries.trainings() if isinstance(entry, measure_tries.Paired))
    torch.manual_seed(0)
    entry.objective(model)(images, labels)
    (x, t, y), x0 = model.net.given, data.symmetric(images)
    t = t.reshape(-1, 1, 1, 1)
    eps = (x - (1 - t) * x0) / t
    torch.manual_seed(0)
    drawn = torch.randn_like(x0)
    for label in (3, 7):
        a, b, whole = (part[labels == label].flatten(1) for part in (x0, eps, drawn))
        assert torch.allclose(b.sort(0).values, whole.sort(0).values, atol=1e-3)  # the same noises, in another order
        costs = [(a - whole[list(order)]).square().sum() for order in permutations(range(len(a)))]
        assert (a - b).square().sum() == pytest.approx(min(costs).item(), rel=1e-3)
    assert bool(((y == labels) | (y == 10)).all())


def test_every_draw_takes_twenty_evaluations_for_a_digit():
    model, early, other = (Denoiser(Seen(), "flow", schedules.flow()) for _ in range(3))
    for name, (denoiser, steps) in measure_tries.draws(model, early, {"other": other}).items():
        before = sum(each.net.images for each in (model, early, other))
        list(samplers.sample(denoiser(torch.arange(3)), torch.randn(3, 1, 2, 2), schedules.flow().grid(steps)))
        assert sum(each.net.images for each in (model, early, other)) - before == 3 * 20, name


def test_the_transformer_starts_at_nothing_and_learns_places_times_and_labels():
    torch.manual_seed(0)
    net = measure_tries.Transformer(width=32, depth=1, heads=2)
    x, t, y = torch.randn(2, 1, 28, 28), torch.tensor([0.3, 0.6]), torch.tensor([1, 10])
    assert torch.equal(net(x, t, y), torch.zeros_like(x))
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    answer = net(x, t, y)
    turned = net(x.roll((4, 8), (2, 3)), t, y).roll((-4, -8), (2, 3))  # other places for the same patches
    for other in (net(x, t.flip(0), y), net(x, t, y.flip(0)), turned):
        assert (other - answer).abs().max() > 1e-3


def test_an_average_over_more_steps_lags_further_behind(monkeypatch):
    monkeypatch.setitem(measure_tries.PROTOCOL, "seconds", 40.0)
    monkeypatch.setattr("time.monotonic", iter(range(10_000)).__next__)
    tiny = {"widths": [8], "attention": [], "classes": 10}
    entry = replace(measure_tries.base(), batch=10, spec=speedrun.Entry().spec | {"config": tiny})
    images = torch.randint(0, 256, (50, 1, 28, 28), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    kept = {}
    monkeypatch.setattr(measure_tries, "draws", lambda model, early, averages: kept.update(averages, early=early))
    model, figures, _ = measure_tries.base_trained(entry, data.Images(images, torch.arange(50) % 10, "made up"), 0)
    last, *others = (torch.cat([p.detach().flatten() for p in each.parameters()]) for each in kept.values())
    twentieth, third, early = ((other - last).norm() for other in others)
    assert 0 < twentieth < third < early
