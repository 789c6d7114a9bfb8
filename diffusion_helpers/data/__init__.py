"""Digits, clothes and blood cells by name, any folder of pictures, and a place to add a data set: ``SOURCES``."""

from .folder import folder_classes, from_folder, pack, packed
from .images import Images, flip, symmetric, turn, unit
from .loading import SOURCES, cache_folder, classes, load
from .sources import Source, verified

__all__ = [
    "SOURCES",
    "Images",
    "Source",
    "cache_folder",
    "classes",
    "flip",
    "folder_classes",
    "from_folder",
    "load",
    "pack",
    "packed",
    "symmetric",
    "turn",
    "unit",
    "verified",
]
