"""Model files: what is written comes back, and what is wrong is named."""

import copy
import json
import math
import random
import re
import struct

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
        (
            {"network": "Transformer"},
            "'Transformer': expected one of CourseUNet, ResidualUNet, CaptionUNet, Classifier",
        ),
        ({"network": None}, "None: expected one of CourseUNet"),
        ({"schedule": {"name": "sigmoid"}}, "'sigmoid': expected one of linear_beta, cosine, flow"),
        ({"schedule": {"T": 3}}, "None: expected one of linear_beta"),
        ({"schedule": {"name": "linear_beta", "T": 0}}, "T = 0"),
        (
            {"schedule": {"name": "linear_beta", "T": 10**9}},
            "T = 1000000000 of linear_beta: expected int from 1 to 100000",
        ),
        ({"schedule": {"name": "cosine", "offset": -0.5}}, "offset = -0.5"),
        ({"schedule": None}, "an object with network and config"),
        ({"kind": "score"}, "'score': expected one of eps"),
        ({"kind": ["eps"]}, r"\['eps'\]: expected one of eps"),
        ({"network": "Classifier", "config": {}}, "kind 'eps' of a network without time"),
        ({"config": {"D": 20_000}}, "D = 20000 of CourseUNet: expected int from 1 to 2048"),
        ({"config": {"D": "2"}}, "D = '2'"),
        ({"config": {"D": 2.0}}, "D = 2.0"),
        ({"config": {"D": True}}, "D = True"),
        ({"config": {"D": math.nan}}, "D = nan"),
        ({"config": {"D": 2, "time": 1}}, "time = 1 of CourseUNet: expected bool"),
        ({"config": {"D": [2]}}, r"D = \[2\]"),
        ({"config": {"depth": 2}}, "option 'depth' of CourseUNet"),
        ({"config": None}, "options None of CourseUNet"),
        ({"network": "ResidualUNet", "config": {"widths": []}}, r"widths = \(\): expected multiples of 8"),
        ({"network": "ResidualUNet", "config": {"widths": [8] * 9}}, "expected up to 8 of int from 1 to 2048"),
        ({"network": "ResidualUNet", "config": {"dropout": math.nan}}, "dropout = nan"),
        ({"depth": 2}, "expected network, config, kind and schedule"),
    ],
)
def test_a_specification_this_version_does_not_know_is_refused(change, named):
    with pytest.raises(ValueError, match=named):
        build(SPECS["ddpm"] | change)


def test_loading_leaves_the_random_state_alone(path):
    before = torch.get_rng_state()
    load(path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e6])
def test_weights_that_are_not_finite_are_refused_in_writing_and_in_reading(value, path, tmp_path):
    model = trained(SPECS["course"]).requires_grad_(False)
    model.first[0][0].weight[0, 0, 1, 1] = value  # 1e6 is beyond float16
    with pytest.raises(ValueError, match="first.0.0.weight: expected finite weights"):
        save(model, tmp_path / "other.safetensors", {"spec": SPECS["course"]})
    assert not (tmp_path / "other.safetensors").exists()
    if not math.isfinite(value):
        safetensors.torch.save_file(model.state_dict(), path, {"card": json.dumps({"spec": SPECS["course"]})})
        with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: first.0.0.weight: expected finite"):
            load(path)


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[]", "3", "null", '"spec"', '{"spec": {}}', '{"spec": []}', "[" * 100_000, '{"spec": NaN}']
)
def test_a_card_that_is_none_names_the_file(text, path):
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, {"card": text})
    for read in (load, card):
        with pytest.raises(ValueError, match=re.escape(f"{path}: ")):
            read(path)


def taken_apart(path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def put_together(header, numbers):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def places(tree, path=()):
    """Every place in a tree of JSON, as the keys that lead to it."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [p for key, value in items for p in [(*path, key), *places(value, (*path, key))]]


HOSTILE = [
    None,
    True,
    -1,
    0,
    3,
    20_000,
    10**40,
    1.5,
    math.nan,
    math.inf,
    "",
    "x",
    [],
    {},
    [10**9] * 3,
    {"name": "flow"},
]
HOSTILE += [[-1], ["8"], [[8]], 10**9, "9" * 10_000, json.loads("[" * 500 + "]" * 500)]


def mutated(tree, chance):
    """The tree with one place of it changed to something hostile, left out, or with something added."""
    tree = copy.deepcopy(tree)
    *way, last = chance.choice(places(tree))
    inner = tree
    for key in way:
        inner = inner[key]
    if chance.random() < 0.15:
        del inner[last]
    elif chance.random() < 0.1 and isinstance(inner, dict):
        inner["unknown"] = chance.choice(HOSTILE)
    else:
        inner[last] = chance.choice(HOSTILE)
    return tree


def damaged(path, chance):
    """Contents of files that are each damaged in one way."""
    whole, (header, numbers) = path.read_bytes(), taken_apart(path)
    start = len(whole) - len(numbers)

    def flipped(low, high):
        content = bytearray(whole)
        content[chance.randrange(low, high)] ^= 1 << chance.randrange(8)
        return bytes(content)

    for _ in range(40):
        yield flipped(0, start)
        yield flipped(start, len(whole))
        yield whole[: chance.randrange(len(whole))]
        lie = {key: value for key, value in header.items() if key != "__metadata__"}
        yield put_together(mutated(lie, chance) | {"__metadata__": header["__metadata__"]}, numbers)
        for _ in range(4):
            changed = mutated(json.loads(header["__metadata__"]["card"]), chance)
            yield put_together(header | {"__metadata__": {"card": json.dumps(changed)}}, numbers)
    for length in (0, 1, start - 9, start - 7, len(whole), 10**8, 2**31, 2**63, 2**64 - 1):
        yield struct.pack("<Q", length) + whole[8:]


@pytest.mark.parametrize("name", ["ddpm", "residual", "classifier"])
def test_a_damaged_file_is_a_model_of_the_same_shape_or_a_value_error_that_names_it_in_little_memory(name, tmp_path):
    resource = pytest.importorskip("resource")
    path, other = tmp_path / "whole.safetensors", tmp_path / "damaged.safetensors"
    save(trained(SPECS[name]), path, {"spec": SPECS[name], "seed": 0, "data": {"name": "mnist", "N": 60_000}})
    shapes = {key: value.shape for key, value in load(path).state_dict().items()}
    before, refused = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    contents = list(damaged(path, random.Random(name)))
    for content in contents:
        other.write_bytes(content)
        try:
            assert {key: value.shape for key, value in load(other).state_dict().items()} == shapes
        except ValueError as error:
            assert str(error).startswith(f"{other}: ")
            refused += 1
        try:
            assert isinstance(card(other)["spec"], dict)
        except ValueError as error:
            assert str(error).startswith(f"{other}: ")
    assert len(contents) > 300 and refused > len(contents) / 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # in kilobytes, on Linux


@pytest.mark.parametrize("name", weights.names())
def test_every_shipped_model_loads_and_says_where_it_comes_from(name):
    found, model = card(name), load(name)
    assert found["name"] == name
    wanted = ("spec", "recipe", "seed", "data", "images_seen", "seconds", "hardware", "versions", "held_out")
    assert [key for key in wanted if found.get(key) in (None, "", {})] == []
    assert re.fullmatch("[0-9a-f]{64}", found["data"]["sha256"]) and found["images_seen"] > 0
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert all(bool(v.isfinite().all()) for v in model.state_dict().values())  # nothing beyond float16


def with_draw(path, draw):
    save(trained(SPECS["ddpm"]), path, {"spec": SPECS["ddpm"]} | ({} if draw is None else {"draw": draw}))
    return path


@pytest.mark.parametrize(
    "draw",
    [None, {}, {"gamma": 1.5}, {"sampler": "heun", "steps": 11, "gamma": -2, "interval": [0, 0.7]}],
)
def test_a_model_knows_how_its_card_says_that_it_is_best_drawn(draw, tmp_path):
    path = with_draw(tmp_path / "model.safetensors", draw)
    assert load(path).draw == weights.draw(card(path)) == (draw or {})


@pytest.mark.parametrize(
    "draw",
    [
        [],
        "heun",
        {"solver": "heun"},
        {"sampler": "euler"},
        {"sampler": ["heun"]},
        {"steps": 0},
        {"steps": 10**9},
        {"steps": 2.0},
        {"steps": True},
        {"gamma": "2"},
        {"gamma": math.nan},
        {"gamma": math.inf},
        {"interval": 0.5},
        {"interval": [0.7, 0.2]},
        {"interval": [0, 1, 1]},
        {"interval": [0, math.nan]},
        {"interval": ["0", "1"]},
    ],
)
def test_a_draw_that_no_sampler_could_follow_is_refused(draw, tmp_path):
    path = with_draw(tmp_path / "model.safetensors", draw)
    for read in (card, load):
        with pytest.raises(ValueError, match=f"{re.escape(str(path))}: draw .*expected an object of sampler, steps"):
            read(path)
