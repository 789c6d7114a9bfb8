"""Take a trained model to where there is no PyTorch: ``python -m diffusion_helpers.export NAME --to FOLDER``.

Writes ``NAME.onnx``, the network, and ``NAME.json``, what a sampler has to know of it: what it predicts, its levels, its
classes, how it is best drawn with. A model that reads captions gets ``NAME.words.onnx``, which reads them once, too.
It needs the package onnx (``pip install "diffusion-helpers[site]"``).
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from . import data, weights
from .denoise import Denoiser
from .words.grammar import COLOURS, GROUNDS, VOCABULARY
from .words.scenes import GREYS, PAINTS

STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100)


class _Reader(nn.Module):
    """Tokens of captions (B, LENGTH) to words as the network takes them, (B, LENGTH, width)."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, tokens: Tensor) -> Tensor:
        return self.net.encode(tokens)


def side_of(name: str | None) -> int:
    """The side in pixels of the pictures of a data set, 28 where it is not known."""
    return {"cells": 64, "scenes": 32}.get(name, 28)


def describe(model: Denoiser, card: dict) -> dict:
    """What a sampler has to know: ``kind``, levels, ``channels`` and ``side``, classes, or vocabulary and paints (RGB), ``draw``.

    A schedule with a table comes with alpha and sigma of all its entries, and with the entries of a run of each of
    ``STEPS``; a continuous one by its name alone.
    """
    schedule, set_of = model.schedule, card.get("data", {}).get("name")
    levels: dict = {"name": schedule.name}
    if schedule.T is not None:
        table = schedule(torch.arange(schedule.T + 1) / schedule.T)
        levels |= {"alpha": table.alpha.tolist(), "sigma": table.sigma.tolist()}
        levels["grids"] = {n: [round(level.t.item() * schedule.T) for level in schedule.grid(n)] for n in STEPS}
    found = {"kind": model.kind, "schedule": levels, "side": side_of(set_of), "draw": model.draw}
    found |= {"steps": STEPS, "channels": card["spec"]["config"].get("channels", 3 if model.words else 1)}
    found |= {"parameters": card["parameters"], "classes": list(data.classes(set_of)) if model.classes else []}
    if model.words:
        paints = dict(zip(COLOURS, PAINTS.int().tolist(), strict=True))
        paints |= {name: [int(grey)] * 3 for name, grey in zip(GROUNDS, GREYS, strict=True)}
        found |= {"vocabulary": VOCABULARY, "length": model.words, "paints": paints}
    return found


def _write(net: nn.Module, given: dict[str, Tensor], to: Path) -> None:
    """``net`` as ONNX, for any number of images, its numbers in half precision where that changes none of them."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks of shapes are of Python, and are left out of the file
        torch.onnx.export(
            net.eval(),
            tuple(given.values()),
            to,
            input_names=list(given),
            output_names=["out"],
            dynamic_axes={name: {0: "B"} for name in (*given, "out")},
            opset_version=17,
            dynamo=False,
        )
    graph = onnx.load(to)
    casts = []
    for tensor in graph.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        half = values.astype("float16")
        if values.size < 64 or not (half.astype("float32") == values).all():
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.graph.node.insert(0, node)
    onnx.checker.check_model(graph)
    onnx.save(graph, to)


def export(name: str, folder: Path) -> list[Path]:
    """Write the files of the model ``name``, shipped or a .safetensors file, into ``folder``; their paths.

    Raises ValueError for a network that is no diffusion model.
    """
    model, card = weights.load(name), weights.card(name)
    if not isinstance(model, Denoiser):
        raise ValueError(f"{name} draws nothing: expected a diffusion model, such as mnist-guided")
    folder.mkdir(parents=True, exist_ok=True)
    stem, about = Path(name).stem, describe(model, card)
    shape = (2, about["channels"], about["side"], about["side"])
    given = {"x": torch.randn(shape), "t": torch.tensor([0.3, 0.7])}
    written = [folder / f"{stem}.onnx", folder / f"{stem}.json"]
    if model.words:
        tokens = torch.randint(len(VOCABULARY), (2, model.words))
        written.append(folder / f"{stem}.words.onnx")
        _write(_Reader(model.net), {"tokens": tokens}, written[-1])
        given["y"] = model.net.encode(tokens).detach()
    elif model.classes:
        given["y"] = torch.rand(2, model.classes)
    _write(model.net, given, written[0])
    written[1].write_text(json.dumps(about), encoding="utf-8")
    return written


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m diffusion_helpers.export", description=__doc__.split(":")[0])
    parser.add_argument("name", help="a shipped model, or a .safetensors file")
    parser.add_argument("--to", type=Path, default=Path("."), help="the folder to write into (default: this one)")
    chosen = parser.parse_args()
    try:
        written = export(chosen.name, chosen.to)
    except (ValueError, ImportError) as error:
        parser.error(str(error))
    for path in written:
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
