"""The lessons' kit: figures, sliders and a drawing pad, the checks of the exercises, and how long a lesson trains."""

import os


def budget() -> str:
    """How long the lessons train: "full" where there is a GPU, else "quick"; DIFFUSION_BUDGET overrules.

    Raises ValueError when DIFFUSION_BUDGET is neither.
    """
    import torch

    chosen = os.environ.get("DIFFUSION_BUDGET") or ("full" if torch.cuda.is_available() else "quick")
    if chosen not in ("quick", "full"):
        raise ValueError(f"DIFFUSION_BUDGET is {chosen!r}: expected 'quick' or 'full'")
    return chosen
