"""The marks of trained models: against the reference of several seeds, whatever the file holds."""

import json
import re
import statistics
import sys
from pathlib import Path

import bands
import measure_bands
import pytest
import safetensors.torch
import torch
from torch import nn

from diffusion_helpers import data, schedules, weights
from diffusion_helpers.denoise import Denoiser
from diffusion_helpers.unet import Classifier, CourseUNet

GUIDE = Path(__file__).parents[1] / "teaching" / "INSTRUCTORS.md"
BAND = {"mean": 0.010, "sd": 0.0005}


@pytest.mark.parametrize(
    ("found", "share"), [(0.008, 1), (0.0115, 1), (0.0116, 0.5), (0.02, 0.5), (0.0201, 0), (float("nan"), 0)]
)
def test_full_half_and_no_marks(found, share):
    assert bands.share(found, BAND) == share


def test_the_stored_reference_is_what_its_seeds_say():
    for band in bands.stored().values():
        assert len(band["errors"]) >= 5
        assert band["mean"] == pytest.approx(statistics.mean(band["errors"]), abs=1e-5)
        assert band["sd"] == pytest.approx(statistics.stdev(band["errors"]), abs=1e-5)


def test_the_guide_quotes_the_stored_reference():
    guide = GUIDE.read_text(encoding="utf8")
    for kind, band in bands.stored().items():
        mean, sd = band["mean"], band["sd"]
        row = next(line for line in guide.splitlines() if line.startswith(f"| `{kind}` "))
        for quoted in (f"{mean:.4f} ± {sd:.4f}", f"| {mean + 3 * sd:.4f} |", f"| {2 * mean:.4f} |"):
            assert quoted in row


@pytest.fixture
def few() -> data.Images:
    test = data.load("mnist", "test")
    return data.Images(test.images[:100], test.labels[:100], test.source)


def test_only_a_model_of_the_right_kind_is_measured(few):
    assert 0 < bands.error("denoiser", weights.load("mnist-denoiser"), few) < 0.02
    assert 0 < bands.error("ddpm", weights.load("mnist-ddpm"), few) < 0.1
    assert 0 < bands.error("guided", weights.load("mnist-guided"), few) < 0.1
    for kind, name in (("denoiser", "mnist-ddpm"), ("ddpm", "mnist-guided"), ("guided", "mnist-denoiser")):
        with pytest.raises(ValueError, match="expected a"):
            bands.error(kind, weights.load(name), few)


class Copy(nn.Module):
    """return x: what predicts the noise best where there is nothing but noise."""

    classes = 0

    def forward(self, x, t):
        return x


OWN = {  # schedules on which nearly all of x is noise, or whose table is another
    "noise from the first step on": schedules.linear_beta(1, 0.999, 0.999),
    "of 300 steps": schedules.linear_beta(300, 0.9, 0.999),
    "nearly the lesson's": schedules.linear_beta(300, 1e-4, 0.03),
    "longer": schedules.linear_beta(1000),
    "another": schedules.cosine(300),
    "without a table": schedules.flow(),
}


@pytest.mark.parametrize("name", OWN)
def test_a_schedule_of_its_own_gains_nothing(name, few):
    with pytest.raises(ValueError, match="expected the lesson's linear_beta"):
        bands.error("ddpm", Denoiser(Copy(), "eps", OWN[name]), few)


def test_copying_the_noisy_image_has_no_marks(few, monkeypatch):
    """On the lesson's schedule, whatever the model says of itself."""
    found = bands.error("ddpm", Denoiser(Copy(), "eps", schedules.linear_beta(300)), few)
    assert found > 0.5
    assert all(bands.share(found, band) == 0 for kind, band in bands.stored().items() if kind != "denoiser")
    monkeypatch.setattr(bands, "check", lambda *_: None)
    assert bands.error("ddpm", Denoiser(Copy(), "eps", OWN["noise from the first step on"]), few) == found


@pytest.mark.parametrize("kind", ["denoiser", "ddpm", "guided"])
def test_a_network_is_at_most_as_large_as_the_lessons(kind):
    def model(D: int) -> nn.Module:
        with torch.device("meta"):
            net = CourseUNet(D, kind != "denoiser", 10 * (kind == "guided"))
        return net if kind == "denoiser" else Denoiser(net, "eps", schedules.linear_beta(300))

    bands.check(kind, model(bands.WIDTH[kind]))
    with pytest.raises(ValueError, match="parameters: expected at most"):
        bands.check(kind, model(bands.WIDTH[kind] + 1))


def test_a_card_that_lies_is_not_marked(few, tmp_path, monkeypatch, capsys):
    own = {"name": "linear_beta", "T": 1, "first": 0.999, "last": 0.999}
    spec = {"network": "CourseUNet", "config": {"D": 2, "time": True}, "kind": "eps"}
    net = CourseUNet(2, time=True)
    lies = {
        "schedule": spec | {"schedule": own},
        "classes": spec | {"schedule": own | {"T": 300}, "config": {"D": 2, "time": True, "classes": 3}},
        "kind": spec | {"schedule": {"name": "linear_beta", "T": 300}, "kind": "x0"},
        "nothing": spec | {"schedule": {"name": "linear_beta", "T": 300}},
    }
    for name, spec in lies.items():
        card = {"card": json.dumps({"spec": spec})}
        held = CourseUNet(2, time=True, classes=3) if name == "classes" else net
        state = weights.build(spec | {"schedule": {"name": "linear_beta", "T": 300}})
        state.load_state_dict({f"net.{key}": value for key, value in held.state_dict().items()})
        safetensors.torch.save_file(state.state_dict(), tmp_path / f"{name}.safetensors", card)
    (tmp_path / "bands.json").write_text(json.dumps({"ddpm": bands.stored()["ddpm"] | {"N": len(few.images)}}))
    monkeypatch.setattr(bands, "FILE", tmp_path / "bands.json")
    monkeypatch.setattr(data, "load", lambda *_: few)
    monkeypatch.setattr(sys, "argv", ["bands.py", "ddpm", *(str(tmp_path / f"{name}.safetensors") for name in lies)])
    bands.main()
    _, *lines = capsys.readouterr().out.splitlines()
    assert [": not marked, " in line for line in lines] == [True, True, True, False]
    assert lines[-1].endswith(", 0%")


def test_fewer_test_digits_than_those_of_the_reference_are_refused(few, monkeypatch, capsys):
    monkeypatch.setattr(data, "load", lambda *_: few)
    monkeypatch.setattr(sys, "argv", ["bands.py", "ddpm", "ada.safetensors"])
    with pytest.raises(SystemExit):
        bands.main()
    assert "100 test digits" in (said := capsys.readouterr().err) and "expected the 10,000 of the reference" in said


def test_a_kind_that_was_not_measured_is_not_marked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bands, "FILE", tmp_path / "bands.json")
    monkeypatch.setattr(sys, "argv", ["bands.py", "ddpm", "ada.safetensors"])
    with pytest.raises(SystemExit):
        bands.main()
    assert "no reference for ddpm yet: python tools/measure_bands.py ddpm" in capsys.readouterr().err


def test_every_file_gets_its_line(few, tmp_path, monkeypatch, capsys):
    reference = {"denoiser": BAND | {"errors": [0.01] * 5, "N": len(few.images)}}
    (tmp_path / "bands.json").write_text(json.dumps(reference), encoding="utf8")
    monkeypatch.setattr(bands, "FILE", tmp_path / "bands.json")
    monkeypatch.setattr(data, "load", lambda *_: few)
    spec = {"spec": {"network": "CourseUNet", "config": {"D": 2}}}
    weights.save(CourseUNet(D=2), tmp_path / "untrained.safetensors", spec)
    (tmp_path / "broken.safetensors").write_bytes(b"noise")
    for name, strange in {"words": "a network", "less": {"network": "CourseUNet", "config": {"D": -1}}}.items():
        card = {"card": json.dumps({"spec": strange})}
        safetensors.torch.save_file(CourseUNet(D=2).state_dict(), tmp_path / f"{name}.safetensors", card)
    weights.save(Classifier(), tmp_path / "digits.safetensors", {"spec": {"network": "Classifier", "config": {}}})
    files = [tmp_path / f"{name}.safetensors" for name in ("broken", "digits", "words", "less", "untrained")]
    monkeypatch.setattr(sys, "argv", ["bands.py", "denoiser", *map(str, files)])
    bands.main()
    reference, *refused, untrained = capsys.readouterr().out.splitlines()
    assert reference.startswith("reference: 0.0")
    for line, path in zip(refused, files, strict=False):
        assert line.startswith(f"{path.name}: not marked, ")
    assert len(refused) == 4
    assert untrained.endswith(", 0%")


def test_shipped_weights_have_no_marks_and_a_second_file_of_the_same_is_named(few, tmp_path, monkeypatch, capsys):
    easy = {"mean": 1.0, "sd": 0.1, "errors": [1.0] * 5, "N": len(few.images)}  # any network has full marks
    (tmp_path / "bands.json").write_text(json.dumps({"denoiser": easy}))
    monkeypatch.setattr(bands, "FILE", tmp_path / "bands.json")
    monkeypatch.setattr(data, "load", lambda *_: few)
    spec = {"spec": weights.card("mnist-denoiser")["spec"]}
    renamed, own = weights.load("mnist-denoiser"), weights.build(spec["spec"])
    weights.save(renamed, tmp_path / "renamed.safetensors", spec)
    with torch.no_grad():
        for weight in renamed.parameters():
            weight += 0.05 * weight.square().mean().sqrt() * torch.randn_like(weight)
    weights.save(renamed, tmp_path / "shaken.safetensors", spec)
    for name in ("own", "friend"):
        weights.save(own, tmp_path / f"{name}.safetensors", spec)
    weights.save(weights.build(spec["spec"]), tmp_path / "other.safetensors", spec)
    names = [f"{name}.safetensors" for name in ("renamed", "shaken", "own", "friend", "other")]
    monkeypatch.setattr(sys, "argv", ["bands.py", "denoiser", *(str(tmp_path / name) for name in names)])
    bands.main()
    _, renamed, shaken, own, friend, other = capsys.readouterr().out.splitlines()
    for line in (renamed, shaken):
        assert line.endswith("its weights are those of mnist-denoiser: expected a training of one's own")
    assert friend.endswith(", 100%; weights of own.safetensors")
    assert own.endswith(", 100%") and other.endswith(", 100%")


TASK = GUIDE.parent / "notes" / "own_model.md"


@pytest.mark.parametrize(("kind", "place"), [("denoiser", 0), ("ddpm", 1), ("guided", 2)])
def test_the_scripts_that_are_handed_out_make_files_that_can_be_marked(kind, place, few, tmp_path, monkeypatch):
    script = re.findall(r"```python\n(.*?)```", TASK.read_text(encoding="utf8"), re.DOTALL)[place]
    count, epochs, batch, rate = measure_bands.QUICK[kind]
    assert f"[:{count}]" in script and f"epochs={epochs}, batch={batch}, lr={rate:g}" in script.replace(
        "2e-3", "0.002"
    ).replace("4e-3", "0.004")
    monkeypatch.setattr(data, "load", lambda *_: few)
    monkeypatch.chdir(tmp_path)
    exec(script.replace(f"epochs={epochs}", "epochs=1"), {})
    assert bands.error(kind, weights.load("ada.safetensors"), few) > 0
