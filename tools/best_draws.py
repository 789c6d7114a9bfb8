"""Write on the card of each shipped model, under ``draw``, the setting of its stored report with the lowest FID:

    .venv/bin/python tools/best_draws.py

The weights stay as they are, byte for byte. Give it again after new reports, or after a model was trained anew.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import safetensors.torch

from diffusion_helpers import weights
from diffusion_helpers.bench import reports


def draw(report: dict) -> dict:
    """What a card says under ``draw`` for the setting of a report. Raises ValueError for a spacing, which it cannot say."""
    recipe = report["recipe"]
    if recipe["spacing"] != "uniform":
        raise ValueError(f"spacing {recipe['spacing']!r} of {recipe['model']}: expected 'uniform'")
    guided = {} if recipe["gamma"] is None else {"gamma": recipe["gamma"], "interval": recipe["interval"]}
    return {"sampler": recipe["sampler"], "steps": recipe["steps"]} | guided


def write(path: Path, chosen: dict) -> None:
    """Give the card of the model at ``path`` this ``draw``, and leave the rest of the file as it is."""
    card = weights.card(path) | {"draw": chosen}
    partial = path.with_suffix(".part")
    safetensors.torch.save_file(safetensors.torch.load_file(path), partial, {"card": json.dumps(card)})
    shutil.copymode(path, partial)
    os.replace(partial, path)


def main() -> None:
    for report in reports.best(reports.stored()):
        name, chosen = report["recipe"]["model"], draw(report)
        write(weights.SHIPPED / f"{name}.safetensors", chosen)
        print(f"{name}: {chosen}")


if __name__ == "__main__":
    main()
