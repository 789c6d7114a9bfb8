"""Models of diffusers as denoisers of ours: the same pictures as by its own schedulers. Small random ones, offline."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from diffusion_helpers import edits, samplers, weights
from diffusion_helpers.lessons import plots
from diffusion_helpers.samplers import ddim, ddpm, dpmpp_2m, sample
from diffusion_helpers.words import pretrained

diffusers = pytest.importorskip("diffusers", reason="the adapter needs it: pip install diffusers")
CAPTIONS = ["a red bird", "a blue house", ""]


def latent_unet(**more):
    """Small, in the manner of Stable Diffusion: it answers with as many channels as it is given."""
    return diffusers.UNet2DConditionModel(
        **{"sample_size": 8, "in_channels": 4, "out_channels": 4, "cross_attention_dim": 16},
        **{"layers_per_block": 1, "block_out_channels": (32, 32), "attention_head_dim": 8, "norm_num_groups": 8},
        **{"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")},
        **{"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")} | more,
    )


def pixel_unet():
    """Small, in the manner of IF: twice the channels, the second half a variance, and the embeddings pooled."""
    return diffusers.UNet2DConditionModel(
        **{"sample_size": 16, "in_channels": 3, "out_channels": 6, "cross_attention_dim": 32, "encoder_hid_dim": 16},
        **{"layers_per_block": 1, "block_out_channels": (32, 64), "attention_head_dim": 8, "act_fn": "gelu"},
        **{"addition_embed_type": "text", "addition_embed_type_num_heads": 2, "cross_attention_norm": "group_norm"},
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        resnet_time_scale_shift="scale_shift",
    )


def small_vae():
    return diffusers.AutoencoderKL(
        latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4, sample_size=16, scaling_factor=0.5,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()  # fmt: skip


def artist_of(make, seed=0, **scheduler):
    """A random U-Net with embeddings at random; its last layer is large enough that captions matter."""
    torch.manual_seed(seed)
    unet = make().eval()
    embeddings = {caption: torch.randn(7, 16) for caption in CAPTIONS}
    options = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    return pretrained.adapted(unet, diffusers.DDPMScheduler(**options | scheduler), embeddings)


def theirs(kind, artist, x, captions, gamma, steps, generator=None, **options):
    """The loop of a diffusers pipeline: its scheduler, its U-Net, guidance on the noise; also the levels it visits."""
    unet, T = artist.model.net.unet, artist.model.schedule.T
    betas = {"trained_betas": diffusers.DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).betas.numpy()}  # fmt: skip
    scheduler = kind(**betas, timestep_spacing="trailing", clip_sample=False, **options)
    scheduler.set_timesteps(steps)
    given = artist.prompted(captions).weights
    empty = artist.prompted([""] * len(x)).weights
    with torch.no_grad():
        for t in scheduler.timesteps:
            c, u = (unet(x, t, encoder_hidden_states=y).sample[:, : x.shape[1]] for y in (given, empty))
            drawn = {} if generator is None else {"generator": generator}
            x = scheduler.step(u + gamma * (c - u), t, x, **drawn).prev_sample
    return x, [artist.model.schedule(t / T) for t in [*(scheduler.timesteps + 1).tolist(), 0]]


@pytest.mark.parametrize("make", [latent_unet, pixel_unet])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [1.0, 5.0], ids=["alone", "guided"])
def test_ddim_and_the_ancestral_loop_are_those_of_diffusers(make, prediction, gamma):
    artist = artist_of(make, prediction_type=prediction)
    captions = CAPTIONS[:2]
    denoise = edits.guide(artist.prompted(captions), artist.prompted([""] * 2), gamma)
    start = artist.noise(2, seed=3)
    options = {"prediction_type": prediction}
    expected, levels = theirs(
        diffusers.DDIMScheduler, artist, start, captions, gamma, 8, set_alpha_to_one=True, **options
    )
    *_, last = sample(denoise, start, levels, ddim)
    assert torch.allclose(last.x, expected, rtol=1e-4, atol=1e-4)

    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    options |= {"variance_type": "fixed_small"}
    expected, levels = theirs(diffusers.DDPMScheduler, artist, start, captions, gamma, 8, generators[0], **options)
    *_, last = sample(denoise, start, levels, partial(ddpm, generator=generators[1]))
    assert torch.allclose(last.x, expected, rtol=1e-4, atol=1e-4)


def test_captions_change_the_picture_and_each_row_has_its_own():
    artist = artist_of(pixel_unet)
    x, level = artist.noise(2, seed=0), artist.model.schedule(0.5)
    both = artist.prompted(CAPTIONS[:2])(x, level).x0
    assert not torch.allclose(both, artist.prompted(CAPTIONS[1::-1])(x, level).x0, atol=1e-4)
    for i in range(2):
        alone = artist.prompted([CAPTIONS[i]])(x[i : i + 1], level).x0
        assert torch.allclose(alone, both[i : i + 1], atol=1e-5)


def test_the_variance_channels_are_not_the_answer():
    artist = artist_of(pixel_unet)
    x, level = artist.noise(1, seed=0), artist.model.schedule(0.5)
    with torch.no_grad():
        raw = artist.model.net.unet(x, 499, encoder_hidden_states=artist.prompted([""]).weights).sample
    assert raw.shape[1] == 6
    assert torch.allclose(artist.prompted([""])(x, level).eps, raw[:, :3], atol=1e-5)


def test_the_path_is_that_of_the_scheduler_with_one_entry_for_clean_data():
    artist = artist_of(latent_unet)
    scheduler = diffusers.DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    schedule = artist.model.schedule
    ours = torch.stack([schedule(i / 1000).alpha ** 2 for i in range(1, 1001)])
    assert torch.allclose(ours.float(), scheduler.alphas_cumprod, rtol=1e-4)
    assert schedule(0).alpha == 1


@pytest.mark.parametrize("step", [ddim, dpmpp_2m, partial(ddpm, generator=torch.Generator().manual_seed(0))])
def test_every_edit_runs_unchanged(step):
    artist = artist_of(pixel_unet)
    levels, x = artist.model.schedule.grid(4), artist.noise(2, seed=0)
    bird, house, empty = (artist.prompted([caption] * 2) for caption in CAPTIONS)
    told = edits.guide(bird, empty, 3.0)
    known, mask = torch.rand_like(x), torch.zeros(1, 1, 16, 16)
    mask[..., 8:] = 1
    denoisers = {
        "clip": edits.clip(told),
        "inpaint": edits.inpaint(told, known, mask),
        "anagram": edits.anagram([bird, house], [edits.UPRIGHT, edits.HALF_TURN]),
        "hybrid": edits.hybrid(bird, house, sigma=1.0),
        "interval": edits.during(told, bird, 0.2, 0.8),
        "negative": edits.guide(bird, house, 2.0),
        "upscale": edits.upscale(told, torch.zeros(2, 3, 4, 4), 4),
    }
    found = {}
    for name, denoise in denoisers.items():
        *_, last = sample(denoise, x, levels, step)
        found[name] = last.x
        assert last.x.isfinite().all(), name
    assert torch.equal(found["inpaint"][..., :8], known[..., :8])
    start, below = edits.sdedit(known, levels, 0.5, x)
    *_, last = sample(told, start, below, step)
    assert last.x.isfinite().all()


def test_encode_and_decode_scale_as_the_autoencoder_was_trained():
    torch.manual_seed(0)
    vae = small_vae()
    artist = pretrained.adapted(latent_unet().eval(), diffusers.DDPMScheduler(), {"": torch.randn(7, 16)}, vae)
    images = 2 * torch.rand(2, 3, 16, 16) - 1
    latents = artist.encode(images)
    assert latents.shape == (2, 4, 8, 8) == artist.noise(2, seed=0).shape
    with torch.no_grad():
        assert torch.allclose(latents, 0.5 * vae.encode(images).latent_dist.mean)
        expected = vae.decode(latents / 0.5).sample.clamp(-1, 1)
    assert torch.allclose(artist.decode(latents), expected, atol=1e-5)
    assert artist.encode(torch.zeros(1, 3, 40, 40)).shape == (1, 4, 8, 8)  # any size


def test_our_own_model_is_an_artist_too():
    model = weights.load("captions")
    artist = pretrained.own(model)
    assert artist.noise(2, seed=0).shape == (2, 3, 32, 32)
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(artist.encode(images), images) and torch.equal(artist.decode(images), images)
    assert artist.prompted(["a red seven"]).weights.shape[0] == 1
    with pytest.raises(ValueError, match="expected a model that reads them"):
        pretrained.own(weights.load("mnist-ddpm"))


@pytest.mark.parametrize("make, with_vae", [(pixel_unet, False), (latent_unet, True)], ids=["pixels", "latents"])
def test_the_cell_of_the_lesson_runs_on_another_model(make, with_vae):
    torch.manual_seed(0)
    embeddings = {caption: torch.randn(7, 16) for caption in CAPTIONS}
    artist = pretrained.adapted(make().eval(), diffusers.DDPMScheduler(), embeddings, small_vae() if with_vae else None)
    lesson = json.loads((Path(__file__).parents[1] / "notebooks/10_words.ipynb").read_text(encoding="utf-8"))
    cell = next("".join(cell["source"]) for cell in lesson["cells"] if cell["id"] == "tour")
    names = {"torch": torch, "edits": edits, "samplers": samplers, "plots": plots, "artist": artist}
    names |= {"first": CAPTIONS[0], "second": CAPTIONS[1], "gamma": 3.0}
    exec(cell, names)
    assert len(names["pictures"]) == 10
    for name, images in names["pictures"].items():
        assert images.shape == (4, 3, 16, 16) and images.isfinite().all() and images.abs().max() <= 1, name


def small_pipeline(folder):
    """A whole random pipeline of Stable Diffusion's kind, its words one letter a token, written to ``folder``."""
    transformers = pytest.importorskip("transformers", reason="whole pipelines need it: pip install transformers")
    letters = [chr(c) for c in (*range(33, 127), *range(161, 173), *range(174, 324))]  # what CLIP calls the 256 bytes
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    reader = transformers.CLIPTokenizer.from_pretrained(folder)
    reader.model_max_length = 77
    begin, end = len(words) - 2, len(words) - 1
    config = transformers.CLIPTextConfig(
        **{"vocab_size": len(words), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2},
        **{"num_attention_heads": 2, "bos_token_id": begin, "eos_token_id": end, "pad_token_id": end},
    )
    pipeline = diffusers.StableDiffusionPipeline(
        **{"vae": small_vae(), "unet": latent_unet().eval(), "tokenizer": reader},
        text_encoder=transformers.CLIPTextModel(config).eval(),
        scheduler=diffusers.PNDMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, skip_prk_steps=True, steps_offset=1
        ),
        **{"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder / "small")
    return pipeline, folder / "small"


def test_a_pipeline_from_a_folder_draws_what_diffusers_draws_with_it(tmp_path):
    torch.manual_seed(0)
    pipeline, folder = small_pipeline(tmp_path)
    artist = pretrained.load(str(folder), ["a red bird", ""], device="cpu", dtype=torch.float32)
    noise = artist.noise(2, seed=0)
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True, clip_sample=False, steps_offset=0
    )
    expected = pipeline(
        ["a red bird"] * 2, num_inference_steps=8, guidance_scale=7.5, latents=noise, output_type="pt"
    ).images
    told = edits.guide(artist.prompted(["a red bird"] * 2), artist.prompted([""] * 2), 7.5)
    *_, last = sample(told, noise, artist.model.schedule.grid(8))
    assert torch.allclose((artist.decode(last.x) + 1) / 2, expected, atol=1e-4)


# Bad input


def test_a_caption_that_was_not_encoded_is_answered_with_those_that_were():
    with pytest.raises(ValueError, match="'a green bird'.*'a red bird', 'a blue house', ''"):
        artist_of(latent_unet).prompted(["a green bird"])


@pytest.mark.parametrize(
    "parts, named",
    [
        ({"scheduler": diffusers.FlowMatchEulerDiscreteScheduler()}, "FlowMatchEulerDiscreteScheduler.*betas"),
        ({"scheduler": diffusers.DDIMScheduler(prediction_type="flow")}, "prediction_type 'flow'.*epsilon"),
        (
            {"unet": partial(latent_unet, addition_embed_type="text_time", addition_time_embed_dim=8,
                             projection_class_embeddings_input_dim=64)},
            "text_time",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_adapted_says_so(parts, named):
    unet = parts.get("unet", latent_unet)()
    with pytest.raises(ValueError, match=named):
        pretrained.adapted(unet, parts.get("scheduler", diffusers.DDPMScheduler()), {})


def hub_error(name):
    """An error of the hub's client, which wants the answer of a server."""
    from huggingface_hub import errors

    return getattr(errors, name).__new__(getattr(errors, name), "no")


@pytest.mark.parametrize(
    "error, kind, named",
    [
        (lambda: hub_error("GatedRepoError"), PermissionError, "accepted its licence.*login.*stable-diffusion"),
        (lambda: hub_error("RepositoryNotFoundError"), FileNotFoundError, "not on the Hugging Face Hub"),
        (lambda: OSError("connection refused"), OSError, "is there a network.*connection refused"),
        (lambda: torch.OutOfMemoryError("CUDA out of memory"), MemoryError, "not enough memory.*stable-diffusion"),
    ],
    ids=["gated", "unknown", "refused", "memory"],
)
def test_what_goes_wrong_on_the_way_says_what_to_do(monkeypatch, error, kind, named):
    def fails(*_, **__):
        try:
            raise error()
        except OSError as cause:  # as diffusers does, whose own words hide what it was
            raise OSError(f"in other words: {cause}") from cause

    monkeypatch.setitem(sys.modules, "transformers", object())
    monkeypatch.setattr(diffusers.DiffusionPipeline, "load_config", fails)
    with pytest.raises(kind, match=f"DeepFloyd.*{named}"):
        pretrained.load("DeepFloyd/IF-I-M-v1.0", [""], device="cpu")


def test_without_transformers_the_answer_is_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not there
    with pytest.raises(ModuleNotFoundError, match="pip install diffusers transformers"):
        pretrained.load("stable-diffusion-v1-5/stable-diffusion-v1-5", [""], device="cpu")


def test_the_package_imports_neither_diffusers_nor_transformers():
    import subprocess

    code = "import sys, diffusion_helpers.words.pretrained; print({'diffusers', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
