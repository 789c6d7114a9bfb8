"""The runs of an experiment in one JSON file, written after each, so that a measurement that was stopped goes on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from diffusion_helpers.bench import recipes, reports


def parser(doc: str, name: str, seeds: tuple[int, ...] = (0, 1, 2)) -> argparse.ArgumentParser:
    """The options that every such measurement has; ``doc`` is its own documentation, ``name`` that of its file."""
    found = argparse.ArgumentParser(description=doc.split("\n")[0])
    found.add_argument("--seeds", type=int, nargs="+", default=[*seeds], help=f"(default: {' '.join(map(str, seeds))})")
    found.add_argument("--threads", type=int, default=1, help="of the CPU (default: %(default)s)")
    found.add_argument("--json", type=Path, default=reports.RESULTS / f"{name}.json", help="(default: %(default)s)")
    return found


class Runs:
    """What is in ``path``: the protocol, the hardware, other facts by name, and the runs so far.

    Raises ValueError for a file with runs by another protocol.
    """

    def __init__(self, path: Path, protocol: dict):
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if before.get("protocol", protocol) != protocol:
            raise ValueError(f"{path} holds runs by another protocol: delete it, or name another file")
        self.path, self.runs = path, before.get("runs", [])
        self.facts = {"protocol": protocol, "hardware": recipes.hardware(torch.device("cpu"))}

    def missing(self, **what: object) -> bool:
        """Whether no run has these values."""
        return not any(what.items() <= run.items() for run in self.runs)

    def keep(self, run: dict) -> None:
        self.runs.append(run)
        text = json.dumps(self.facts | {"runs": self.runs}, indent=1, ensure_ascii=False)
        self.path.write_text(f"{text}\n", encoding="utf-8")
