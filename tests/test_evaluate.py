"""The report command on tiny untrained models and random images: no shipped model, no data set."""

import json
import sys
from functools import partial
from itertools import combinations, product
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from diffusion_helpers import data, samplers, weights
from diffusion_helpers.bench import evaluate, reports
from diffusion_helpers.bench.evaluate import Run
from diffusion_helpers.denoise import Denoiser
from diffusion_helpers.schedules import flow, linear_beta

pytestmark = pytest.mark.filterwarnings("ignore:FID of")  # 20 images in 128 features

GUIDED = {
    "network": "ResidualUNet",
    "config": {"widths": [8, 8], "attention": [], "classes": 10},
    "kind": "flow",
    "schedule": {"name": "flow"},
}
PLAIN = {
    "network": "CourseUNet",
    "config": {"D": 2, "time": True},
    "kind": "eps",
    "schedule": {"name": "linear_beta", "T": 20},
}
CLASSIFIER = {"network": "Classifier", "config": {"width": 1}}


@pytest.fixture(autouse=True)
def tiny_data(monkeypatch):
    def load(name, split):
        n = {"train": 70, "test": 40}[split]
        generator = torch.Generator().manual_seed(n)
        images = torch.randint(0, 256, (n, 1, 28, 28), generator=generator, dtype=torch.uint8)
        return data.Images(images, torch.arange(n) % 10, "made up")

    monkeypatch.setattr(evaluate.data, "load", load)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name, spec in {"guided": GUIDED, "plain": PLAIN, "classifier": CLASSIFIER}.items():
        card = {"name": name, "spec": spec, "data": {"name": "mnist"}}
        weights.save(weights.build(spec), folder / f"{name}.safetensors", card)
    return folder


def report(folder, name="guided", features="classifier", cache=None, **options):
    run = Run(**{"samples": 20, "steps": 2} | options)
    return evaluate.evaluate(folder / f"{name}.safetensors", run, folder / f"{features}.safetensors", cache)


def make(model, shape=(1, 28, 28), **options):
    return evaluate.generate(model, shape, Run(**options))


class Painter(nn.Module):
    """Predicts x0: an image as bright as the label is high, and 0.9 without one; keeps what it was given."""

    classes, channels = 10, 1

    def __init__(self, bad=False):
        super().__init__()
        self.scale, self.bad, self.sizes = nn.Parameter(torch.tensor(0.1)), bad, []

    def forward(self, x, t, y):
        self.sizes.append(len(x))
        brightness = torch.where(y.sum(1) > 0, y.argmax(1) * self.scale, 0.9)
        return (torch.nan if self.bad else 1) * brightness[:, None, None, None].expand_as(x)


# ---- samples


def test_samples_are_8_bit_images_of_balanced_labels_in_bounded_batches(monkeypatch):
    monkeypatch.setattr(evaluate, "BATCH", 7)
    net = Painter()
    images, labels, evaluations = make(Denoiser(net, "x0", flow()), samples=30, steps=3, gamma=1.0)
    assert images.dtype == torch.uint8 and images.shape == (30, 1, 28, 28)
    assert labels.bincount().tolist() == [3] * 10
    assert torch.allclose(data.symmetric(images)[:, 0, 0, 0], 0.1 * labels, atol=0.005)  # each image has its label
    assert max(net.sizes) == 7 and evaluations == 3


@pytest.mark.parametrize(("gamma", "expected"), [(0.0, 4), (1.0, 4), (2.5, 8)])
def test_guidance_doubles_the_evaluations(gamma, expected):
    model = Denoiser(Painter(), "x0", flow())
    assert make(model, samples=12, steps=4, gamma=gamma)[2] == expected
    assert not model.net._forward_pre_hooks


def test_outside_the_interval_of_the_guidance_the_network_is_asked_once():
    model = Denoiser(Painter(), "x0", flow())  # four steps, from t = 1, 0.75, 0.5 and 0.25
    cost = {part: make(model, samples=12, steps=4, gamma=2.5, interval=part)[2] for part in ((0.3, 0.8), (0.0, 0.2))}
    assert cost == {(0.3, 0.8): 6, (0.0, 0.2): 4}
    with pytest.raises(ValueError, match=r"interval = \(0.3, 0.8\) for a model of 0 classes"):
        make(weights.build(PLAIN), samples=3, steps=2, interval=(0.3, 0.8))


def test_samples_come_from_the_seed_alone():
    torch.manual_seed(0)
    model = weights.build(PLAIN)
    for sampler in samplers.SAMPLERS:
        first, again, other = (make(model, samples=3, steps=3, sampler=sampler, seed=s)[0] for s in (1, 1, 2))
        assert torch.equal(first, again) and not torch.equal(first, other)


def test_every_sampler_and_spacing_makes_samples_of_its_own():
    torch.manual_seed(0)
    model = weights.build(PLAIN)
    ways = [*product(samplers.SAMPLERS, ["uniform"]), ("ddim", "karras"), ("ddim", "log_snr")]
    made = [make(model, samples=3, sampler=way, steps=4, spacing=spacing)[0] for way, spacing in ways]
    assert all(not torch.equal(one, other) for one, other in combinations(made, 2))


def test_the_samplers_are_those_of_the_package():
    torch.manual_seed(0)
    model, generator = weights.build(PLAIN), torch.Generator().manual_seed(5)
    x = torch.randn(4, 1, 28, 28, generator=generator)
    step = partial(samplers.ddpm, variance="beta", generator=generator)
    *_, last = samplers.sample(model, x, linear_beta(20).grid(5), step)
    found = make(model, samples=4, sampler="ddpm-beta", steps=5, seed=5)[0]
    assert (data.symmetric(found) - last.x.clamp(-1, 1)).abs().max() < 1 / 127


def test_a_sampler_from_outside_is_used_by_its_name(monkeypatch):
    """Half a step of DDIM, then the other half: as good as DDIM with twice the steps on the straight path."""

    def halved(denoise, x, at, to, prev=None):
        between = flow()((at.t + to.t) / 2)
        lower, _ = samplers.ddim(denoise, x, at, between)
        return samplers.ddim(denoise, lower, between, to)

    monkeypatch.setitem(samplers.SAMPLERS, "halved", samplers.Sampler(halved, stochastic=False))
    torch.manual_seed(0)
    model = weights.build(GUIDED)
    images, _, evaluations = make(model, samples=4, sampler="halved", steps=3, gamma=1.0)
    twice = make(model, samples=4, sampler="ddim", steps=6, gamma=1.0)[0]
    assert evaluations == 6 and (images.int() - twice.int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "euler"}, "sampler 'euler': expected one of ddim, ddpm, ddpm-beta"),
        ({"samples": 0}, "0 samples: expected at least 1"),
        ({"precision": "float8"}, "precision 'float8': expected 'float32' or 'bfloat16'"),
        ({"gamma": None}, "gamma = None for a model of 10 classes: expected a number"),
        ({"steps": 0}, "steps = 0: expected a whole number"),
        ({"bad": True}, "samples 0 to 5 hold NaN or infinity"),
    ],
)
def test_bad_requests_are_refused(options, message):
    options = {"samples": 5, "gamma": 1.0, "steps": 2, "bad": False} | options
    model = Denoiser(Painter(options.pop("bad")), "x0", flow())
    with pytest.raises(ValueError, match=message):
        make(model, **options)


# ---- the report


def test_a_report_holds_what_it_takes_to_read_and_repeat_it(folder):
    found = json.loads(json.dumps(report(folder, gamma=2.0, seed=3)))
    assert found["N"] == 20 and found["evaluations_per_sample"] == 4
    assert found["recipe"] | {"weights": ""} == {
        "model": "guided",
        "weights": "",
        "samples": 20,
        "sampler": "ddim",
        "steps": 2,
        "spacing": "uniform",
        "gamma": 2.0,
        "interval": [0.0, 1.0],
        "seed": 3,
        "precision": "float32",
    }
    assert found["features"]["network"] == "classifier" and len(found["features"]["weights"]) == 16
    assert found["reference"] == {"data": "mnist", "split": "test", "N": 40, "source": "made up"}
    assert found["seconds_sampling"] > 0 and found["hardware"] and found["versions"]["torch"]
    assert set(found["metrics"]) == set(reports.FORMATS)
    for result in found["metrics"].values():
        assert list(result) == ["value", "error", "floor", "floor_error"]


def test_a_model_without_classes_has_no_guidance_and_no_label_agreement(folder):
    found = report(folder, "plain", sampler="ddpm")
    assert found["recipe"]["gamma"] is None and "label_agreement" not in found["metrics"]
    with pytest.raises(ValueError, match="gamma = 2.0 for a model of 0 classes: expected none"):
        report(folder, "plain", gamma=2.0)


def test_mixed_precision_is_on_the_record(folder):
    assert report(folder, precision="bfloat16")["recipe"]["precision"] == "bfloat16"


def test_what_cannot_be_evaluated_is_refused(folder):
    with pytest.raises(ValueError, match="is a Classifier: expected a diffusion model"):
        report(folder, "classifier")
    with pytest.raises(ValueError, match="is a Denoiser: expected a classifier"):
        report(folder, features="guided")
    with pytest.raises(ValueError, match="no such file"):
        report(folder, "missing")
    for learnt_from in ({}, {"data": "mnist"}, {"data": {"name": "bikes"}}, {"data": {"name": ["mnist"]}}):
        weights.save(weights.build(PLAIN), folder / "bare.safetensors", {"spec": PLAIN} | learnt_from)
        with pytest.raises(ValueError, match="does not name its data"):
            report(folder, "bare")
    for samples in (11, 41):
        with pytest.raises(ValueError, match=f"{samples} samples: expected 12 to 40"):
            report(folder, samples=samples)


@pytest.fixture
def drawn(folder, tmp_path):
    """The guided model with a card that says how it is best drawn."""
    path = tmp_path / "drawn.safetensors"
    draw = {"sampler": "heun", "steps": 3, "gamma": 1.5, "interval": [0.2, 0.8]}
    card = weights.card(folder / "guided.safetensors") | {"name": "drawn", "draw": draw}
    weights.save(weights.load(folder / "guided.safetensors"), path, card)
    return path


def test_a_run_is_as_the_card_says_but_for_what_is_given(drawn, folder):
    card = weights.card(drawn)
    assert Run.of(card) == Run(sampler="heun", steps=3, gamma=1.5, interval=(0.2, 0.8))
    given = {"samples": 20, "steps": 2, "interval": [0.0, 0.5], "seed": 4}
    assert Run.of(card, **given) == Run(20, "heun", 2, gamma=1.5, interval=(0.0, 0.5), seed=4)
    assert Run.of(weights.card(folder / "guided.safetensors")) == Run()


def test_a_report_without_a_run_is_on_the_run_of_the_card(drawn, folder, monkeypatch):
    many = data.Images(torch.randint(0, 256, (2000, 1, 28, 28)).byte(), torch.arange(2000) % 10, "made up")
    monkeypatch.setattr(evaluate.data, "load", lambda *_: many)
    asked = []

    def generate(model, shape, run, engine):
        asked.append(run)
        return many.images, many.labels, 0.0

    monkeypatch.setattr(evaluate, "generate", generate)
    monkeypatch.setattr(evaluate, "_measure", lambda *_: {})
    evaluate.evaluate(drawn, features=folder / "classifier.safetensors")
    assert asked == [Run.of(weights.card(drawn))]


CELLS = {
    "network": "ResidualUNet",
    "config": {"widths": [8, 8], "attention": [], "classes": 3, "channels": 3},
    "kind": "flow",
    "schedule": {"name": "flow"},
}


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """Colour images of 64x64, three classes of 60, 5 and 8 for each split, and a model of them with its classifier."""

    def load(name, split):
        assert name == "cells"
        labels = torch.tensor([1] * 60 + [0] * 5 + [2] * 8)
        generator = torch.Generator().manual_seed(len(split))
        images = torch.randint(0, 256, (73, 3, 64, 64), generator=generator, dtype=torch.uint8)
        return data.Images(images, labels, "made up")

    monkeypatch.setattr(evaluate.data, "load", load)
    monkeypatch.setattr(weights, "SHIPPED", tmp_path)
    classifier = {"network": "Classifier", "config": {"classes": 3, "width": 1, "channels": 3, "size": 64}}
    for name, spec in {"cells-guided": CELLS, "cells-classifier": classifier}.items():
        card = {"name": name, "spec": spec, "data": {"name": "cells", "balanced": True}}
        weights.save(weights.build(spec), tmp_path / f"{name}.safetensors", card)


def test_colour_images_of_another_size_are_seen_through_the_classifier_of_their_data(cells):
    found = evaluate.evaluate("cells-guided", Run(samples=15, steps=2, gamma=1.5))
    assert found["features"]["network"] == "cells-classifier"
    assert (found["reference"]["data"], found["reference"]["N"]) == ("cells", 15)  # 5 of each, as the rarest has
    assert set(found["metrics"]) == set(reports.FORMATS)
    assert found["metrics"]["inception_score"]["value"] <= 3


def test_the_rarest_class_limits_the_number_of_samples(cells):
    """Labels are balanced, so 15 samples have 5 of each label, and there are 5 real images of the rarest."""
    with pytest.raises(
        ValueError, match="16 samples: expected 12 to 15, since a floor needs as many real .* of each cl"
    ):
        evaluate.evaluate("cells-guided", Run(samples=16, steps=2))


def test_features_that_do_not_fit_the_images_are_refused(cells, folder):
    with pytest.raises(ValueError, match=r"\(.*3, 64, 64\): expected \(B, 1, 28, 28\)"):
        evaluate.evaluate("cells-guided", Run(samples=15, steps=2), folder / "classifier.safetensors")


# ---- the cache


def test_cached_samples_give_the_same_report_without_sampling(folder, tmp_path, monkeypatch):
    cache = tmp_path / "new" / "samples.safetensors"
    first = report(folder, cache=cache)
    monkeypatch.setattr(evaluate, "generate", lambda *_: pytest.fail("sampled again"))
    second = report(folder, cache=cache)
    for part in ("metrics", "recipe", "evaluations_per_sample", "seconds_sampling", "hardware"):
        assert first[part] == second[part]
    kept = safetensors.torch.load_file(cache)["images"]
    assert kept.dtype == torch.uint8 and kept.shape == (20, 1, 28, 28)


def test_samples_of_another_recipe_are_made_anew(folder, tmp_path, capsys):
    cache = tmp_path / "samples.safetensors"
    report(folder, cache=cache)
    for change in (
        {"seed": 1},
        {"samples": 21},
        {"gamma": 3.0},
        {"steps": 3},
        {"sampler": "ddpm"},
        {"interval": (0, 0.5)},
    ):
        found = report(folder, cache=cache, **change)
        assert "another recipe" in capsys.readouterr().out
        with safetensors.safe_open(cache, "pt") as file:
            assert json.loads(file.metadata()["recipe"]) == found["recipe"]


def test_a_file_that_is_no_cache_is_refused_and_left_alone(folder, tmp_path):
    other, broken = tmp_path / "model.safetensors", tmp_path / "broken.safetensors"
    other.write_bytes((folder / "guided.safetensors").read_bytes())
    broken.write_bytes(other.read_bytes()[:1000])
    for path, message in ((other, "not a cache of samples"), (broken, "truncated or not a safetensors file")):
        before = path.read_bytes()
        with pytest.raises(ValueError, match=message):
            report(folder, cache=path)
        assert path.read_bytes() == before


# ---- the command


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, arguments)])
    evaluate.main()


def test_the_command_prints_a_table_and_writes_json(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    features = ["--features", folder / "classifier.safetensors"]
    guided = ["--gamma", 1.5, "--interval", 0.2, 0.75]
    run(monkeypatch, folder / "guided.safetensors", "--samples", 20, "--steps", 2, *guided, *features)
    path = Path("runs/guided-ddim2-gamma1.5-interval0.2-0.75-N20-seed0.json")
    assert json.loads(path.read_text())["recipe"]["interval"] == [0.2, 0.75]
    printed = capsys.readouterr().out
    for title, _, _ in reports.FORMATS.values():
        assert title in printed
    assert "N = 20; features: classifier; reference: 40 mnist test images" in printed and str(path) in printed
    run(monkeypatch, folder / "plain.safetensors", "--samples", 20, "--steps", 2, "--json", "a/b.json", *features)
    assert json.loads(Path("a/b.json").read_text())["recipe"]["model"] == "plain"


def test_a_name_on_a_card_does_not_lead_out_of_the_folder_of_reports(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    card = {"name": "../../outside", "spec": PLAIN, "data": {"name": "mnist"}}
    weights.save(weights.build(PLAIN), tmp_path / "model.safetensors", card)
    options = ["--samples", 20, "--steps", 2, "--features", folder / "classifier.safetensors"]
    run(monkeypatch, tmp_path / "model.safetensors", *options)
    assert [path.name for path in Path("runs").iterdir()] == ["outside-ddim2-N20-seed0.json"]


def test_the_command_draws_as_the_card_says_unless_it_is_told_otherwise(drawn, folder, tmp_path, monkeypatch):
    usual = [drawn, "--samples", 20, "--json", tmp_path / "a.json", "--features", folder / "classifier.safetensors"]
    best = {"sampler": "heun", "steps": 3, "gamma": 1.5, "interval": [0.2, 0.8]}
    for options, other in {
        (): {},
        ("--gamma", 3): {"gamma": 3.0},
        ("--sampler", "ddim", "--steps", 2): {"sampler": "ddim", "steps": 2},
        ("--interval", 0, 1): {"interval": [0.0, 1.0]},
    }.items():
        run(monkeypatch, *usual, *options)
        recipe = json.loads((tmp_path / "a.json").read_text())["recipe"]
        assert {key: recipe[key] for key in best} == best | other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: name"),
        (["mnist-nothing"], "model 'mnist-nothing': expected one of"),
        (["a", "--sampler", "euler"], "invalid choice"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        run(monkeypatch, *arguments)
    assert message in capsys.readouterr().err
