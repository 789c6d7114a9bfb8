"""The two networks of the series: the course U-Net and a residual U-Net.

``CourseUNet`` is the network of the public Berkeley CS180 project 5 handout, block for block.
``ResidualUNet`` is what the field has used since: residual blocks, scale-shift conditioning,
attention at the lowest resolution, outputs that start at zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .denoise import label_weights


def _check_shape(x: Tensor, shape: tuple[int, int, int]) -> None:
    if x.ndim != 4 or x.shape[1:] != shape:
        raise ValueError(f"images of shape {tuple(x.shape)}: expected (B, {', '.join(map(str, shape))})")


def check_multiple(x: Tensor, channels: int, multiple: int) -> None:
    """Raise ValueError for images that are not (B, channels, H, W) with H and W multiples of ``multiple``."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"images of shape {tuple(x.shape)}: expected (B, {channels}, H, W)")
    if x.shape[2] % multiple or x.shape[3] % multiple:
        raise ValueError(f"images of {x.shape[2]}x{x.shape[3]} pixels: expected multiples of {multiple}")


def _check_conditions(x: Tensor, t: Tensor | None, y: Tensor | None, time: bool, classes: int) -> None:
    if (t is not None) != time:
        raise ValueError(
            f"times were {'' if t is not None else 'not '}given to a network that takes {'them' if time else 'none'}"
        )
    if t is not None and t.shape != (len(x),):
        raise ValueError(f"times of shape {tuple(t.shape)}: expected ({len(x)},), one per image")
    if (y is not None) != bool(classes):
        raise ValueError(f"labels were {'' if y is not None else 'not '}given to a network of {classes} classes")
    if y is not None and len(y) != len(x):
        raise ValueError(f"{len(y)} labels for {len(x)} images: expected one each")


class Conv(nn.Sequential):
    """3x3 convolution, BatchNorm, GELU: (B, C, H, W) to (B, D, H, W), or half the size at stride 2."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1):
        super().__init__(nn.Conv2d(c_in, c_out, 3, stride, 1), nn.BatchNorm2d(c_out), nn.GELU())


class ConvBlock(nn.Sequential):
    """Two ``Conv``: (B, C, H, W) to (B, D, H, W)."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__(Conv(c_in, c_out), Conv(c_out, c_out))


class DownBlock(nn.Sequential):
    """Halve the size, then a ``ConvBlock``: (B, C, H, W) to (B, D, H/2, W/2)."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__(Conv(c_in, c_out, stride=2), ConvBlock(c_out, c_out))


class UpBlock(nn.Sequential):
    """Double the size, then a ``ConvBlock``: (B, C, H, W) to (B, D, 2H, 2W)."""

    def __init__(self, c_in: int, c_out: int):
        up = [nn.ConvTranspose2d(c_in, c_out, 4, 2, 1), nn.BatchNorm2d(c_out), nn.GELU()]
        super().__init__(*up, ConvBlock(c_out, c_out))


class FCBlock(nn.Sequential):
    """Linear, GELU, Linear: a condition (B, F) to one number per channel, (B, D, 1, 1)."""

    def __init__(self, f_in: int, c_out: int):
        super().__init__(nn.Linear(f_in, c_out), nn.GELU(), nn.Linear(c_out, c_out), nn.Unflatten(1, (c_out, 1, 1)))


class CourseUNet(nn.Module):
    """The course network for 28x28 images with ``D`` hidden channels and no attention.

    Plain, it is the one-step denoiser: ``net(z)``. With ``time`` it also takes t, (B,) in [0, 1];
    with ``classes`` also y, labels or label weights (see ``label_weights``). Conditions act on two
    feature maps h as ``c * h + t``. Parameters: D=128 7,891,073; D=64 with time 1,996,417; D=64 with
    time and ten classes 2,019,201. Raises ValueError for images that are not (B, channels, 28, 28) and for
    conditions that do not match.
    Source: Berkeley CS180, project 5 part B: figures 1 and 2, and the sections on conditioning.
    """

    def __init__(self, D: int = 128, time: bool = False, classes: int = 0, channels: int = 1):
        super().__init__()
        self.time, self.classes, self.channels = time, classes, channels
        self.first = ConvBlock(channels, D)
        self.down1 = DownBlock(D, D)
        self.down2 = DownBlock(D, 2 * D)
        self.flatten = nn.Sequential(nn.AvgPool2d(7), nn.GELU())
        self.unflatten = nn.Sequential(nn.ConvTranspose2d(2 * D, 2 * D, 7, 7), nn.BatchNorm2d(2 * D), nn.GELU())
        self.up1 = UpBlock(4 * D, D)
        self.up2 = UpBlock(2 * D, D)
        self.last = nn.Sequential(ConvBlock(2 * D, D), nn.Conv2d(D, channels, 3, 1, 1))
        self.t1, self.t2 = (FCBlock(1, 2 * D), FCBlock(1, D)) if time else (None, None)
        self.c1, self.c2 = (FCBlock(classes, 2 * D), FCBlock(classes, D)) if classes else (None, None)

    def forward(self, x: Tensor, t: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        _check_shape(x, (self.channels, 28, 28))
        _check_conditions(x, t, y, self.time, self.classes)
        t = None if t is None else t[:, None]  # (B, 1)
        y = None if y is None else label_weights(y, self.classes).to(x.dtype)  # (B, classes)
        first = self.first(x)  # (B, D, 28, 28)
        down1 = self.down1(first)  # (B, D, 14, 14)
        down2 = self.down2(down1)  # (B, 2D, 7, 7)
        h = self.unflatten(self.flatten(down2))  # (B, 2D, 1, 1), then (B, 2D, 7, 7)
        h = self._condition(h, self.t1, t, self.c1, y)
        h = self.up1(torch.cat([h, down2], 1))  # (B, D, 14, 14)
        h = self._condition(h, self.t2, t, self.c2, y)
        h = self.up2(torch.cat([h, down1], 1))  # (B, D, 28, 28)
        return self.last(torch.cat([h, first], 1))  # (B, channels, 28, 28)

    @staticmethod
    def _condition(h: Tensor, t_block: FCBlock | None, t: Tensor | None, c_block: FCBlock | None, y: Tensor | None):
        h = h if y is None else c_block(y) * h
        return h if t is None else h + t_block(t)


def time_features(t: Tensor, width: int) -> Tensor:
    """Sines and cosines of t in [0, 1] at ``width // 2`` frequencies each: (B,) to (B, width).

    Source: Ho et al. 2020, appendix B, with t scaled to 0 ... 1000.
    """
    frequencies = torch.exp(torch.linspace(0, -math.log(10_000), width // 2, device=t.device))
    angles = 1000 * t[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


def zero(layer: nn.Module) -> nn.Module:
    """``layer`` with weights and biases of 0: what is added to a residual path starts as nothing."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """h + two convolutions of h, the condition scaling and shifting the second norm: (B, C, H, W) to (B, D, H, W).

    The last convolution starts at zero, so that a fresh block is the identity (or a projection).
    Source: Dhariwal and Nichol 2021 (arXiv:2105.05233), adaptive group normalisation, section 3.
    """

    def __init__(self, c_in: int, c_out: int, embedding: int, dropout: float):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.condition = nn.Linear(embedding, 2 * c_out)
        self.norm2, self.conv2 = nn.GroupNorm(8, c_out), zero(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.condition(embedding)[:, :, None, None].chunk(2, 1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = F.silu(self.norm2(h) * (1 + scale) + shift)
        return self.skip(x) + self.conv2(self.dropout(h))


class Attention(nn.Module):
    """h + self-attention between the pixels of h: (B, C, H, W) to the same, zero at the start.

    Source: Vaswani et al. 2017 (arXiv:1706.03762), over pixels as in Ho et al. 2020, appendix B.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels for {heads} attention heads: expected a multiple")
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        qkv = self.qkv(self.norm(x)).reshape(B, 3, self.heads, C // self.heads, H * W)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # each (B, heads, H * W, C / heads)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(h.transpose(-1, -2).reshape(B, C, H, W))


def heads_of(channels: int) -> int:
    """Into how many heads attention deals its channels: about 32 each."""
    return next(n for n in range(max(1, channels // 32), 0, -1) if channels % n == 0)


class Stage(nn.Sequential):
    """A residual block, which sees the condition, then attention or nothing: (B, C, H, W) to (B, D, H, W)."""

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        block, attend = self
        return attend(block(h, embedding))


class ResidualUNet(nn.Module):
    """A residual U-Net over time, and over ``classes`` if any: (B, C, H, W) to the same.

    ``widths`` gives the channels of each level, each half the size of the one before; ``blocks``
    residual blocks stand at each level on the way down, one more on the way up; ``attention`` lists
    the levels that attend; ``patch`` = 2 folds 2x2 pixels into channels first (pixel-unshuffle),
    which quarters the work. t is (B,) in [0, 1]; y is labels or label weights (see ``label_weights``).
    Raises ValueError for widths that are not multiples of 8, levels of ``attention`` that do not exist, images of
    other channels or sizes, and conditions that do not match.
    Sources: Ho et al. 2020, appendix B; Dhariwal and Nichol 2021, section 3.
    """

    time = True

    def __init__(
        self,
        widths: tuple[int, ...] = (64, 128),
        blocks: int = 1,
        attention: tuple[int, ...] = (1,),
        patch: int = 2,
        classes: int = 0,
        channels: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        if not widths or any(width % 8 for width in widths):
            raise ValueError(f"widths = {tuple(widths)}: expected multiples of 8, the number of groups of each norm")
        if any(i not in range(len(widths)) for i in attention):
            raise ValueError(f"attention = {tuple(attention)}: expected some of the levels 0 to {len(widths) - 1}")
        self.classes, self.channels = classes, channels
        self.multiple = patch * 2 ** (len(widths) - 1)
        self.width, E = widths[0], 4 * widths[0]
        self.attention, self.dropout = tuple(attention), dropout
        self.embed_t = nn.Sequential(nn.Linear(self.width, E), nn.SiLU(), nn.Linear(E, E))
        self.embed_y = nn.Linear(classes, E, bias=False) if classes else None

        self.stem = nn.Sequential(nn.PixelUnshuffle(patch), nn.Conv2d(channels * patch**2, self.width, 3, padding=1))
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        h, skips = self.width, [self.width]
        for i, width in enumerate(widths):
            if i > 0:
                self.down.append(nn.Conv2d(h, h, 3, stride=2, padding=1))
                skips.append(h)
            for _ in range(blocks):
                self.down.append(self.stage(h, width, i))
                h = width
                skips.append(h)
        self.middle = self.stage(h, h, len(widths) - 1)
        for i, width in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(self.stage(h + skips.pop(), width, i))
                h = width
            if i > 0:
                self.up.append(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(h, h, 3, padding=1)))
        out = zero(nn.Conv2d(h, channels * patch**2, 3, padding=1))
        self.last = nn.Sequential(nn.GroupNorm(8, h), nn.SiLU(), out, nn.PixelShuffle(patch))

    def stage(self, c_in: int, c_out: int, level: int) -> Stage:
        """One of the parts at a level."""
        attend = Attention(c_out, heads_of(c_out)) if level in self.attention else nn.Identity()
        return Stage(ResidualBlock(c_in, c_out, 4 * self.width, self.dropout), attend)

    def forward(self, x: Tensor, t: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        check_multiple(x, self.channels, self.multiple)
        _check_conditions(x, t, y, self.time, self.classes)
        embedding = self.embed_t(time_features(t, self.width))  # (B, E)
        if y is not None:
            embedding = embedding + self.embed_y(label_weights(y, self.classes).to(x.dtype))
        return self.walk(x, F.silu(embedding))

    def walk(self, x: Tensor, condition: Tensor) -> Tensor:
        """Down, through the middle and up again, every stage with the condition."""
        h = self.stem(x)  # (B, widths[0], H / patch, W / patch)
        skips = [h]
        for part in self.down:
            h = part(h, condition) if isinstance(part, Stage) else part(h)
            skips.append(h)
        h = self.middle(h, condition)
        for part in self.up:
            h = part(torch.cat([h, skips.pop()], 1), condition) if isinstance(part, Stage) else part(h)
        return self.last(h)  # (B, channels, H, W)


class Classifier(nn.Module):
    """A small convolutional classifier: images (B, channels, size, size) in [-1, 1] to logits (B, classes).

    ``features`` gives the 128 numbers before the last layer: the space in which the metrics compare
    sets of images. Raises ValueError for images of another shape.
    """

    def __init__(self, classes: int = 10, width: int = 32, channels: int = 1, size: int = 28):
        super().__init__()
        self.shape = (channels, size, size)
        side = math.ceil(size // 4 / 2)  # 4 of 28
        self.body = nn.Sequential(
            ConvBlock(channels, width),
            nn.MaxPool2d(2),  # (B, width, size / 2, size / 2)
            ConvBlock(width, 2 * width),
            nn.MaxPool2d(2),  # (B, 2 width, size / 4, size / 4)
            Conv(2 * width, 4 * width, stride=2),  # (B, 4 width, side, side)
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(4 * width * side**2, 128),
            nn.BatchNorm1d(128),
            nn.GELU(),
        )
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(128, classes))

    def features(self, x: Tensor) -> Tensor:
        """The 128 features of each image: (B, channels, size, size) in [-1, 1] to (B, 128)."""
        _check_shape(x, self.shape)
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))
