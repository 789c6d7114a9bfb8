"""The recipes of the shipped models, at the size of a toy."""

import itertools
import json
import math
import signal
import sys
from dataclasses import replace
from functools import wraps

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from diffusion_helpers import data, weights
from diffusion_helpers.bench import held_out, losses, recipes
from diffusion_helpers.bench.recipes import RECIPES, Recipe, classifier_loss
from diffusion_helpers.denoise import Denoiser
from diffusion_helpers.schedules import flow, linear_beta
from diffusion_helpers.words import judge, make

PARAMETERS = {
    "mnist-denoiser": 495_137,
    "mnist-classifier": 403_306,
    "mnist-ddpm": 500_545,
    "mnist-guided": 506_817,
    "mnist-guided-residual": 1_805_892,
    "fashion-classifier": 403_306,
    "fashion-guided": 1_805_892,
    "cells-classifier": 560_531,
    "cells-guided": 2_973_644,
    "captions": 3_135_436,
    "captions-judge": 410_461,
}


class Constant(nn.Module):
    """Answers with the same number everywhere."""

    classes = 0

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x, t=None):
        return torch.full_like(x, self.value)


def digits(n, pixel=None):
    """``n`` images, of one grey if ``pixel`` is given, with labels 0, 1, ... 9, 0, ..."""
    images = torch.randint(0, 256, (n, 1, 28, 28)) if pixel is None else torch.full((n, 1, 28, 28), pixel)
    return data.Images(images.byte(), torch.arange(n) % 10, "local")


def names(labels):
    """A classifier that is sure of these labels whatever it sees."""
    return lambda x: 100.0 * nn.functional.one_hot(labels, 10)


def seen_by_classifier(images):
    """What the network is given by ``classifier_loss`` for uint8 images."""
    seen = []

    def net(x):
        seen.append(x)
        return torch.zeros(len(x), 10)

    classifier_loss(net)(images, torch.zeros(len(images)).long())
    return seen[0]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_a_network_of_the_known_size(name):
    assert sum(p.numel() for p in weights.build(RECIPES[name].spec).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", RECIPES)
def test_the_loss_of_every_recipe_is_finite_and_its_figures_come_with_n(name):
    recipe, part = RECIPES[name], digits(12)
    if recipe.data_set == "cells":
        part = data.Images(torch.randint(0, 256, (12, 3, 64, 64)).byte(), torch.arange(12) % 3, "local")
    if recipe.data_set == "scenes":
        made = make(12, seed=0)
        part = made.captioned() if name == "captions" else data.Images(made.images, made.scenes, made.source)
    model = weights.build(recipe.spec)
    given = (part.images, part.labels) if recipe.labels else (part.images,)
    assert bool(recipe.objective(model)(*given).isfinite())
    figures = recipe.held_out(model.eval(), part)
    assert json.loads(json.dumps(figures)) == figures
    figures |= figures.pop("fields", {})
    assert figures.pop("N") == 12 and all(math.isfinite(value) for value in figures.values())


@pytest.mark.parametrize("sigma", [0.2, 0.5])
def test_the_identity_network_leaves_all_the_noise(sigma):
    part = digits(100)
    figures = held_out.one_step(nn.Identity(), part, sigma)
    error = sigma**2 * (2 / part.images.numel()) ** 0.5  # one standard error of a variance
    assert abs(figures["mse"] - sigma**2) < 6 * error
    assert figures["psnr"] == pytest.approx(-10 * math.log10(figures["mse"]), abs=1e-3)


def test_a_perfect_one_step_denoiser_has_no_error_and_a_grey_one_has_the_known_error():
    assert held_out.one_step(Constant(1.0), digits(10, pixel=255))["mse"] == 0
    assert held_out.one_step(Constant(0.5), digits(10, pixel=255))["mse"] == pytest.approx(0.25)


def test_a_held_out_figure_is_the_same_every_time():
    part = digits(600)
    assert held_out.one_step(nn.Identity(), part) == held_out.one_step(nn.Identity(), part)
    model = Denoiser(Constant(0.0), "eps", linear_beta(10))
    before = torch.get_rng_state()
    figures = held_out.diffusion(model, part)
    assert torch.equal(torch.get_rng_state(), before) and figures == held_out.diffusion(model, part)
    assert abs(figures["eps_mse"] - 1) < 6 * (2 / part.images.numel()) ** 0.5  # 0 leaves the variance of eps


def test_the_flow_figure_of_a_network_of_zeros_is_the_variance_of_its_target():
    figures = held_out.diffusion(Denoiser(Constant(0.0), "flow", flow()), digits(100, pixel=255))
    assert figures["flow_mse"] == pytest.approx(2, abs=6 * 2.5 / (100 * 784) ** 0.5)  # E (eps - 1)^2 = 2, sd 2.45


def test_the_held_out_figure_of_a_guided_model_is_with_the_true_labels():
    class Spy(Constant):
        classes = 10

        def forward(self, x, t, y):
            self.y = y
            return super().forward(x)

    model, part = Denoiser(Spy(0.0), "eps", linear_beta(10)), digits(50)
    held_out.diffusion(model, part)
    assert torch.equal(model.net.y, part.labels)


def test_accuracy_is_the_share_of_right_names_and_balanced_accuracy_its_mean_over_classes():
    part = data.Images(digits(20).images, torch.tensor([3] * 15 + [0] * 4 + [7]), "local")
    figures = held_out.classifier(names(torch.full((20,), 3)), part)
    assert figures == {"accuracy": 0.75, "balanced_accuracy": pytest.approx(1 / 3), "N": 20}


def test_moving_the_digits_leaves_labels_and_images_as_they_were():
    part = digits(50)
    labels, images = part.labels.clone(), part.images.clone()
    right, wrong = (classifier_loss(names(y))(part.images, part.labels) for y in (labels, (labels + 1) % 10))
    assert right < wrong
    assert torch.equal(part.labels, labels) and torch.equal(part.images, images)


def test_moving_the_digits_keeps_the_background_black_and_the_range():
    assert torch.equal(seen_by_classifier(digits(50, pixel=0).images), torch.full((50, 1, 28, 28), -1.0))
    moved = seen_by_classifier(digits(50).images)
    assert moved.shape == (50, 1, 28, 28) and float(moved.min()) >= -1 and float(moved.max()) <= 1 + 1e-6


def test_the_centre_moves_at_most_two_pixels_each_way_and_each_image_by_its_own_amount():
    images = torch.zeros(500, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 13:15, 13:15] = 255
    mass = (seen_by_classifier(images) + 1)[:, 0]
    place = torch.arange(28) - 13.5
    most = 2 * (math.cos(0.175) + math.sin(0.175)) / 0.9 + 0.1  # the move is turned and scaled with the digit
    for axis in (1, 2):
        centre = (mass.sum(axis) * place).sum(1) / mass.sum((1, 2))
        assert 1.5 < float(centre.abs().max()) < most
        assert abs(float(centre.mean())) < 6 * 1.3 / 500**0.5 and len(centre.unique()) > 400


def moments(images):
    """Covariance and difference of the variances of x and y of the light in each image, and their sum."""
    mass = (images + 1)[:, 0] / (images + 1).sum((1, 2, 3))[:, None, None]
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    x, y = (grid - (mass * grid).sum((1, 2))[:, None, None] for grid in (x, y))
    return tuple((mass * part).sum((1, 2)) for part in (x * y, x**2 - y**2, x**2 + y**2))


def test_a_square_is_never_stretched_and_its_size_changes_by_at_most_ten_percent():
    images = torch.zeros(500, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 8:20, 8:20] = 255
    covariance, difference, total = moments(seen_by_classifier(images))
    assert float((torch.hypot(2 * covariance, difference) / total).max()) < 0.02
    size = (total / (2 * (12**2 - 1) / 12)).sqrt()
    assert 0.88 < float(size.min()) < 0.93 and 1.08 < float(size.max()) < 1.13


def test_digits_are_turned_at_most_ten_degrees_both_ways():
    images = torch.zeros(500, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 13:15, 6:22] = 255  # a level bar
    covariance, difference, _ = moments(seen_by_classifier(images))
    angle = 0.5 * torch.atan2(2 * covariance, difference)
    assert float(angle.abs().max()) < 0.175 + 0.01
    assert float(angle.min()) < -0.15 and float(angle.max()) > 0.15


TOY = Recipe(
    spec={"network": "CourseUNet", "config": {"D": 1}},
    loss=recipes.one_step_loss,
    held_out=held_out.one_step,
    fit={"epochs": 2, "batch": 8, "lr": 1e-3},
)
FIELDS = (
    "name spec recipe epochs batch lr seed precision data images_seen seconds hardware versions parameters held_out"
)


@pytest.fixture
def toy(monkeypatch):
    sets = {"train": digits(20), "test": digits(10)}
    monkeypatch.setattr(data, "load", lambda name, split: sets[split])  # whatever the name
    for name, source in data.SOURCES.items():
        monkeypatch.setitem(data.SOURCES, name, replace(source, sizes={"train": 20, "test": 10}))
    monkeypatch.setitem(RECIPES, "toy", TOY)
    return sets


def test_a_run_writes_a_model_whose_card_has_every_field(toy, tmp_path, capsys):
    path = tmp_path / "toy.safetensors"
    found = recipes.run("toy", path, tmp_path / "runs", None)
    assert weights.card(path) == found and set(found) == set(FIELDS.split())
    assert found["data"] == {
        "name": "mnist",
        "split": "train",
        "source": "local",
        "N": 20,
        "sha256": toy["train"].checksum,
        "balanced": False,
    }
    assert (found["images_seen"], found["precision"]) == (2 * 2 * 8, "float32")
    assert found["held_out"] == held_out.one_step(weights.load(path), toy["test"])  # of the weights as shipped


def test_a_further_training_may_have_another_loss(toy, tmp_path, monkeypatch):
    calls = []

    def another_loss(net):
        """Another one."""

        def loss(images):
            calls.append(len(images))
            return recipes.one_step_loss(net)(images)

        return loss

    more = {"epochs": 1, "lr": 5e-4, "loss": another_loss}
    monkeypatch.setitem(RECIPES, "toy", replace(TOY, then=(more,)))
    found = recipes.run("toy", tmp_path / "toy.safetensors", tmp_path / "runs", None)
    assert calls == [8, 8] and found["images_seen"] == 3 * 2 * 8
    assert found["recipe"].endswith("then epochs 1, lr 0.0005, loss another_loss")


def test_an_interrupted_run_goes_on_and_ends_where_the_whole_run_ends(toy, tmp_path, monkeypatch):
    whole = recipes.run("toy", tmp_path / "whole.safetensors", tmp_path / "a", None)

    calls = []

    @wraps(recipes.one_step_loss)
    def counted(net):
        loss = recipes.one_step_loss(net)

        def wrapped(images):
            calls.append(1)
            if len(calls) == 3:
                signal.raise_signal(signal.SIGINT)
            return loss(images)

        return wrapped

    monkeypatch.setitem(RECIPES, "toy", replace(TOY, loss=counted))
    with pytest.raises(KeyboardInterrupt):
        recipes.run("toy", tmp_path / "part.safetensors", tmp_path / "b", None)
    assert len(calls) == 3 and not (tmp_path / "part.safetensors").exists()
    resumed = recipes.run("toy", tmp_path / "part.safetensors", tmp_path / "b", None)
    assert len(calls) == 4  # the three steps made were not made again
    assert resumed["held_out"] == whole["held_out"]
    pair = [weights.load(tmp_path / f"{name}.safetensors").state_dict() for name in ("whole", "part")]
    assert all(torch.equal(pair[0][key], pair[1][key]) for key in pair[0])


@pytest.mark.parametrize("change", [{"balanced": True}, {"data": digits(20)}])
def test_a_run_of_another_recipe_or_data_is_not_gone_on_with(change, toy, tmp_path, monkeypatch):
    @wraps(recipes.one_step_loss)
    def stopped(net):
        loss = recipes.one_step_loss(net)
        return lambda images: (signal.raise_signal(signal.SIGINT), loss(images))[1]

    monkeypatch.setitem(RECIPES, "toy", replace(TOY, loss=stopped))
    with pytest.raises(KeyboardInterrupt):
        recipes.run("toy", tmp_path / "toy.safetensors", tmp_path / "runs", None)
    monkeypatch.setitem(RECIPES, "toy", replace(TOY, balanced=change.get("balanced", False)))
    monkeypatch.setitem(toy, "train", change.get("data", toy["train"]))
    with pytest.raises(ValueError, match="toy.checkpoint: checkpoint of another run"):
        recipes.run("toy", tmp_path / "toy.safetensors", tmp_path / "runs", None)


def test_the_seconds_of_every_sitting_are_on_the_card(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes.train.time, "monotonic", itertools.count(step=10).__next__)
    whole = recipes.run("toy", tmp_path / "toy.safetensors", tmp_path / "runs", None)["seconds"]
    assert whole >= 10 * 4  # four steps, each looks at the clock
    calls = itertools.count(1)

    @wraps(recipes.one_step_loss)
    def stopped(net):
        loss = recipes.one_step_loss(net)
        return lambda images: (next(calls) == 3 and signal.raise_signal(signal.SIGINT), loss(images))[1]

    monkeypatch.setitem(RECIPES, "toy", replace(TOY, loss=stopped))
    with pytest.raises(KeyboardInterrupt):
        recipes.run("toy", tmp_path / "toy.safetensors", tmp_path / "runs", None)
    assert recipes.run("toy", tmp_path / "toy.safetensors", tmp_path / "runs", None)["seconds"] >= whole


def test_the_command_writes_to_runs_and_never_into_the_package(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recipes", "toy"])
    shipped = {path: path.stat().st_mtime_ns for path in weights.SHIPPED.iterdir()}
    recipes.main()
    assert json.loads(capsys.readouterr().out)["name"] == "toy"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["toy.safetensors"]
    assert {path: path.stat().st_mtime_ns for path in weights.SHIPPED.iterdir()} == shipped


def test_a_finished_run_leaves_nothing_that_the_next_could_take_for_its_own(toy, tmp_path):
    first = recipes.run("toy", tmp_path / "toy.safetensors", tmp_path / "runs", None)
    assert not list((tmp_path / "runs").iterdir())
    assert recipes.run("toy", tmp_path / "toy.safetensors", tmp_path / "runs", None)["held_out"] == first["held_out"]


def test_a_recipe_trains_on_its_own_data_and_the_card_says_which(toy, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(data, "load", lambda name, split: asked.append((name, split)) or toy[split])
    monkeypatch.setitem(RECIPES, "toy", replace(TOY, data_set="fashion"))
    card = recipes.run("toy", tmp_path / "toy.safetensors", tmp_path / "runs", None)
    assert asked == [("fashion", "train"), ("fashion", "test")] and card["data"]["name"] == "fashion"


@pytest.mark.parametrize("name", data.SOURCES)
def test_a_part_of_the_data_never_makes_a_model(name, toy, tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "toy", replace(TOY, data_set=name))
    monkeypatch.setitem(data.SOURCES, name, replace(data.SOURCES[name], sizes={"train": 21, "test": 10}))
    with pytest.raises(ValueError, match=f"20 training images of {name}: expected 21"):
        recipes.run("toy", tmp_path / "toy.safetensors", tmp_path / "runs", None)
    assert not list(tmp_path.iterdir())


def test_the_text_of_a_card_is_written_from_the_recipe_itself():
    found = RECIPES["cells-guided"].text
    for word in ("classes drawn evenly", "logit-normal", "changed by turn", "AdamW, linear rate", "EMA 0.999"):
        assert word in found
    course = RECIPES["mnist-guided"]
    assert (
        "stratified uniform" in course.text and "Adam, exponential rate" in course.text and "EMA 0.999" in course.text
    )
    assert "EMA 0.5" in replace(course, fit=course.fit | {"ema": 0.5}).text


def test_every_recipe_names_its_data_and_the_classifier_for_it_is_a_recipe_too():
    for name, recipe in RECIPES.items():
        if recipe.load:  # scenes, which are made of two sets
            assert name.startswith("captions")
            continue
        assert name.startswith(recipe.data_set) and f"{recipe.data_set}-classifier" in RECIPES
        if recipe.labels:
            assert len(data.classes(recipe.data_set)) == recipe.spec["config"].get("classes", 10)


@pytest.mark.parametrize("name", ["captions", "captions-judge"])
def test_scenes_are_made_of_whole_sets_alone(name, monkeypatch):
    monkeypatch.setattr(data, "load", lambda name, split: digits(20))
    with pytest.raises(ValueError, match="20 training images of mnist: expected 60,000"):
        RECIPES[name].images("train")


def test_a_judge_that_is_right_has_less_loss_wherever_the_picture_is_moved():
    """Up to two pixels: the fields are what they were."""
    some, heads = make(30, seed=0), judge.HEADS

    class Sure(nn.Module):
        def forward(self, x):
            assert x.shape == (30, 3, 32, 32)
            rows = [F.one_hot(some.scenes[:, i], n) * 9.0 for i, n in enumerate(heads)]
            return torch.cat(rows, 1)

    right = recipes.scene_loss(Sure())(some.images, some.scenes)
    wrong = recipes.scene_loss(Sure())(some.images, some.scenes.roll(1, 0))
    assert right < 0.02 < 1 < wrong


def test_a_balanced_recipe_sees_each_class_as_often_and_the_card_has_the_true_number(toy, tmp_path, monkeypatch):
    labels = torch.tensor([0] * 12 + [1] * 8)
    monkeypatch.setitem(toy, "train", data.Images(digits(20).images, labels, "local"))
    seen = []

    @wraps(recipes.one_step_loss)
    def spy(net):
        loss = recipes.one_step_loss(net)
        return lambda images, labels: seen.append(labels) or loss(images)

    monkeypatch.setitem(RECIPES, "toy", replace(TOY, loss=spy, labels=True, balanced=True))
    card = recipes.run("toy", tmp_path / "toy.safetensors", tmp_path / "runs", None)
    assert torch.cat(seen).bincount().tolist() == [24, 24]  # two epochs of 12 and 12, in batches of 8
    assert (card["data"]["N"], card["data"]["balanced"], card["images_seen"]) == (20, True, 48)


class Spy(nn.Module):
    """Answers with zeros and keeps what it was given."""

    classes = 0

    def forward(self, x, t=None):
        self.x = x
        return torch.zeros(len(x), 10) if t is None else torch.zeros_like(x)


def test_images_are_augmented_before_the_network_sees_them():
    part, net = digits(4, pixel=0), Spy()
    classifier_loss(net, lambda images: 255 - images)(part.images, part.labels)
    assert torch.allclose(net.x, torch.ones(4, 1, 28, 28))
    clean = lambda n: torch.full((n,), 0.01)  # noqa: E731
    losses.diffusion_loss(Denoiser(net, "flow", flow()), clean, lambda images: 255 - images)(part.images)
    assert float(net.x.min()) > 0.9
