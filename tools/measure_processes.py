"""Images a second in one process with two threads and in two with one thread each: ``python tools/measure_processes.py``.

Both train ``mnist-guided-residual`` on the CPU for so many seconds, with batches of 128 and the 5,000 digits that come
with the package, one after the other and by turns. Prints a line for each run, and the mean of each kind.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from diffusion_helpers import train, weights
from diffusion_helpers.bench import launch, recipes, speedrun


def trained(seconds: float) -> None:
    """Print the images a second of this process and those beside it; the first ten steps are not counted."""
    from accelerate import Accelerator

    engine = Accelerator(cpu=True)
    torch.manual_seed(0)
    recipe, digits = recipes.RECIPES["mnist-guided-residual"], speedrun.sample()
    model = weights.build(recipe.spec)
    options = {
        "batch": 128,
        "lr": 2e-3,
        "seconds": seconds,
        "optimizer": train.Muon,
        "accelerator": engine,
        "bar": False,
    }
    steps = list(train.fit(model, recipe.objective(model), (digits.images, digits.labels), **options))
    if launch.first(engine):
        print(128 * (len(steps) - 10) / (steps[-1].seconds - steps[9].seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=40.0, help="of each run (default: %(default)g)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # what the rounds start
    chosen = parser.parse_args()
    if chosen.one:
        trained(chosen.seconds)
        return
    own = [str(Path(__file__)), "--one", "--seconds", str(chosen.seconds)]
    kinds = {
        "one process, two threads": [],
        "two processes, a thread each": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    }
    found = {kind: [] for kind in kinds}
    for _ in range(chosen.rounds):
        for kind, launcher in kinds.items():
            threads = {"OMP_NUM_THREADS": "1" if launcher else "2"}
            done = subprocess.run(
                [sys.executable, *launcher, *own], capture_output=True, text=True, env=os.environ | threads
            )
            if done.returncode:
                sys.exit(done.stderr)
            found[kind].append(float(done.stdout.split()[-1]))
            print(f"{kind}: {found[kind][-1]:.0f} images a second", flush=True)
    for kind, rates in found.items():
        print(f"{kind}: mean {statistics.fmean(rates):.0f}")


if __name__ == "__main__":
    main()
