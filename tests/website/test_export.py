"""What leaves Python answers as it did there."""

import json

import numpy as np
import pytest
import torch

from diffusion_helpers import data, export, weights, words

pytest.importorskip("onnx", reason='exporting needs: pip install "diffusion-helpers[site]"')
onnxruntime = pytest.importorskip("onnxruntime", reason='it needs: pip install "diffusion-helpers[site]"')

NAMES = [name for name in weights.names() if "kind" in weights.card(name)["spec"]]


def answer(path, **given):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [out] = session.run(None, {name: np.asarray(value) for name, value in given.items()})
    return torch.from_numpy(out)


@pytest.mark.parametrize("name", NAMES)
def test_the_network_answers_as_in_torch_at_any_level_for_any_number_of_images(name, tmp_path):
    export.export(name, tmp_path)
    model, about = weights.load(name), json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    for B in (1, 5):
        torch.manual_seed(B)
        x = 2 * torch.randn(B, about["channels"], about["side"], about["side"])
        given = {"x": x, "t": torch.rand(B)}
        if model.words:
            tokens = words.tokens(["a red seven above a small blue boot", "", "a dress", "on white a big bag", "3"][:B])
            read = answer(tmp_path / f"{name}.words.onnx", tokens=tokens)
            with torch.no_grad():
                assert torch.allclose(read, model.net.encode(tokens), atol=1e-5)
            given["y"] = read
        elif model.classes:
            given["y"] = torch.rand(B, model.classes)
        with torch.no_grad():
            assert torch.allclose(answer(tmp_path / f"{name}.onnx", **given), model.net(*given.values()), atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_levels_and_the_names_are_those_of_the_model(name):
    model, card = weights.load(name), weights.card(name)
    about = json.loads(json.dumps(export.describe(model, card)))
    assert about["kind"] == model.kind and about["draw"] == json.loads(json.dumps(model.draw))
    if model.classes:
        assert about["classes"] == list(data.classes(card["data"]["name"]))
    table = about["schedule"]
    assert ("alpha" in table) == (model.schedule.T is not None)
    for steps, entries in table.get("grids", {}).items():
        levels = model.schedule.grid(int(steps))
        for part in ("alpha", "sigma"):
            assert [table[part][entry] for entry in entries] == [getattr(level, part).item() for level in levels]


def test_half_precision_where_it_changes_nothing(tmp_path):
    """The shipped residual networks are of half precision, so the file is about as large as theirs."""
    file, _ = export.export("mnist-guided-residual", tmp_path)
    assert file.stat().st_size < 1.1 * (weights.SHIPPED / "mnist-guided-residual.safetensors").stat().st_size


def test_what_draws_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="mnist-classifier draws nothing"):
        export.export("mnist-classifier", tmp_path)
