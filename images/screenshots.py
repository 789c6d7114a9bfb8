"""Take the screenshots of the README: ``python images/screenshots.py [NAME ...]``, with Chromium (see make browser).

Each shows a lesson in JupyterLab after a run from top to bottom, at a widget that was moved.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).resolve().parent
sys.path.insert(0, str(IMAGES.parent / "tests"))

from browser import lab  # noqa: E402

OUTPUT = ".jp-OutputArea-output"


def scrub(page) -> object:
    slider = page.locator(f"{OUTPUT} input[type=range]").first
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    return slider


def draw(page) -> object:
    pad = page.locator(f"{OUTPUT} canvas[role=img]").first
    page.locator(f"{OUTPUT} button:has-text('clear')").first.click()
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    corners = [(70, 60), (190, 55), (150, 150), (120, 235)]  # a seven
    page.mouse.move(box["x"] + corners[0][0], box["y"] + corners[0][1])
    page.mouse.down()
    for x, y in corners[1:]:
        page.mouse.move(box["x"] + x, box["y"] + y, steps=15)
    page.mouse.up()
    return pad


def paint(page) -> object:
    pad = page.locator(f"{OUTPUT} canvas[role=img]").nth(1)
    page.locator(f"{OUTPUT} button:has-text('clear')").nth(1).click()
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    for y in (40, 65, 90, 115):  # strokes over the upper half
        page.mouse.move(box["x"] + 60, box["y"] + y)
        page.mouse.down()
        page.mouse.move(box["x"] + 220, box["y"] + y, steps=15)
        page.mouse.up()
    return pad


SHOTS = {
    "scrubber": ("03_ddpm", scrub),
    "pad": ("02_one_step_denoiser", draw),
    "mask": ("07_editing", paint),
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, lab.server(Path(folder)) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=lab.CHROMIUM, args=lab.FLAGS)
        for name in sys.argv[1:] or SHOTS:
            lesson, act = SHOTS[name]
            page = browser.new_page(viewport={"width": 1200, "height": 860})
            lab.run_all(page, address, lesson)
            control = act(page)
            control.evaluate("c => c.scrollIntoView({ block: 'start' })")
            page.mouse.move(5, 5)
            page.wait_for_timeout(2500)
            path = IMAGES / f"{name}.png"
            page.screenshot(path=path, clip={"x": 286, "y": 30, "width": 880, "height": 790})
            Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
