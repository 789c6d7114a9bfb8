"""Pictures with captions, and the network that draws from words.

``grammar`` has the words and sentences, ``scenes`` makes captioned pictures from digits and clothes, ``network`` reads a
caption and looks at it while it denoises, ``judge`` says what is in a picture.
"""

from .grammar import tokens
from .network import CaptionUNet, prompted
from .scenes import Scenes, make

__all__ = ["CaptionUNet", "Scenes", "make", "prompted", "tokens"]
