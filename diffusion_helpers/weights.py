"""Trained models as single files: the weights, and a card that says where they come from.

The format is safetensors: plain numbers, nothing that runs when it is opened. The card is JSON in the
file's header: how to build the network, the recipe, the data, and what was measured.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from . import schedules
from .denoise import Denoiser
from .unet import Classifier, CourseUNet, ResidualUNet

SHIPPED = Path(__file__).parent / "shipped"
_NETWORKS = {network.__name__: network for network in (CourseUNet, ResidualUNet, Classifier)}
_NETWORKS["DigitClassifier"] = Classifier  # as files made before it took anything but digits call it
_SCHEDULES = {"linear_beta": schedules.linear_beta, "cosine": schedules.cosine, "flow": schedules.flow}


def names() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def build(spec: dict) -> nn.Module:
    """A fresh model from its specification, the part of a card that says how to build it.

    {"network": "CourseUNet", "config": {...}} gives the network; with "kind" and "schedule", such as
    {"name": "linear_beta", "T": 300}, it gives a ``Denoiser`` around it.
    Raises ValueError for a network or schedule that this version does not know.
    """
    if spec.get("network") not in _NETWORKS:
        raise ValueError(f"network {spec.get('network')!r}: expected one of {', '.join(_NETWORKS)}")
    net = _NETWORKS[spec["network"]](**spec["config"])
    if "kind" not in spec:
        return net
    options = dict(spec["schedule"])
    name = options.pop("name", None)
    if name not in _SCHEDULES:
        raise ValueError(f"schedule {name!r}: expected one of {', '.join(_SCHEDULES)}")
    return Denoiser(net, spec["kind"], _SCHEDULES[name](**options))


def save(model: nn.Module, path: str | Path, card: dict, dtype: torch.dtype = torch.float16) -> None:
    """Write the weights of ``model`` to ``path``, in ``dtype``, with the card in the header.

    ``card["spec"]`` must build a model with these very weights. Raises ValueError when it does not, and for a
    path that does not end in .safetensors.
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"{path}: expected a path that ends in .safetensors")
    expected = {k: v.shape for k, v in build(card["spec"]).state_dict().items()}
    state = model.state_dict()
    if {k: v.shape for k, v in state.items()} != expected:
        raise ValueError(f"the specification {card['spec']} builds another network than the model to be saved")
    tensors = {k: (v.to(dtype) if v.is_floating_point() else v).contiguous() for k, v in state.items()}
    partial = Path(path).with_suffix(".part")  # a crash while writing leaves the last whole file
    safetensors.torch.save_file(tensors, partial, {"card": json.dumps(card)})
    os.replace(partial, path)


def card(name: str | Path) -> dict:
    """The card of a shipped model, or of the file at a path.

    Raises ValueError for a name that is not known and a file that is not a whole model.
    """
    return _open(name)[1]


def load(name: str | Path, device: torch.device | str = "cpu") -> nn.Module:
    """A trained model by name, or from a path, in float32, eval mode and frozen, on ``device``.

    ``requires_grad_(True)`` lets it be trained further.

    Raises ValueError for a name that is not known, a file that is truncated or has no card, and
    weights that do not fit the network on the card.
    """
    path, found = _open(name)
    model = build(found["spec"])
    tensors = safetensors.torch.load_file(path)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{path}: these are weights of another network than its card says ({error})") from None
    return model.to(device).eval().requires_grad_(False)


def _open(name: str | Path) -> tuple[Path, dict]:
    path = Path(name)
    if path.suffix != ".safetensors":
        path = SHIPPED / f"{name}.safetensors"
        if not path.exists():
            raise ValueError(f"model {str(name)!r}: expected one of {', '.join(names())}, or a .safetensors file")
    if not path.exists():
        raise ValueError(f"{path}: no such file; expected a .safetensors file")
    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: truncated or not a safetensors file ({error})") from None
    if "card" not in meta:
        raise ValueError(f"{path}: has no card; expected a file that diffusion_helpers.weights.save wrote")
    return path, json.loads(meta["card"])


def hardware(device: torch.device) -> str:
    """How cards and reports name what a model ran on: the GPU, or the number of CPU threads."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
