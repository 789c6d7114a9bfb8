"""Take the screenshot of the README: ``python images/screenshots.py``, with Chromium (see make browser).

It shows lesson 02 in JupyterLab after a run from top to bottom, with a digit drawn on its pad.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).resolve().parent
sys.path.insert(0, str(IMAGES.parent / "tests"))

from browser import lab  # noqa: E402

OUTPUT = ".jp-OutputArea-output"


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


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, lab.server(Path(folder)) as address, lab.chromium() as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 860})
        lab.run_all(page, address, "02_one_step_denoiser")
        draw(page).evaluate("c => c.scrollIntoView({ block: 'start' })")
        page.mouse.move(5, 5)
        page.wait_for_timeout(2500)
        path = IMAGES / "pad.png"
        page.screenshot(path=path, clip={"x": 286, "y": 30, "width": 880, "height": 790})
        Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
