"""Sliders, a drawing pad, and the explorers of the lessons."""

from .controls import Canvas, Explorer, Flipbook, Pad, digit, mask, packed, unpacked
from .explorers import (
    SOLVERS,
    denoise_explorer,
    denoise_frame,
    drawing_explorer,
    drawing_frame,
    edit_explorer,
    edit_frame,
    evaluation_explorer,
    evaluation_frame,
    fill_explorer,
    fill_frame,
    forward_explorer,
    forward_frame,
    guidance_explorer,
    guidance_frame,
    sampler_explorer,
    sampler_frame,
    scrub_frame,
    scrubber,
)
from .toy import toy_explorer, toy_frame
from .words import prompt_explorer, prompt_frame
