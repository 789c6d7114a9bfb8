"""As a person uses it: each notebook in JupyterLab, run down to its last control, every slider moved, a digit drawn.

Not part of the ordinary tests: ``make browser`` runs it. It needs Chromium (Debian: apt install chromium).
"""

import base64
import os
import statistics
from io import BytesIO

import pytest
from PIL import Image, ImageDraw

from . import lab

pytestmark = [
    pytest.mark.skipif(not os.environ.get("DIFFUSION_BROWSER"), reason="the browser tests run with: make browser"),
    pytest.mark.skipif(not lab.CHROMIUM, reason="no Chromium on this machine (Debian: apt install chromium)"),
]

NAMES = sorted(path.stem for path in (lab.ROOT / "notebooks").glob("*.ipynb"))
# What a learner can move in each lesson: flipbook sliders, live sliders, lists, pads.
CONTROLS = {
    "01_adding_noise": (3, 0, 0, 0),
    "02_one_step_denoiser": (1, 1, 1, 1),
    "03_ddpm": (2, 2, 0, 0),
    "04_guidance": (0, 7, 1, 0),
    "05_evaluation": (2, 0, 0, 0),
    "06_faster_sampling": (0, 2, 1, 0),
    "07_editing": (3, 3, 5, 2),
    "08_objectives_and_flow": (1, 2, 0, 0),
    "09_beyond_digits": (3, 0, 0, 0),
    "10_words": (0, 2, 0, 0),
}
OUTPUT = ".jp-OutputArea-output"
# Pastes a picture, a PNG in base64, as the clipboard would give it.
PASTE = """(canvas, text) => {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const clipboardData = new DataTransfer();
  clipboardData.items.add(new File([bytes], "digit.png", { type: "image/png" }));
  canvas.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
}"""
# Sets a slider, says so as a browser does, and waits until the new picture could be painted: milliseconds.
MOVE = """async (input) => {
  const picture = input.closest(".jp-OutputArea-output").querySelector("img");
  const before = picture.src;
  const up = Number(input.value) < Number(input.max);
  const start = performance.now();
  input.value = Number(input.value) + (up ? 1 : -Number(input.max));
  input.dispatchEvent(new Event("input", { bubbles: true }));
  await picture.decode();
  await new Promise((painted) => requestAnimationFrame(painted));
  if (picture.src === before) throw new Error("the picture did not change");
  return performance.now() - start;
}"""


# From then on window.times holds, for each key pressed, the milliseconds until the picture was another.
WATCH = """(picture) => {
  let pressed = 0;
  window.times = [];
  document.addEventListener("keydown", () => { pressed = performance.now(); }, true);
  new MutationObserver(() => window.times.push(performance.now() - pressed))
    .observe(picture, { attributes: true, attributeFilter: ["src"] });
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with lab.server(tmp_path_factory.mktemp("lab")) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("playwright.sync_api", reason="the browser tests need: pip install playwright")
    with lab.chromium() as browser:
        yield browser


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(30_000)
    page.failures = []
    page.on("pageerror", lambda error: page.failures.append(str(error)))
    yield page
    page.close()


def scan(text: str) -> dict:
    """A file with a picture of dark writing on white paper."""
    picture, buffer = Image.new("L", (300, 400), 255), BytesIO()
    ImageDraw.Draw(picture).text((60, 40), text, 0, font_size=300)
    picture.save(buffer, "png")
    return {"name": "digit.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


def picture_beside(control):
    """The picture in the same output as a control."""
    return control.locator('xpath=ancestor::div[contains(@class, "jp-OutputArea-output")][1]').locator("img").first


def expect_change(page, control, act) -> None:
    picture = picture_beside(control)
    before = picture.get_attribute("src")
    act()
    for _ in range(300):
        if picture.get_attribute("src") != before:
            return
        page.wait_for_timeout(100)
    raise AssertionError("the picture did not change within 30 s")


def report_the_time_of_a_kernel(page) -> None:
    slider = page.locator(f"{OUTPUT} .widget-slider [role=slider], {OUTPUT} .widget-slider .noUi-handle").first
    slider.scroll_into_view_if_needed()
    slider.focus()
    page.keyboard.press("Home")
    page.wait_for_timeout(2000)
    picture_beside(slider).evaluate(WATCH)
    for _ in range(10):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(600)
    times = page.evaluate("window.times")
    median = statistics.median(times)
    print(f", {median:.0f} ms from a key to the picture that the kernel draws (median of {len(times)})", end="")
    assert len(times) >= 7  # two keys may come before one picture


def expect_flipbooks_to_neither_grow_nor_need_a_kernel(page) -> None:
    page.click('.lm-MenuBar-item:has-text("Kernel")')
    page.click('.lm-Menu-item:has-text("Shut Down Kernel")')
    page.wait_for_timeout(2000)
    slider = page.locator(f"{OUTPUT} input[type=range]").first
    slider.scroll_into_view_if_needed()
    size = "() => [document.querySelectorAll('*').length, performance.memory.usedJSHeapSize / 2 ** 20]"
    for _ in range(20):
        slider.evaluate(MOVE)
    elements, heap = page.evaluate(size)
    for _ in range(500):
        slider.evaluate(MOVE)
    later, heap_later = page.evaluate(size)
    assert later == elements
    assert heap_later - heap < 30
    assert (
        slider.locator('xpath=ancestor::div[contains(@class, "jp-OutputArea-output")][1]').locator("img").count() == 1
    )


# What is looked at in one lesson only, in the end.
ALSO = {
    "02_one_step_denoiser": report_the_time_of_a_kernel,
    "05_evaluation": expect_flipbooks_to_neither_grow_nor_need_a_kernel,
}


def test_every_lesson_is_listed():
    assert sorted(CONTROLS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_lesson_runs_and_everything_that_moves_changes_its_picture(page, address, name):
    seconds = lab.run_all(page, address, name)
    print(f"\n{name}: all cells in {seconds:.0f} s", end="")
    errors = page.locator(lab.ERROR)
    assert errors.count() == 0, errors.first.inner_text()
    turned, live, lists, pads = (
        page.locator(f"{OUTPUT} {kind}")
        for kind in (
            "input[type=range]",
            ".widget-slider [role=slider], .widget-slider .noUi-handle",
            "select",
            "canvas[role=img]",
        )
    )
    for _ in range(60):  # a widget is drawn a while after its cell has run
        if tuple(kind.count() for kind in (turned, live, lists, pads)) == CONTROLS[name]:
            break
        page.wait_for_timeout(500)
    assert (turned.count(), live.count(), lists.count(), pads.count()) == CONTROLS[name]

    for slider in turned.all():
        slider.scroll_into_view_if_needed()
        slider.focus()
        at_end = slider.evaluate("input => input.value === input.max")
        expect_change(page, slider, lambda at_end=at_end: page.keyboard.press("ArrowLeft" if at_end else "ArrowRight"))
    for slider in live.all():
        slider.scroll_into_view_if_needed()
        slider.focus()
        expect_change(page, slider, lambda: page.keyboard.press("ArrowRight"))
    for line in page.locator(f"{OUTPUT} input[type=text]").all():
        line.scroll_into_view_if_needed()
        expect_change(page, line, lambda line=line: (line.fill("a green boot"), line.press("Enter")))
    for choice in lists.all():
        choice.scroll_into_view_if_needed()
        other = choice.evaluate("list => (list.selectedIndex + 1) % list.options.length")
        expect_change(page, choice, lambda choice=choice, other=other: choice.select_option(index=other))
    for pad in pads.all():
        pad.scroll_into_view_if_needed()
        around = pad.locator("xpath=..")
        expect_change(page, pad, lambda around=around: around.locator("button:has-text('clear')").click())
        box = pad.bounding_box()

        def stroke(box=box):
            page.mouse.move(box["x"] + 140, box["y"] + 40)
            page.mouse.down()
            page.mouse.move(box["x"] + 130, box["y"] + 240, steps=10)
            page.mouse.up()

        expect_change(page, pad, stroke)
        inked = pad.evaluate(
            "c => c.getContext('2d').getImageData(0, 0, 280, 280).data.filter((v, i) => i % 4 === 0 && v > 128).length"
        )
        assert 200 * 15 < inked < 200 * 40  # a line of the pen's width, 200 pixels long
        upload = around.locator("input[type=file]")
        if not upload.count():
            continue  # a mask is only drawn
        expect_change(page, pad, lambda upload=upload: upload.set_input_files(scan("2")))
        expect_change(page, pad, lambda pad=pad: pad.evaluate(PASTE, base64.b64encode(scan("7")["buffer"]).decode()))
    assert page.failures == []

    if turned.count():
        times = [turned.first.evaluate(MOVE) for _ in range(60)]
        print(f", {statistics.median(times):.0f} ms from a slider to its picture (median of 60)", end="")
    if name in ALSO:
        ALSO[name](page)
