"""The marks of trained models: against the reference of several seeds, whatever the file holds."""

import json
import statistics
import sys

import bands
import pytest
import safetensors.torch

from diffusion_helpers import data, weights
from diffusion_helpers.unet import Classifier, CourseUNet

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
    guide = (bands.FILE.parent / "INSTRUCTORS.md").read_text(encoding="utf8")
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


def test_a_kind_that_was_not_measured_is_not_marked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bands, "FILE", tmp_path / "bands.json")
    monkeypatch.setattr(sys, "argv", ["bands.py", "ddpm", "ada.safetensors"])
    with pytest.raises(SystemExit):
        bands.main()
    assert "no reference for ddpm yet: python tests/measure_bands.py ddpm" in capsys.readouterr().err


def test_every_file_gets_its_line(few, tmp_path, monkeypatch, capsys):
    reference = {"denoiser": BAND | {"errors": [0.01] * 5, "N": 10_000}}
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
    shipped = weights.SHIPPED / "mnist-denoiser.safetensors"
    monkeypatch.setattr(sys, "argv", ["bands.py", "denoiser", *map(str, [*files, shipped])])
    bands.main()
    reference, *refused, untrained, good = capsys.readouterr().out.splitlines()
    assert reference.startswith("reference: 0.0")
    for line, path in zip(refused, files, strict=False):
        assert line.startswith(f"{path.name}: not marked, ")
    assert len(refused) == 4
    assert untrained.endswith(", 0%") and good.endswith(", 100%")
