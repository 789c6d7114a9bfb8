"""A process as ``accelerate launch`` or ``torchrun`` starts it, one of several, or as Python does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator


def accelerator() -> Accelerator | None:
    """Accelerate's engine where a launcher has started this process; None where Python has.

    Raises ValueError where accelerate is not installed.
    """
    # Of a single process accelerate says nothing but its precision.
    if not {"WORLD_SIZE", "ACCELERATE_MIXED_PRECISION"} & os.environ.keys():
        return None
    try:
        from accelerate import Accelerator
    except ImportError:
        raise ValueError("several processes need accelerate, which is not installed: pip install accelerate") from None
    return Accelerator()


def device(engine: Accelerator | None) -> torch.device:
    """That of this process: its own GPU where there are several, the GPU if there is one, or the CPU."""
    return engine.device if engine else torch.device("cuda" if torch.cuda.is_available() else "cpu")


def first(engine: Accelerator | None) -> bool:
    """Whether it is this process that speaks and writes."""
    return engine is None or engine.is_main_process
