"""The shipped one-step denoiser against the best Gaussian blur: ``python tools/measure_denoiser.py``.

Mean squared error and PSNR on all 10,000 test digits at sigma = 0.5, one noise draw each, seed 0. The best
width of the blur is searched on the same digits, to a tenth of a pixel: the comparison favours the blur.
"""

from torchvision.transforms.functional import gaussian_blur

from diffusion_helpers import data, weights
from diffusion_helpers.bench import recipes


def main() -> None:
    test = data.load("mnist", "test")

    def blurred(width: float) -> dict:
        return recipes.one_step_held_out(lambda z: gaussian_blur(z, [13, 13], width), test)

    width = min((w / 10 for w in range(8, 19)), key=lambda w: blurred(w)["mse"])
    answers = {
        "noisy": recipes.one_step_held_out(lambda z: z, test),
        f"Gaussian blur, width {width}": blurred(width),
        "mnist-denoiser": recipes.one_step_held_out(weights.load("mnist-denoiser"), test),
    }
    for name, found in answers.items():
        print(f"{name:26} MSE {found['mse']:.4f}   PSNR {found['psnr']:.2f} dB   N = {found['N']:,} ({test.source})")


if __name__ == "__main__":
    main()
