"""How often one image reads as two digits, upright and turned by half: ``python tools/measure_anagrams.py``.

An attempt succeeds if `mnist-classifier` reads both digits right and is at least 80% sure of both. All attempts
count. Twenty ancestral steps of `mnist-guided-residual`, seed 0. The pair (a, b) is the pair (b, a) turned round,
so each is measured once. Prints a table in Markdown.
"""

import argparse
import time

import torch

from diffusion_helpers import edits, samplers, weights


@torch.no_grad()
def success(model, classifier, first: int, second: int, gamma: float, count: int) -> float:
    """The share of ``count`` attempts at an image that is ``first`` upright and ``second`` turned."""
    asked = [edits.classifier_free(model, torch.full((count,), digit), gamma=gamma) for digit in (first, second)]
    torch.manual_seed(0)
    noise = torch.randn(count, 1, 28, 28)
    denoise = edits.anagram(asked, [edits.UPRIGHT, edits.HALF_TURN])
    *_, last = samplers.sample(denoise, noise, model.schedule.grid(20), samplers.ddpm)
    upright, turned = (classifier(view.look(last.x)).softmax(1) for view in (edits.UPRIGHT, edits.HALF_TURN))
    return ((upright[:, first] >= 0.8) & (turned[:, second] >= 0.8)).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attempts", type=int, default=32, help="for each pair (default: 32)")
    parser.add_argument("--gamma", type=float, default=4.0, help="guidance (default: 4)")
    given = parser.parse_args()
    model, classifier = weights.load("mnist-guided-residual"), weights.load("mnist-classifier")
    start = time.monotonic()
    print("| |", " | ".join(str(digit) for digit in range(10)), "|\n|---|" + "---:|" * 10)
    half = {True: 0, False: 0}  # pairs that succeed in at least half of the attempts, by whether the digits differ
    for first in range(10):
        row = [success(model, classifier, first, second, given.gamma, given.attempts) for second in range(first, 10)]
        half[False] += row[0] >= 0.5
        half[True] += sum(share >= 0.5 for share in row[1:])
        print(f"| **{first}** |" + " |" * first + " |".join(f" {share:.0%}" for share in row) + " |", flush=True)
    print(
        f"\nAt gamma {given.gamma:g}, in at least half of {given.attempts} attempts, succeed {half[True]} of the 45 pairs"
    )
    print(f"of different digits, and {half[False]} of the 10 digits paired with themselves.")
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
