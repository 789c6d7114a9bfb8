"""The site as a reader has it: every page in a browser, every link, and the laboratory against Python.

``make site-test`` builds it and runs this. It needs Chromium (Debian: apt install chromium). Nothing but the site itself
is reached: requests to any other host fail the test.
"""

import functools
import html
import http.server
import json
import os
import re
import threading
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest
import torch
from browser import lab
from torch.nn import functional as F

from diffusion_helpers import data, edits, samplers, schedules, weights, words
from diffusion_helpers.lessons.toy import TOY as TOY_OF_LESSONS
from diffusion_helpers.lessons.widgets.toy import tilted

ROOT = Path(__file__).parents[2]
HTML = ROOT / "website" / "build" / "html"
AXE = ROOT / "website" / "node_modules" / "axe-core" / "axe.min.js"
pytestmark = [
    pytest.mark.skipif(not os.environ.get("DIFFUSION_SITE"), reason="the tests of the site run with: make site-test"),
    pytest.mark.skipif(not lab.CHROMIUM, reason="no Chromium on this machine (Debian: apt install chromium)"),
]
PAGES = sorted(path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html") if "_static" not in path.parts)
WIDTHS = {"desktop": 1300, "phone": 390}
DONE = "Number(document.querySelector('#lab .lab-status').dataset.done ?? 0)"
PICTURE = "document.querySelector('#lab canvas.lab-picture').toDataURL()"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=HTML))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("playwright.sync_api", reason="it needs: pip install playwright")
    with lab.chromium() as browser:
        yield browser


@pytest.fixture
def page(browser, address):
    """A page with a list of what went wrong on it, which has to be empty in the end."""
    context = browser.new_context(viewport={"width": 1300, "height": 1000})
    page, faults = context.new_page(), []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("response", lambda got: faults.append(f"{got.status} {got.url}") if got.status >= 400 else None)

    def guard(route):
        if route.request.url.startswith((address, "data:", "blob:")):
            return route.continue_()
        faults.append(f"another host: {route.request.url}")
        return route.abort()

    context.route("**/*", guard)
    yield page
    context.close()
    assert not faults


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole(page, address, name, width):
    page.set_viewport_size({"width": WIDTHS[width], "height": 1000})
    page.goto(address + name, wait_until="load")
    page.wait_for_timeout(300)
    assert page.evaluate("[...document.images].filter((image) => image.complete && !image.naturalWidth).length") == 0
    assert page.evaluate("[...document.images].filter((image) => !image.alt).map((image) => image.src)") == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 1


@pytest.mark.parametrize("name", ["index.html", "laboratory.html", "lessons/01_adding_noise.html", "models.html"])
def test_nothing_serious_stands_in_the_way_of_readers_with_aids(page, address, name):
    page.goto(address + name, wait_until="load")
    page.wait_for_timeout(1500)
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")
    grave = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
    assert {v["id"]: [n["html"][:200] for n in v["nodes"]][:3] for v in grave} == {}


def test_every_link_within_the_site_leads_somewhere():
    texts = {name: (HTML / name).read_text(encoding="utf-8") for name in PAGES}
    anchors = {name: set(re.findall(r'\bid="([^"]+)"', text)) for name, text in texts.items()}
    broken = []
    for name, text in texts.items():
        for link in set(re.findall(r'<a\b[^>]*?\bhref="([^"]+)"', text)):
            target, anchor = urldefrag(urljoin("http://site/" + name, html.unescape(link)))
            if not target.startswith("http://site/"):
                continue
            target = target.removeprefix("http://site/").partition("?")[0] or "index.html"
            if not (HTML / target).is_file() or (
                anchor and target in anchors and unquote(anchor) not in anchors[target]
            ):
                broken.append(f"{name}: {link}")
    assert broken == []


def test_a_slider_of_a_lesson_turns_without_python(page, address):
    page.goto(address + "lessons/01_adding_noise.html", wait_until="load")
    sliders = page.locator("input[type=range]")
    sliders.first.wait_for(timeout=20_000)
    assert sliders.count() >= 3
    for i in range(sliders.count()):
        moved = """(input) => {
          const image = input.closest(".cell_output, .widget-subarea, div").parentElement.querySelector("img");
          const before = image.src;
          input.value = Number(input.value) > Number(input.min) ? input.min : input.max;
          input.dispatchEvent(new Event("input", { bubbles: true }));
          return new Promise((done) => setTimeout(() => done(image.src !== before), 300));
        }"""
        assert sliders.nth(i).evaluate(moved)


# A toy whose exact denoiser is known: data N(0, 0.25) in each pixel.
TOY = """async ([name, levels, noise, fresh, eta]) => {
  const s = await import("./_static/lab/samplers.js");
  const denoise = async (x, { alpha, sigma }) => x.map((v) => (alpha * 0.25 * v) / (alpha ** 2 * 0.25 + sigma ** 2));
  const normal = () => Float32Array.from(fresh.shift());
  const found = [];
  for await (const d of s.sample(denoise, Float32Array.from(noise), levels, s.STEPS[name], { eta, normal }))
    found.push([...d.x]);
  return found;
}"""


@pytest.mark.parametrize("schedule", [schedules.flow(), schedules.linear_beta(300), schedules.cosine(20)])
@pytest.mark.parametrize(
    ("name", "eta"), [("ddim", 0.0), ("ddim", 0.6), ("ddpm", 1.0), ("heun", 0.0), ("dpmpp_2m", 0.0)]
)
def test_each_sampler_walks_as_in_python(page, address, schedule, name, eta):
    from diffusion_helpers.denoise import Denoised

    torch.manual_seed(0)
    noise, fresh, levels = torch.randn(1, 50), [torch.randn(1, 50) for _ in range(12)], schedule.grid(12)

    def denoise(x, level):
        _, alpha, sigma = level.like(x)
        return Denoised(x, alpha * 0.25 * x / (alpha**2 * 0.25 + sigma**2), level)

    step, left = samplers.SAMPLERS[name].step, iter(fresh)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samplers, "_normal", lambda x, generator: next(left))
        step = functools.partial(step, eta=eta) if name == "ddim" else step
        wanted = torch.cat([state.x for state in samplers.sample(denoise, noise, levels, step)])
    page.goto(address + "laboratory.html")
    given = [{part: getattr(level, part).item() for part in ("t", "alpha", "sigma")} for level in levels]
    found = page.evaluate(TOY, [name, given, noise[0].tolist(), [f[0].tolist() for f in fresh], eta])
    assert torch.allclose(torch.tensor(found), wanted, atol=1e-5)


RUN = """async ([name, order]) => {
  const { Laboratory } = await import("./_static/lab/client.js");
  const lab = new Laboratory();
  await lab.load(name);
  for (const part of ["noise", "image", "mask", "small"]) if (order[part]) order[part] = Float32Array.from(order[part]);
  let last = null;
  const began = performance.now();
  const found = await lab.run({ model: name, seed: 0, eta: 0, ...order }, (state) => (last = state));
  return { x: [...last.x], ms: performance.now() - began, ...found };
}"""


def asked(name, what):
    """The model, and its denoiser without guidance and with none at all."""
    model = weights.load(name)
    if model.words:
        return model, words.prompted(model, [what]), words.prompted(model, [""])
    return model, edits.given(model, torch.tensor([what])), edits.given(model, torch.tensor([model.classes]))


@pytest.mark.parametrize(
    ("name", "what", "side"),
    [
        ("mnist-guided-residual", 7, 28),
        ("mnist-guided", 3, 28),
        ("fashion-guided", 5, 28),
        ("cells-guided", 1, 64),
        ("captions", "a red seven above a blue boot", 32),
    ],
)
def test_each_model_draws_the_picture_that_it_draws_in_python(page, address, name, what, side):
    model, c, u = asked(name, what)
    shape = (1, model.net.channels, side, side)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    *_, wanted = samplers.sample(edits.guide(c, u, 2.0), noise, model.schedule.grid(20))
    page.goto(address + "index.html")
    order = {"what": what, "gamma": 2.0, "steps": 20, "sampler": "ddim", "noise": noise.flatten().tolist()}
    found = page.evaluate(RUN, [name, order])
    assert found["evaluations"] == 40
    difference = (torch.tensor(found["x"]).reshape(shape) - wanted.x).abs().max().item()
    print(f"{name}: largest difference {difference:.1e}; 20 guided steps in {found['ms'] / 1000:.2f} s")
    assert difference < 2e-3


def test_edits_draw_the_pictures_that_they_draw_in_python(page, address):
    model, c, u = asked("mnist-guided-residual", 8)
    _, other, _ = asked("mnist-guided-residual", 3)
    images = data.symmetric(data.SOURCES["mnist"].sample("test")[0][:1])
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(4))
    mask = torch.zeros(1, 1, 28, 28)
    mask[..., 14:, :] = 1
    levels, guided = model.schedule.grid(20), edits.guide(c, u, 2.0)
    start, below = edits.sdedit(images, levels, 0.6, noise)
    views = [edits.UPRIGHT, edits.QUARTER_TURN]
    usual = {"what": 8, "gamma": 2.0, "steps": 20, "sampler": "ddim", "noise": noise.flatten().tolist()}
    image = {"image": images.flatten().tolist()}
    wanted = {
        "sdedit": (guided, start, below, image | {"from": 0.6}),
        "inpaint": (edits.inpaint(guided, images, mask), noise, levels, image | {"mask": mask.flatten().tolist()}),
        "anagram": (
            edits.anagram([guided, edits.guide(other, u, 2.0)], views),
            noise,
            levels,
            {"second": 3, "view": "quarter turn"},
        ),
        "hybrid": (
            edits.hybrid(guided, edits.guide(other, u, 2.0), 1.75),
            noise,
            levels,
            {"second": 3, "blur": 1.75},
        ),
        "upscale": (
            edits.upscale(guided, F.avg_pool2d(images, 4), 4),
            noise,
            levels,
            {"small": F.avg_pool2d(images, 4).flatten().tolist(), "factor": 4},
        ),
    }
    page.goto(address + "index.html")
    for name, (denoise, x, path, order) in wanted.items():
        *_, last = samplers.sample(denoise, x, path)
        found = page.evaluate(RUN, ["mnist-guided-residual", usual | order])
        assert (torch.tensor(found["x"]) - last.x.flatten()).abs().max() < 5e-3, name


TASKS = ["draw", "redraw", "fill", "anagram", "cost"]


@pytest.mark.parametrize(
    ("model", "task"),
    [("mnist-guided-residual", task) for task in [*TASKS, "enlarge", "hybrid"]]
    + [("captions", task) for task in TASKS],
)
def test_every_control_of_the_laboratory_draws_another_picture(page, address, model, task):
    page.goto(f"{address}laboratory.html?model={model}&task={task}")
    page.wait_for_function(f"{DONE} > 0", timeout=90_000)
    sliders = page.locator("#lab .lab-settings input[type=range]:enabled")
    for i in range(sliders.count()):
        done, before = page.evaluate(DONE), page.evaluate(PICTURE)
        sliders.nth(i).evaluate(
            """(input) => {
              const share = (Number(input.value) - input.min) / (input.max - input.min);
              input.value = Number(input.min) + (share > 0.5 ? 0.4 : 0.6) * (input.max - input.min);
              input.dispatchEvent(new Event("input", { bubbles: true }));
            }"""
        )
        page.wait_for_function(f"{DONE} > {done}", timeout=90_000)
        if task == "cost":
            break  # its four rows take long, and each control is the same as elsewhere
        assert page.evaluate(PICTURE) != before


TOY_TEXT = """async ([places, levels]) => {
  const toy = await import("./_static/lab/toy.js");
  const answers = [];
  for (const level of levels)
    for (const label of [null, 0, 2]) {
      const [x0] = await toy.network([Float32Array.from(places)], [label], level);
      answers.push([...x0], toy.density(places, level, label, 2));
    }
  return answers;
}"""


def test_the_toy_of_the_page_is_the_toy_of_the_lessons(page, address):
    toy, path, places = TOY_OF_LESSONS.along(0), schedules.flow(), torch.linspace(-2.6, 2.6, 261)[:, None]
    levels, wanted = [path(t) for t in (0.05, 0.4, 0.8, 1.0)], []
    for level in levels:
        for label in (toy.classes, 0, 2):
            y = torch.full((len(places),), label)
            wanted += [toy(places, level, y).x0[:, 0], tilted(toy, places, level, label, 2.0)]
    page.goto(address + "laboratory.html")
    given = [{part: getattr(level, part).item() for part in ("t", "alpha", "sigma")} for level in levels]
    found = page.evaluate(TOY_TEXT, [places[:, 0].tolist(), given])
    assert torch.allclose(torch.tensor(found), torch.stack(wanted).float(), atol=1e-4)


def test_every_control_of_the_toy_moves_its_picture(page, address):
    look = "document.querySelector('#toy canvas').toDataURL()"
    page.goto(f"{address}laboratory.html")
    page.locator("#toy select").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#toy .lab-status')?.dataset.done > 0", timeout=30_000)
    page.locator("#toy select").select_option("1")
    page.wait_for_function("document.querySelector('#toy .lab-status').dataset.done > 1", timeout=30_000)
    sliders = page.locator("#toy input[type=range]")
    for i in range(sliders.count()):
        before = page.evaluate(look)
        sliders.nth(i).evaluate(
            """(input) => {
              input.value = Number(input.min) + 0.6 * (input.max - input.min);
              input.dispatchEvent(new Event("input", { bubbles: true }));
            }"""
        )
        page.wait_for_function(f"{look} !== {json.dumps(before)}", timeout=30_000)


def test_an_unknown_word_is_named(page, address):
    page.goto(f"{address}laboratory.html?model=captions")
    page.wait_for_function(f"{DONE} > 0", timeout=90_000)
    page.locator("#lab .lab-settings input[type=text]").fill("a crimson tide")
    page.wait_for_function("document.querySelector('#lab .lab-status').textContent.includes('crimson')", timeout=20_000)


def test_a_stroke_on_the_pad_is_answered(page, address):
    page.goto(f"{address}laboratory.html?task=redraw")
    page.wait_for_function(f"{DONE} > 0", timeout=90_000)
    box = page.locator("canvas.lab-pad").bounding_box()
    done = page.evaluate(DONE)
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 220, steps=5)
    page.mouse.up()
    page.wait_for_function(f"{DONE} > {done}", timeout=90_000)


LONG = """window.long = [];
new PerformanceObserver((list) => window.long.push(...list.getEntries().map((task) => Math.round(task.duration))))
  .observe({ type: "longtask", buffered: true });"""


@pytest.mark.parametrize(("model", "ground"), [("mnist-guided-residual", 0), ("captions", 240)])
def test_a_cleared_pad_is_empty_paper(page, address, model, ground):
    page.goto(f"{address}laboratory.html?task=redraw&model={model}")
    page.wait_for_function(f"{DONE} > 0", timeout=90_000)
    page.get_by_role("button", name="clear").click()
    pixel = "[...document.querySelector('canvas.lab-pad').getContext('2d').getImageData(40, 40, 1, 1).data]"
    assert page.evaluate(pixel) == [ground] * 3 + [255]


def test_the_first_digit_comes_soon_and_the_page_stays_awake(page, address):
    """Times depend on the machine, so the limits are wide; what was measured is printed."""
    page.add_init_script(LONG)
    page.goto(f"{address}laboratory.html")
    page.wait_for_function(f"{DONE} > 0", timeout=60_000)
    first, long = page.evaluate("performance.now()") / 1000, page.evaluate("window.long")
    loaded = "performance.getEntriesByType('resource').reduce((sum, file) => sum + file.transferSize, 0) / 1e6"
    print(f"first digit after {first:.1f} s, {page.evaluate(loaded):.1f} MB by the page; long tasks, ms: {long}")
    assert first < 20 and max(long, default=0) < 500
