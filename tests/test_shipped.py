"""The models that come with the package do what the README and the lessons say of them."""

import re
from pathlib import Path

import best_draws
import pytest
import torch

from diffusion_helpers import data, edits, samplers, weights
from diffusion_helpers.bench import evaluate, held_out, recipes, reports

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf8")
MODELS = (ROOT / "website" / "pages" / "models.md").read_text(encoding="utf8")


def first(images: data.Images, n: int) -> data.Images:
    return data.Images(images.images[:n], images.labels[:n], images.source)


@pytest.fixture(scope="module")
def test_digits() -> data.Images:
    """The first 500 test digits of this machine: of all of them or of the sample."""
    return first(data.load("mnist", "test"), 500)


def test_every_shipped_model_has_a_recipe_and_the_other_way_round() -> None:
    assert set(weights.names()) == set(recipes.RECIPES)


@pytest.mark.parametrize("name", weights.names())
def test_the_page_of_the_models_quotes_the_card(name) -> None:
    card = weights.card(name)
    row = re.search(rf"^\| `{name}` \|.*$", MODELS, re.MULTILINE)[0]
    measure, value = next(iter(card["held_out"].items()))
    shown = f"{value:.2%}" if measure == "accuracy" else f"{value:.4f}"
    assert shown in row and f"{card['parameters']:,}" in row


STORED = reports.stored()
DIFFUSION = sorted(
    name for name in weights.names() if "kind" in weights.card(name)["spec"] and not recipes.RECIPES[name].load
)


@pytest.mark.parametrize("name", DIFFUSION)
def test_the_card_says_how_the_best_stored_report_was_drawn(name) -> None:
    (best,) = (report for report in reports.best(STORED) if report["recipe"]["model"] == name)
    recipe = best["recipe"]
    assert evaluate.Run.of(
        weights.card(name), samples=recipe["samples"], precision=recipe["precision"]
    ) == evaluate.Run(
        **{key: recipe[key] for key in recipe if key not in ("model", "weights", "interval")},
        interval=tuple(recipe["interval"]),
    )


@pytest.mark.parametrize("name", DIFFUSION)
def test_every_stored_report_is_on_the_weights_that_are_shipped(name) -> None:
    measured = {report["recipe"]["weights"] for report in STORED if report["recipe"]["model"] == name}
    assert measured == {evaluate._checksum(weights.load(name))}


def body(file: bytes) -> bytes:
    """What follows the header: the weights. The first 8 bytes are the length of the header."""
    return file[8 + int.from_bytes(file[:8], "little") :]


def test_a_draw_is_written_on_a_card_and_every_byte_of_the_weights_stays(tmp_path) -> None:
    path, chosen = tmp_path / "model.safetensors", {"sampler": "ddim", "steps": 7}
    before = (weights.SHIPPED / "mnist-ddpm.safetensors").read_bytes()
    path.write_bytes(before)
    best_draws.write(path, chosen)
    assert weights.card(path) == weights.card("mnist-ddpm") | {"draw": chosen}
    assert body(path.read_bytes()) == body(before) and len(body(before)) > 10**6


def test_a_setting_that_a_card_cannot_say_is_refused() -> None:
    recipe = {"model": "a", "sampler": "ddim", "steps": 7, "spacing": "karras", "gamma": None, "interval": [0.0, 1.0]}
    with pytest.raises(ValueError, match="spacing 'karras' of a: expected 'uniform'"):
        best_draws.draw({"recipe": recipe})


@pytest.mark.full
@pytest.mark.parametrize(
    "name", ["mnist-denoiser", *(name for name in weights.names() if name.endswith(("classifier", "judge")))]
)
def test_the_card_quotes_what_is_measured(name) -> None:
    card, recipe = weights.card(name), recipes.RECIPES[name]
    found = recipe.held_out(weights.load(name), recipe.images("test"))
    for key, value in card["held_out"].items():
        assert found[key] == pytest.approx(value, rel=1e-3)


def test_the_denoiser_beats_one_hundredth(test_digits) -> None:
    net = weights.load("mnist-denoiser")
    with torch.no_grad():
        assert net(torch.rand(2, 1, 28, 28)).shape == (2, 1, 28, 28)
    assert held_out.one_step(net, test_digits)["mse"] < 0.010


def test_the_classifier_names_the_digits(test_digits) -> None:
    assert held_out.classifier(weights.load("mnist-classifier"), test_digits)["accuracy"] > 0.985


def test_guided_samples_are_the_digits_that_were_asked_for() -> None:
    model, classifier = weights.load("mnist-guided-residual"), weights.load("mnist-classifier")
    y = torch.arange(10).repeat(5)
    noise = torch.randn(50, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    *_, last = samplers.sample(edits.classifier_free(model, y, gamma=2.0), noise, model.schedule.grid(10))
    with torch.no_grad():
        assert (classifier(last.x).argmax(1) == y).float().mean() >= 0.9


@pytest.mark.parametrize(("name", "least"), [("fashion", 0.90), ("cells", 0.90)])
def test_the_other_classifiers_name_their_classes(name, least) -> None:
    assert (
        held_out.classifier(weights.load(f"{name}-classifier"), first(data.load(name, "test"), 900))["accuracy"] > least
    )


@pytest.mark.parametrize(("name", "shape", "each"), [("fashion", (1, 28, 28), 5), ("cells", (3, 64, 64), 4)])
def test_clothes_and_cells_are_what_was_asked_for(name, shape, each) -> None:
    model, classifier = weights.load(f"{name}-guided"), weights.load(f"{name}-classifier")
    y = torch.arange(model.classes).repeat(each)
    noise = torch.randn(len(y), *shape, generator=torch.Generator().manual_seed(0))
    *_, last = samplers.sample(edits.classifier_free(model, y, gamma=2.0), noise, model.schedule.grid(10))
    with torch.no_grad():
        assert (classifier(last.x).argmax(1) == y).float().mean() >= 0.8


def test_the_page_of_use_runs_as_written() -> None:
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    namespace: dict = {}
    exec(code, namespace)  # noqa: S102
    assert namespace["last"].x.shape == (80, 1, 28, 28)
    assert namespace["last"].x.abs().max() < 1.6
