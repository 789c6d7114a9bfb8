"""Model files: what is written comes back, and what is wrong is named."""

import json
import re

import pytest
import safetensors.torch
import torch

from diffusion_helpers import weights
from diffusion_helpers.denoise import Denoiser
from diffusion_helpers.weights import build, card, load, save

SPECS = {
    "course": {"network": "CourseUNet", "config": {"D": 2}},
    "classifier": {"network": "Classifier", "config": {"width": 2, "channels": 3, "size": 32}},
    "older classifier": {"network": "DigitClassifier", "config": {"width": 2}},
    "ddpm": {
        "network": "CourseUNet",
        "config": {"D": 2, "time": True, "classes": 10},
        "kind": "eps",
        "schedule": {"name": "linear_beta", "T": 300},
    },
    "residual": {
        "network": "ResidualUNet",
        "config": {"widths": [8, 16], "classes": 10},
        "kind": "flow",
        "schedule": {"name": "flow"},
    },
}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def trained(spec):
    """A model with no tensor left at its start."""
    model = build(spec)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.randn_like(tensor) if tensor.is_floating_point() else torch.full_like(tensor, 12_345))
    return model


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    save(trained(SPECS["course"]), path, {"spec": SPECS["course"]})
    return path


@every_spec
def test_float32_comes_back_exactly(spec, tmp_path):
    model, path = trained(spec), tmp_path / "model.safetensors"
    save(model, path, {"spec": spec}, dtype=torch.float32)
    before, after = model.state_dict(), load(path).state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


@every_spec
def test_float16_comes_back_as_float32_within_half_a_unit_in_the_last_place(spec, tmp_path):
    model, path = trained(spec), tmp_path / "model.safetensors"
    save(model, path, {"spec": spec})
    before, after = model.state_dict(), load(path).state_dict()
    assert {k: v.dtype for k, v in after.items()} == {k: v.dtype for k, v in before.items()}
    for name, value in after.items():
        bound = before[name].abs() * 2**-11 + 2**-25 if value.is_floating_point() else 0  # counts are kept whole
        assert bool(((before[name] - value).abs() <= bound).all())
    assert path.stat().st_size < 2 * sum(v.numel() for v in before.values()) + 20_000


def test_a_loaded_model_is_ready_to_use_and_not_to_train(path):
    model = load(path)
    assert not any(module.training for module in model.modules())
    assert not any(p.requires_grad for p in model.parameters())
    assert model(torch.zeros(1, 1, 28, 28)).shape == (1, 1, 28, 28)


def test_the_card_comes_back_as_it_was_written(tmp_path):
    written = {"spec": SPECS["ddpm"], "seed": 0, "held_out": {"mse": 0.03}, "text": "σ² ≤ 1", "none": None}
    save(trained(SPECS["ddpm"]), tmp_path / "a.safetensors", written)
    assert card(tmp_path / "a.safetensors") == written
    assert card(str(tmp_path / "a.safetensors")) == written


@pytest.mark.parametrize("name, signal", [("ddpm", 0.219), ("residual", 0.0)])
def test_the_specification_brings_back_kind_and_schedule(name, signal):
    model = build(SPECS[name])
    assert isinstance(model, Denoiser) and (model.kind, model.classes) == (SPECS[name]["kind"], 10)
    assert float(model.schedule(1.0).alpha) == pytest.approx(signal, abs=5e-4)


def test_building_does_not_change_the_specification():
    before = json.dumps(SPECS["ddpm"])
    build(SPECS["ddpm"])
    assert json.dumps(SPECS["ddpm"]) == before


@pytest.mark.parametrize("kept", [0, 4, 100, 5000, -1])
def test_a_truncated_file_is_named(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    for read in (load, card):
        with pytest.raises(ValueError, match=f"{re.escape(str(path))}: truncated or not a safetensors file"):
            read(path)


def test_a_file_without_a_card_is_named(path):
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: has no card"):
        load(path)


@pytest.mark.parametrize("config", [{"D": 4}, {"D": 2, "time": True}], ids=["other sizes", "other parts"])
def test_weights_of_another_network_than_the_card_says_are_refused(path, config):
    other = {"spec": {"network": "CourseUNet", "config": config}}
    safetensors.torch.save_file(trained(SPECS["course"]).state_dict(), path, {"card": json.dumps(other)})
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: these are weights of another network"):
        load(path)


def test_a_specification_that_does_not_match_the_model_is_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match="'D': 4.* builds another network"):
        save(trained(SPECS["course"]), path, {"spec": {"network": "CourseUNet", "config": {"D": 4}}})
    assert not path.exists()


def test_an_unknown_name_lists_the_known_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "SHIPPED", tmp_path)
    for name in ("second", "first"):
        save(trained(SPECS["course"]), tmp_path / f"{name}.safetensors", {"spec": SPECS["course"], "name": name})
    assert weights.names() == ["first", "second"]
    assert card("second")["name"] == "second"
    for read in (load, card):
        with pytest.raises(ValueError, match="'third': expected one of first, second"):
            read("third")


def test_a_path_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ValueError, match="absent.safetensors: no such file"):
        load(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    "change, named",
    [
        ({"network": "Transformer"}, "'Transformer': expected one of CourseUNet, ResidualUNet, Classifier"),
        ({"network": None}, "None: expected one of CourseUNet"),
        ({"schedule": {"name": "sigmoid"}}, "'sigmoid': expected one of linear_beta, cosine, flow"),
        ({"schedule": {"T": 3}}, "None: expected one of linear_beta"),
        ({"schedule": {"name": "linear_beta", "T": 0}}, "T = 0"),
        ({"kind": "score"}, "'score': expected one of eps"),
    ],
)
def test_a_specification_this_version_does_not_know_is_refused(change, named):
    with pytest.raises(ValueError, match=named):
        build(SPECS["ddpm"] | change)


@pytest.mark.parametrize("name", weights.names())
def test_every_shipped_model_loads_and_says_where_it_comes_from(name):
    found, model = card(name), load(name)
    assert found["name"] == name
    wanted = ("spec", "recipe", "seed", "data", "images_seen", "seconds", "hardware", "versions", "held_out")
    assert [key for key in wanted if found.get(key) in (None, "", {})] == []
    assert re.fullmatch("[0-9a-f]{64}", found["data"]["sha256"]) and found["images_seen"] > 0
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert all(bool(v.isfinite().all()) for v in model.state_dict().values())  # nothing beyond float16
