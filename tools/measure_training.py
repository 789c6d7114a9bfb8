"""Is ``train.fit`` as fast as a plain loop? ``python tools/measure_training.py`` measures both side by side.

The course network of lesson 03 with D = 64, batches of 128, in turns of 4 steps, so that whatever else
the machine does falls on both alike. Prints images per second, the median over the turns.
"""

import statistics
import time

import torch

from diffusion_helpers import schedules, train
from diffusion_helpers.denoise import Denoiser
from diffusion_helpers.unet import CourseUNet

TURNS, STEPS, BATCH = 12, 4, 128


def main() -> None:
    torch.manual_seed(0)
    images = torch.rand(BATCH * STEPS * (TURNS + 1), 1, 28, 28) * 2 - 1
    ours, plain = (Denoiser(CourseUNet(64, time=True), "eps", schedules.linear_beta(300)) for _ in range(2))
    fitting = train.fit(ours, ours.loss, (images,), epochs=1, batch=BATCH, lr=1e-3, bar=False)
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3)
    batches = iter(images.split(BATCH))

    def helper_step() -> None:
        next(fitting)

    def plain_step() -> None:
        plain.train()
        loss = plain.loss(next(batches))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    rates = {"plain loop": [], "train.fit": []}
    for turn in range(TURNS + 1):
        for name, step in (("plain loop", plain_step), ("train.fit", helper_step)):
            start = time.perf_counter()
            for _ in range(STEPS):
                step()
            if turn > 0:  # the first turn warms up
                rates[name].append(STEPS * BATCH / (time.perf_counter() - start))
    for name, measured in rates.items():
        print(f"{name}: {statistics.median(measured):.1f} images a second")
    ratio = statistics.median(ours / theirs for theirs, ours in zip(*rates.values(), strict=True))
    print(f"train.fit / plain loop: {ratio:.3f} (median of {TURNS} turns, {torch.get_num_threads()} threads)")


if __name__ == "__main__":
    main()
