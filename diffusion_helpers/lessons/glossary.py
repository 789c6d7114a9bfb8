"""The symbols and terms of the lessons, in one place. ``tools/glossary.py`` writes ``notebooks/glossary.md`` from it."""

from typing import NamedTuple


class Term(NamedTuple):
    """A term, its symbol in LaTeX if it has one, what it means, what else it is called, and the lesson that brings it."""

    name: str
    symbol: str
    meaning: str
    elsewhere: str
    lesson: str


PATH = [
    Term(
        "clean picture",
        "x_0",
        "A picture of the data, pixels in [−1, 1]; lesson 02 alone keeps [0, 1].",
        "`x0`; flow papers often write $x_1$",
        "01",
    ),
    Term(
        "noise",
        r"\varepsilon",
        "A picture of independent draws from the normal distribution of mean 0 and variance 1.",
        "`eps`; flow papers often write $x_0$",
        "01",
    ),
    Term(
        "time",
        "t",
        "How far a picture is on its way: 0 is data, 1 is noise. Step $i$ of a table of $T$ stands for $t = i/T$.",
        "Ho et al. count 1 to T; flow papers often run from noise, 0, to data, 1",
        "01",
    ),
    Term(
        "signal scale",
        r"\alpha_t",
        "What stands in front of the clean picture at time $t$.",
        r"`level.alpha`; Ho et al. write $\sqrt{\bar\alpha_t}$, and $\alpha_t$ for $1-\beta_t$",
        "01",
    ),
    Term(
        "noise scale",
        r"\sigma_t",
        "What stands in front of the noise at time $t$.",
        r"`level.sigma`; Ho et al. write $\sqrt{1-\bar\alpha_t}$",
        "01",
    ),
    Term("level", r"(t, \alpha_t, \sigma_t)", "A time with its signal scale and its noise scale.", "`Level`", "01"),
    Term(
        "small step",
        r"\beta_i",
        "A step of the chain adds noise of this variance, and scales the picture by the root of 1 minus it.",
        "",
        "01",
    ),
    Term(
        "jump",
        r"x_t = \alpha_t x_0 + \sigma_t \varepsilon",
        "All small steps up to a time at once.",
        "`schedules.noise`; the interpolant, in flow matching",
        "01",
    ),
    Term(
        "variance preserving",
        r"\alpha_t^2 + \sigma_t^2 = 1",
        "Said of a path on which data of variance 1 keep it.",
        "VP",
        "01",
    ),
    Term(
        "schedule",
        r"t \mapsto (\alpha_t, \sigma_t)",
        "What the scales are at each time: linear β, cosine, or the straight path of flow matching.",
        "`Schedule`; path",
        "01",
    ),
    Term(
        "signal-to-noise ratio",
        r"\mathrm{SNR} = \alpha_t^2 / \sigma_t^2",
        "How strong the signal is, by the noise, both in squares.",
        "`level.snr`",
        "01",
    ),
]
LEARNING = [
    Term(
        "denoiser",
        r"\hat x_0",
        "A function of a noisy picture and its level whose answer is an estimate of the clean one.",
        "`Denoiser`, `Denoised.x0`",
        "02",
    ),
    Term(
        "PSNR",
        r"-10\log_{10}\mathrm{MSE}",
        "The mean squared error in decibels, for a peak of 1. More is better.",
        "",
        "02",
    ),
    Term(
        "conditional mean",
        r"\mathbb E[x_0 \mid x_t]",
        "The average of all clean pictures that fit a noisy one: what squared error teaches.",
        "MMSE estimate, posterior mean",
        "02",
    ),
    Term(
        "exact denoiser",
        "",
        "The conditional mean written down, for a finite set of pictures or a density that is known.",
        "ideal or optimal denoiser",
        "02",
    ),
    Term(
        "U-Net",
        "",
        "A network that looks at a picture at several sizes, down and up again.",
        "`CourseUNet`, `ResidualUNet`",
        "02",
    ),
    Term("skip connection", "", "What hands the maps of one size from the way down to the way up.", "", "02"),
    Term(
        "score",
        r"\nabla_x \log p_t(x)",
        r"The direction in which the noisy density rises fastest; it equals $-\mathbb E[\varepsilon \mid x]/\sigma_t$.",
        "",
        "03",
    ),
    Term(
        "Tweedie",
        r"\mathbb E[x_0 \mid x] = (x + \sigma_t^2 \nabla\log p_t(x)) / \alpha_t",
        "The formula that makes a denoiser of the score, and a score of a denoiser.",
        "",
        "03",
    ),
    Term(
        "residual block",
        "h + f(h, t)",
        "A block that adds a correction to what it is given; at first it adds nothing.",
        "`ResidualBlock`",
        "03",
    ),
    Term(
        "mixture",
        r"v = \alpha_t\varepsilon - \sigma_t x_0",
        "A question for the network between noise and picture, and always the harder one of the two.",
        "v-prediction",
        "03",
    ),
    Term(
        "velocity",
        r"\varepsilon - x_0",
        "How fast a picture moves on the straight path. Its mean over all that fits moves the whole density.",
        "kind `flow`",
        "04",
    ),
    Term(
        "target",
        r"\varepsilon,\ x_0,\ v,\ \varepsilon - x_0",
        "What a network is asked for. With $x_t$ and the level each of the four gives all the others.",
        "`kind`; prediction type, parametrisation",
        "08",
    ),
    Term("Muon", "", "An optimiser whose step for each weight matrix is nearly orthogonal.", "`train.Muon`", "03"),
    Term(
        "average of the weights",
        "",
        "A running mean of the weights over the last steps, which draws better than the weights themselves.",
        "EMA, `Step.model`",
        "02",
    ),
    Term(
        "bound",
        "",
        "What the loss of Ho et al. comes from: a sum of Kullback–Leibler divergences, one for each step.",
        "ELBO, variational bound",
        "03",
    ),
]
SAMPLING = [
    Term(
        "posterior",
        r"q(x_s \mid x_t, x_0)",
        r"Where an earlier state lies, if the later one and the clean picture are known: a Gaussian, of variance $\tilde\beta$ between neighbours.",
        "`samplers.posterior_std`",
        "03",
    ),
    Term(
        "ancestral",
        "",
        "Said of sampling that goes to the posterior's mean and adds fresh noise of its variance.",
        "DDPM, `samplers.ddpm`",
        "03",
    ),
    Term(
        "DDIM",
        "",
        "A step that keeps the estimated noise and adds none; on the straight path an Euler step.",
        "`samplers.ddim`",
        "06",
    ),
    Term("Heun", "", "A step of second order, which asks the network twice.", "`samplers.heun`", "06"),
    Term(
        "evaluations",
        "",
        "How often the network is asked for one sample; with guidance each step asks twice.",
        "NFE",
        "06",
    ),
    Term(
        "null label",
        r"\varnothing",
        "The label that says nothing, shown in training in place of some of the others.",
        "`classes`; unconditional",
        "04",
    ),
    Term(
        "guidance",
        r"\hat u + \gamma(\hat c - \hat u)",
        "From the estimate without a label past that with it. γ = 0 forgets the label, 1 takes it as it is.",
        r"`gamma`; CFG scale; Ho and Salimans's $w = \gamma - 1$",
        "04",
    ),
    Term("negative prompt", "", "A label, or a caption in lesson 10, to be pushed away from.", "", "04"),
    Term("autoguidance", "", "Guidance away from a weaker copy of the network, both told the label.", "", "04"),
    Term(
        "SDEdit",
        "",
        "An edit that noises a picture up to some time and denoises it from there.",
        "`edits.sdedit`; image-to-image, strength",
        "07",
    ),
    Term("inpainting", "", "Filling in a part of a picture so that it fits the rest.", "`edits.inpaint`", "07"),
    Term("anagram", "", "A picture that is one thing upright and another when it is turned.", "`edits.anagram`", "07"),
    Term(
        "flow matching",
        r"x_t = (1-t)x_0 + t\varepsilon",
        "Training on the velocity of a straight path from picture to noise.",
        "rectified flow",
        "08",
    ),
    Term(
        "stratified",
        "",
        "Said of times drawn one from each of equal parts of [0, 1], so that each batch holds early and late ones.",
        "`Schedule.stratified`",
        "08",
    ),
    Term("logit-normal", "", "A way to draw times that favours the middle.", "`schedules.logit_normal`", "08"),
    Term("min-SNR", "", "A weight of the loss that stops growing where the picture is nearly clean.", "", "08"),
]
WORDS = [
    Term("token", "", "A word as its place in the list of all words that the network knows.", "`words.tokens`", "10"),
    Term(
        "attention",
        "",
        "Each place asks with a query, words answer with keys, and the place takes their values by how well the two fit.",
        "softmax$(qk^\\top/\\sqrt d)\\,v$",
        "10",
    ),
    Term(
        "cross-attention",
        "",
        "Attention of the places of a picture to the words of a caption. Among words alone it is self-attention.",
        "`CrossAttention`",
        "10",
    ),
]
MEASURING = [
    Term(
        "FID",
        "",
        "The distance of two Gaussians, fitted to the features of two sets of pictures. It depends on the number of samples and on whose features they are.",
        "Fréchet distance",
        "05",
    ),
    Term("floor", "", "What a measure gives for real pictures against real ones, of the same number.", "", "05"),
    Term("precision", "", "The share of samples that lie among the real pictures.", "", "05"),
    Term("recall", "", "The share of real pictures that lie among the samples.", "", "05"),
    Term("agreement", "", "The share of samples in which a classifier reads the label that was asked for.", "", "05"),
]
THEMES = {
    "From picture to noise": PATH,
    "What is learned": LEARNING,
    "From noise to picture": SAMPLING,
    "Words": WORDS,
    "Measures": MEASURING,
}
