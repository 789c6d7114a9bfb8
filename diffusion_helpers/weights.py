"""Trained models as single files: the weights, and a card that says where they come from.

The format is safetensors: plain numbers, nothing that runs when it is opened. The card is JSON in the
file's header: how to build the network, the recipe, the data, and what was measured.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from . import schedules
from .denoise import Denoiser
from .samplers import SAMPLERS
from .unet import Classifier, CourseUNet, ResidualUNet
from .words.network import CaptionUNet

SHIPPED = Path(__file__).parent / "shipped"
_NETWORKS = {network.__name__: network for network in (CourseUNet, ResidualUNet, CaptionUNet, Classifier)}
_NETWORKS["DigitClassifier"] = Classifier  # as files made before it took anything but digits call it
_SCHEDULES = {"linear_beta": schedules.linear_beta, "cosine": schedules.cosine, "flow": schedules.flow}
# A card may come from anywhere, so every number on it is bounded: whole ones from 1 to 2048 where nothing else is said.
_BOUNDS = {
    "classes": (0, 10_000),
    "attention": (0, 7),
    "blocks": (1, 16),
    "patch": (1, 16),
    "size": (4, 1024),
    "layers": (0, 16),
}
_BOUNDS["T"] = (1, 100_000)


def names() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def build(spec: dict, device: torch.device | str = "cpu") -> nn.Module:
    """A fresh model from its specification, the part of a card that says how to build it.

    {"network": "CourseUNet", "config": {...}} gives the network; with "kind" and "schedule", such as
    {"name": "linear_beta", "T": 300}, it gives a ``Denoiser`` around it. On the device "meta" it has shapes and takes
    no memory. Raises ValueError for a network, schedule or option that this version does not know, and for options of
    another type or size than a small model has.
    """
    if not isinstance(spec, dict) or not isinstance(spec.get("schedule", {}), dict):
        raise ValueError(f"specification {spec!r:.200}: expected an object with network and config")
    if spec.keys() - {"network", "config", "kind", "schedule"}:
        raise ValueError(f"specification of {', '.join(spec):.200}: expected network, config, kind and schedule")
    with torch.device(device):
        net = _make("network", _NETWORKS, spec.get("network"), spec.get("config"))
    if "kind" not in spec:
        return net
    if not getattr(net, "time", False):
        raise ValueError(f"kind {spec['kind']!r:.200} of a network without time: expected one that takes the time")
    options = dict(spec.get("schedule", {}))
    return Denoiser(net, spec["kind"], _make("schedule", _SCHEDULES, options.pop("name", None), options))


def _make(what: str, known: dict[str, Callable], name: object, options: object) -> object:
    """``known[name](**options)``, whatever JSON ``name`` and ``options`` are."""
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{what} {name!r:.200}: expected one of {', '.join(known)}")
    if not isinstance(options, dict):
        raise ValueError(f"options {options!r:.200} of {name}: expected an object, such as {{}}")
    for key, value in options.items():
        if key not in signature(known[name]).parameters:
            raise ValueError(f"option {key!r:.200} of {name}: this version does not know it")
        default = signature(known[name]).parameters[key].default  # its type is that of the option
        several = isinstance(default, tuple)
        kind = int if several else type(default)
        least, most = _BOUNDS.get(key, (1, 2048)) if kind is int else (0, 1)
        numbers = value if isinstance(value, (list, tuple)) else [value]
        right = (numbers is value) == several and len(numbers) <= 8
        if not right or not all(
            type(n) in ((int, float) if kind is float else (kind,)) and least <= n <= most for n in numbers
        ):
            form = f"up to 8 of {kind.__name__}" if several else kind.__name__
            raise ValueError(f"{key} = {value!r:.200} of {name}: expected {form} from {least} to {most}")
    return known[name](**options)


def save(model: nn.Module, path: str | Path, card: dict, dtype: torch.dtype = torch.float16) -> None:
    """Write the weights of ``model`` to ``path``, in ``dtype``, with the card in the header.

    ``card["spec"]`` must build a model with these very weights. Raises ValueError when it does not, for weights that
    are not finite in ``dtype``, and for a path that does not end in .safetensors.
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"{path}: expected a path that ends in .safetensors")
    state = model.state_dict()
    if _shapes(state) != _shapes(build(card["spec"], "meta").state_dict()):
        raise ValueError(f"the specification {card['spec']} builds another network than the model to be saved")
    tensors = {k: (v.to(dtype) if v.is_floating_point() else v).contiguous() for k, v in state.items()}
    _check_finite(tensors)
    partial = Path(path).with_suffix(".part")  # a crash while writing leaves the last whole file
    safetensors.torch.save_file(tensors, partial, {"card": json.dumps(card)})
    os.replace(partial, path)


def card(name: str | Path) -> dict:
    """The card of a shipped model, or of the file at a path: a dictionary with at least "spec".

    Raises ValueError, which names the file, for whatever ``load`` refuses before it reads the weights.
    """
    with _open(name) as (found, _, _):
        return found


def draw(card: dict) -> dict:
    """How the model of a card is best drawn: what it names of sampler, steps, gamma and interval; {} if nothing.

    ``sampler`` is a name in ``samplers.SAMPLERS``, ``steps`` 1 to 2048, ``gamma`` -100 to 100, ``interval`` two times
    0 <= low <= high <= 1. Raises ValueError for anything else.
    """
    found = card.get("draw", {})
    right = {
        "sampler": lambda name: isinstance(name, str) and name in SAMPLERS,
        "steps": lambda n: type(n) is int and 1 <= n <= 2048,
        "gamma": lambda n: type(n) in (int, float) and -100 <= n <= 100,
        "interval": lambda n: (
            isinstance(n, list) and len(n) == 2 and all(type(t) in (int, float) for t in n) and 0 <= n[0] <= n[1] <= 1
        ),
    }
    if not isinstance(found, dict) or not all(key in right and right[key](value) for key, value in found.items()):
        raise ValueError(f"draw {found!r:.200}: expected an object of sampler, steps, gamma and interval")
    return found


def load(name: str | Path, device: torch.device | str = "cpu") -> nn.Module:
    """A trained model by name, or from a path, in float32, eval mode and frozen, on ``device``.

    ``requires_grad_(True)`` lets it be trained further; its ``name`` is the one on the card, or that of the file; its
    ``draw`` is what the function of this name reads on the card. The random state is left alone.

    Raises ValueError, which names the file, for a name that is not known and for any file that is not a whole model:
    truncated, without a card, with a card that this version cannot build, with weights of other names, shapes or types
    than the network on the card, or with a weight that is not finite. A file is not trusted: no code in it is run, and
    shapes are compared before anything is allocated, so that memory and time are bounded by its length.
    """
    with _open(name) as (found, model, file):
        model.to_empty(device="cpu").load_state_dict({key: file.get_tensor(key) for key in model.state_dict()})
        _check_finite(model.state_dict())  # in float32, which a weight stored in float64 may be beyond
    model.name, model.draw = str(found.get("name", Path(name).stem)), draw(found)
    return model.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


@contextmanager
def _open(name: str | Path) -> Iterator[tuple[dict, nn.Module, safe_open]]:
    """The card of a file, its model without numbers, and the file; an error in the block names the file."""
    path = Path(name)
    if path.suffix != ".safetensors":
        path = SHIPPED / f"{name}.safetensors"
        if not path.exists():
            raise ValueError(f"model {str(name)!r}: expected one of {', '.join(names())}, or a .safetensors file")
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected a .safetensors file")
    try:
        with safe_open(path, "pt") as file:
            found = _read_card(file.metadata() or {})
            model = build(found["spec"], "meta")
            draw(found)  # refused here, where the error names the file
            expected, stored = _shapes(model.state_dict()), _stored(file)
            if stored != expected:
                key = min(k for k in {**stored, **expected} if stored.get(k) != expected.get(k))
                other = f"{key}: {stored.get(key)}, expected {expected.get(key)}"
                raise ValueError(f"these are weights of another network than its card says ({other:.200})")
            yield found, model, file
    except SafetensorError as error:
        raise ValueError(f"{path}: truncated or not a safetensors file ({error})") from None
    except (ValueError, RecursionError) as error:  # JSON may be nested deeper than Python goes
        raise ValueError(f"{path}: {error}") from None


def _read_card(metadata: dict[str, str]) -> dict:
    if "card" not in metadata:
        raise ValueError("has no card; expected a file that diffusion_helpers.weights.save wrote")
    try:
        found = json.loads(metadata["card"])
    except ValueError as error:
        raise ValueError(f"the card is not JSON ({error})") from None
    if not isinstance(found, dict) or "spec" not in found:
        raise ValueError(f"the card is {found!r:.200}: expected an object with the key spec")
    return found


def _shapes(tensors: dict[str, torch.Tensor]) -> dict[str, tuple]:
    """Shape and type of each tensor by name, as ``_stored`` says them: weights may be stored in any type of floats."""
    return {k: (tuple(v.shape), "float" if v.is_floating_point() else "I64") for k, v in tensors.items()}


def _stored(file: safe_open) -> dict[str, tuple]:
    parts = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118, no dict
    types = {"F64": "float", "F32": "float", "F16": "float", "BF16": "float"}
    return {k: (tuple(v.get_shape()), types.get(v.get_dtype(), v.get_dtype())) for k, v in parts.items()}


def _check_finite(tensors: dict[str, torch.Tensor]) -> None:
    bad = [key for key, value in tensors.items() if not bool(value.isfinite().all())]
    if bad:
        raise ValueError(f"{', '.join(bad):.200}: expected finite weights")
