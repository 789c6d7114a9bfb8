"""A network that draws from words: an encoder of captions, and a residual U-Net that looks at them.

Attention is one formula, softmax(q k^T / sqrt(d)) v. In the encoder words ask words; in the U-Net pixels ask words,
which is cross-attention. Sources: Vaswani et al. 2017 (arXiv:1706.03762), section 3; Rombach et al. 2022
(arXiv:2112.10752), section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..denoise import Denoiser
from ..edits import Given
from ..unet import ResidualUNet, Stage, check_multiple, heads_of, time_features, zero
from .grammar import LENGTH, VOCABULARY, tokens


def heads(x: Tensor, n: int) -> Tensor:
    """The numbers of x (B, L, C) dealt out to ``n`` heads: (B, n, L, C / n)."""
    return x.unflatten(-1, (n, -1)).transpose(1, 2)


class EncoderBlock(nn.Module):
    """Words ask words, then each is worked on by itself: (B, L, E) to the same."""

    def __init__(self, width: int, n: int = 4):
        super().__init__()
        self.n = n
        self.norm1, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.alone = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, words: Tensor) -> Tensor:
        q, k, v = (heads(part, self.n) for part in self.qkv(self.norm1(words)).chunk(3, -1))
        words = words + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return words + self.alone(self.norm2(words))


class CrossAttention(nn.Module):
    """h + what its pixels find in the words: (B, C, H, W) and (B, L, E) to (B, C, H, W), zero at the start."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.n = heads_of(channels)
        self.norm, self.q = nn.GroupNorm(8, channels), nn.Conv2d(channels, channels, 1)
        self.kv, self.out = nn.Linear(width, 2 * channels), zero(nn.Conv2d(channels, channels, 1))

    def asked(self, h: Tensor, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the pixels (B, n, H * W, C / n), keys and values of the words (B, n, L, C / n)."""
        q = self.q(self.norm(h)).flatten(2).transpose(1, 2)
        k, v = self.kv(words).chunk(2, -1)
        return heads(q, self.n), heads(k, self.n), heads(v, self.n)

    def looks(self, h: Tensor, words: Tensor) -> Tensor:
        """How much each pixel looks at each word, the mean over the heads: (B, L, H, W), 1 in all at each pixel."""
        q, k, _ = self.asked(h, words)
        share = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).mean(1)  # (B, H * W, L)
        return share.mT.unflatten(-1, h.shape[-2:])

    def forward(self, h: Tensor, words: Tensor) -> Tensor:
        found = F.scaled_dot_product_attention(*self.asked(h, words)).transpose(1, 2).flatten(2)  # (B, H * W, C)
        return h + self.out(found.transpose(1, 2).unflatten(-1, h.shape[-2:]))


class CaptionStage(Stage):
    """A ``Stage`` that looks at the words in the end; the condition is an embedding and the words."""

    def forward(self, h: Tensor, condition: tuple[Tensor, Tensor]) -> Tensor:
        embedding, words = condition
        block, attend, look = self
        return look(attend(block(h, embedding)), words)


class CaptionUNet(ResidualUNet):
    """A ``ResidualUNet`` that reads captions: ``net(x, t, y)`` with y tokens (B, LENGTH), or what ``encode`` made of them.

    ``width`` numbers stand for a word, after ``layers`` blocks of the encoder; the mean over the words joins the time.
    Raises ValueError as ``ResidualUNet`` does, and for y of another shape.
    """

    length = LENGTH

    def __init__(
        self,
        widths: tuple[int, ...] = (64, 128),
        blocks: int = 1,
        attention: tuple[int, ...] = (1,),
        patch: int = 2,
        channels: int = 3,
        dropout: float = 0.0,
        width: int = 96,
        layers: int = 2,
    ):
        self.words = width  # before the stages are made
        super().__init__(widths, blocks, attention, patch, 0, channels, dropout)
        self.embed_words = nn.Embedding(len(VOCABULARY), width)
        self.place = nn.Parameter(0.02 * torch.randn(LENGTH, width))
        self.encoder = nn.Sequential(*(EncoderBlock(width) for _ in range(layers)), nn.LayerNorm(width))
        self.whole = nn.Linear(width, 4 * widths[0])

    def stage(self, c_in: int, c_out: int, level: int) -> Stage:
        return CaptionStage(*super().stage(c_in, c_out, level), CrossAttention(c_out, self.words))

    def encode(self, y: Tensor) -> Tensor:
        """The words of captions (B, LENGTH), each in the light of the others: (B, LENGTH, width)."""
        return self.encoder(self.embed_words(y) + self.place)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        check_multiple(x, self.channels, self.multiple)
        if y is None or y.shape[:2] != (len(x), LENGTH):
            found = None if y is None else tuple(y.shape)
            raise ValueError(f"captions of shape {found}: expected ({len(x)}, {LENGTH}) tokens, one row an image")
        words = y if y.is_floating_point() else self.encode(y)
        embedding = self.embed_t(time_features(t, self.width)) + self.whole(words.mean(1))
        return self.walk(x, (F.silu(embedding), words))


def prompted(model: Denoiser, captions: Sequence[str]) -> Given:
    """The denoiser that ``model`` is with these captions, one for each image, read once.

    ``guide(prompted(model, captions), prompted(model, [""] * B), gamma)`` is guidance, with other captions in place of
    the empty ones a negative prompt. Raises ValueError for a model that reads no captions, and as ``tokens`` does.
    """
    if not isinstance(model.net, CaptionUNet):
        raise ValueError(f"captions for a {type(model.net).__name__}: expected a model that reads them")
    with torch.no_grad():
        return Given(model, model.net.encode(tokens(captions).to(next(model.parameters()).device)))
