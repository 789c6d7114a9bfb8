"""What a process holds of a model of 100 million weights, whole and in shards: ``python tools/measure_sharding.py``.

A residual U-Net is trained for a few steps by AdamW in so many processes on this machine's CPU: once by data parallelism
(DistributedDataParallel), where each holds all of it, and once by torch's ``fully_shard``, where each holds its share of
every stage and gathers a stage when its turn comes. Prints the bytes of weights, gradients and moments that the first
process holds after the last step, what the formula says, the growth of its resident memory, and the losses of both.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from diffusion_helpers import data, schedules
from diffusion_helpers.bench import speedrun
from diffusion_helpers.unet import ResidualUNet, Stage

WIDTHS = (448, 896)


def held(tensors) -> int:
    """Bytes of what this process holds of them."""
    own = (getattr(tensor, "_local_tensor", tensor) for tensor in tensors)
    return sum(tensor.numel() * tensor.element_size() for tensor in own)


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def trained(shard: bool, steps: int, batch: int) -> None:
    """Print the first process's figures as JSON."""
    distributed.init_process_group("gloo")
    rank, processes = distributed.get_rank(), distributed.get_world_size()
    digits, before = speedrun.sample(), resident()
    torch.manual_seed(0)
    net = ResidualUNet(WIDTHS, classes=10)
    nn.init.normal_(net.last[2].weight, std=0.02)  # or the first step would reach the last layer alone
    total = sum(weight.numel() for weight in net.parameters())
    if shard:
        mesh = distributed.init_device_mesh("cpu", (processes,))
        for stage in [part for part in net.modules() if isinstance(part, Stage)]:
            fully_shard(stage, mesh=mesh)
        fully_shard(net, mesh=mesh)
    whole = net if shard else DistributedDataParallel(net)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-4)
    flow, losses = schedules.flow(), []
    for step in range(steps):
        torch.manual_seed(1 + step)  # the same draws in each process, of which each takes its share
        picked, t, noise = torch.randint(5000, (batch,)), torch.rand(batch), torch.randn(batch, 1, 28, 28)
        own = slice(rank, None, processes)
        x0, level = data.symmetric(digits.images[picked[own]]), flow(t[own])
        answer = whole(schedules.noise(x0, level, noise[own]), t[own], digits.labels[picked[own]])
        loss = F.mse_loss(answer, noise[own] - x0)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
        shared = loss.detach() / processes
        distributed.all_reduce(shared)
        losses.append(round(shared.item(), 5))
    weights = [weight.detach() for weight in net.parameters()]
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    found = {"weights": held(weights), "gradients": held(weight.grad for weight in net.parameters())}
    found |= {"moments": held(moments), "resident": resident() - before, "parameters": total, "losses": losses}
    if rank == 0:
        print(json.dumps(found))
    distributed.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="in all processes together (default: %(default)s)")
    parser.add_argument("--one", choices=["whole", "shards"], help=argparse.SUPPRESS)  # what the comparison starts
    chosen = parser.parse_args()
    if chosen.one:
        trained(chosen.one == "shards", chosen.steps, chosen.batch)
        return
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(chosen.processes), __file__]
    for kind, share in (("whole", 1), ("shards", chosen.processes)):
        own = ["--one", kind, "--steps", str(chosen.steps), "--batch", str(chosen.batch)]
        done = subprocess.run(
            [sys.executable, *launcher, *own], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        if done.returncode:
            sys.exit(done.stderr)
        found = json.loads(done.stdout.splitlines()[-1])
        parts = ", ".join(f"{name} {found[name] / 1e6:.0f}" for name in ("weights", "gradients", "moments"))
        says = 16 * found["parameters"] / share / 1e6
        print(f"{kind}: {found['parameters']:,} weights; MB in a process: {parts}; 16 bytes a weight say {says:.0f}")
        print(f"  resident memory grew by {found['resident'] / 1e6:.0f} MB; losses {found['losses']}", flush=True)


if __name__ == "__main__":
    main()
