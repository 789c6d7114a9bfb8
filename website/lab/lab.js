// The laboratory: what can be asked of the models, and the pictures they answer with.

import { Laboratory } from "./client.js";
import { choice, labelled, list, make, slider } from "./controls.js";
import { VIEWS, blur, shrink } from "./samplers.js";

const MODELS = {
  "mnist-guided-residual": "digits",
  "fashion-guided": "clothes",
  "cells-guided": "cells",
  captions: "words",
  "mnist-guided": "digits, course network",
};
const SAMPLERS = { ddim: "DDIM", ddpm: "DDPM", heun: "Heun", dpmpp_2m: "DPM-Solver++(2M)" };
const TASKS = {
  draw: "from noise",
  redraw: "from my drawing",
  fill: "fill a hole",
  enlarge: "from few pixels",
  anagram: "two readings",
  hybrid: "near and far",
  cost: "quality and cost",
};
const COSTS = [2, 4, 6, 10, 20, 50]; // evaluations of the denoiser
// What is drawn with: paints, and which of them the pad begins with as its ground and on its brush.
const GREYS = { paints: { black: [0, 0, 0], grey: [128, 128, 128], white: [255, 255, 255] }, ground: "black", brush: "white" };
const CELLS = {
  paints: { plasma: [225, 215, 220], red: [205, 150, 155], purple: [115, 60, 150], dark: [70, 40, 110] },
  ground: "plasma",
  brush: "purple",
};
const PAD = 280;

/** Numbers in [-1, 1] as a picture on a canvas of their own size; `scale` divides what has no bounds. */
function paint(canvas, image, { channels, side }, scale = 1) {
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(side, side);
  const area = side * side;
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++)
      pixels.data[4 * i + c] = 127.5 * (1 + image[(channels === 3 ? c : 0) * area + i] / scale);
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

const picture = (title) => {
  const canvas = make("canvas", { className: "lab-picture", role: "img", "aria-label": title, width: 28, height: 28 });
  return { canvas, figure: make("figure", {}, canvas, make("figcaption", { textContent: title })) };
};

/** A pad to draw on. Without a kit of paints it is a mask, which is painted over the picture given to `under`. */
function pad(label, kit, done) {
  const canvas = make("canvas", { className: "lab-pad", width: PAD, height: PAD, role: "img", "aria-label": label });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const own = {};
  let [ground, colour] = kit ? [kit.paints[kit.ground], kit.paints[kit.brush]] : [null, [230, 159, 0]];
  const width = list("brush", { 14: "fine", 24: "middle", 44: "broad" }, 24, () => {});
  const clear = () => {
    context.clearRect(0, 0, PAD, PAD);
    if (!ground) return;
    context.fillStyle = `rgb(${ground})`;
    context.fillRect(0, 0, PAD, PAD);
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * PAD) / box.width, ((event.clientY - box.top) * PAD) / box.height];
  };
  let drawing = false;
  canvas.addEventListener("pointerdown", (event) => {
    drawing = true;
    canvas.setPointerCapture(event.pointerId);
    Object.assign(context, { lineWidth: width.value, lineCap: "round", lineJoin: "round", strokeStyle: `rgb(${colour})` });
    context.beginPath();
    context.moveTo(...at(event));
    context.lineTo(...at(event));
    context.stroke();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drawing) return;
    context.lineTo(...at(event));
    context.stroke();
  });
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, () => {
      if (!drawing) return;
      drawing = false;
      done();
    });
  const tools = make("div", { className: "lab-tools" }, width.row);
  if (kit) {
    const options = Object.fromEntries(Object.keys(kit.paints).map((name) => [name, name]));
    const brush = choice("paint", options, kit.brush, () => (colour = kit.paints[brush.value]));
    const floor = make("button", { type: "button", textContent: "fill with it" });
    floor.addEventListener("click", () => { ground = colour; clear(); done(); });
    tools.append(brush.row, floor);
  }
  const wipe = make("button", { type: "button", textContent: "clear" });
  wipe.addEventListener("click", () => { clear(); done(); });
  tools.append(wipe);
  clear();
  /** The drawing in [-1, 1], or the mask as 0 and 1 a pixel. */
  own.read = ({ channels, side }) => {
    const small = make("canvas", { width: side, height: side }).getContext("2d");
    small.imageSmoothingQuality = "high";
    small.drawImage(canvas, 0, 0, side, side);
    const { data } = small.getImageData(0, 0, side, side);
    const area = side * side;
    if (!kit) return Float32Array.from({ length: area }, (_, i) => (data[4 * i + 3] > 127 ? 1 : 0));
    return Float32Array.from({ length: channels * area }, (_, i) => data[4 * (i % area) + Math.floor(i / area)] / 127.5 - 1);
  };
  own.under = (image, about) => {
    const small = make("canvas");
    paint(small, image, about);
    canvas.style.backgroundImage = `url(${small.toDataURL()})`;
  };
  return Object.assign(own, { element: make("div", {}, canvas, tools) });
}

function start(root) {
  const lab = new Laboratory();
  const page = { about: null, last: new Map(), states: [] };
  const status = make("p", { className: "lab-status", role: "status" });
  const settings = make("div", { className: "lab-settings" });
  const board = make("div", { className: "lab-board" });
  const wanted = new URLSearchParams(location.search);
  const pick = (name, options, usual) => (wanted.get(name) in options ? wanted.get(name) : usual);
  const model = choice("model", MODELS, pick("model", MODELS, "mnist-guided-residual"), change);
  const task = choice("task", TASKS, pick("task", TASKS, "draw"), build);
  root.replaceChildren(model.row, task.row, make("div", { className: "lab-columns" }, settings, board), status);
  let controls = {};

  async function change() {
    const name = model.value;
    lab.stop();
    status.textContent = `The network of ${MODELS[name]} is on its way …`;
    try {
      const about = await lab.load(name);
      if (model.value !== name) return;
      page.about = about;
      build();
    } catch (error) {
      status.textContent = `The network could not be loaded: ${error.message}`;
    }
  }

  function build() {
    const { about } = page;
    if (!about) return;
    const { draw } = about;
    const kinds = Object.fromEntries(about.classes.map((name, i) => [i, name]));
    const again = () => go();
    controls = {};
    settings.replaceChildren();
    board.replaceChildren();
    const put = (name, control, to = settings) => {
      controls[name] = control;
      to.append(control.row ?? control.element);
    };
    const asking = (name, legend, usual) => {
      if (!about.vocabulary) return put(name, choice(legend, kinds, usual, again));
      const input = make("input", { type: "text", value: usual, spellcheck: false, autocomplete: "off" });
      input.addEventListener("input", again);
      put(name, { row: labelled(legend, input), get value() { return input.value; } });
    };
    const words = Boolean(about.vocabulary);
    const [anagram, hybrid, padded] = [task.value === "anagram", task.value === "hybrid", ["redraw", "enlarge"].includes(task.value)];
    const both = { anagram: ["as it is", "a blue two on white", 2], hybrid: ["from afar", "a big blue boot on white", 1] }[task.value];
    const first = { redraw: "a red seven above a blue bag on white", enlarge: "a red seven above a blue bag on white", fill: "a green eight on the right" };
    const usually = words ? (first[task.value] ?? "a red seven above a blue boot") : padded ? 3 : 7;
    const within = (label) => (words ? label : Math.min(label, about.classes.length - 1));
    asking("what", both ? both[0] : words ? "caption" : "class", within(both ? both[words ? 1 : 2] : usually));
    if (anagram) {
      const views = Object.fromEntries(Object.keys(VIEWS).slice(1).map((name) => [name, name]));
      asking("second", "seen through the view", words ? "a blue five on white" : about.classes.length > 5 ? 5 : 0);
      put("view", list("view", views, "flip", again));
    }
    if (hybrid) {
      asking("second", "close up", words ? "a big blue three on white" : within(8));
      put("blur", slider("blur between", { min: 0.5, max: Math.min(6, about.side / 8), step: 0.25, value: about.side / 16 }, (sigma) => `${sigma.toFixed(2)} px`, again));
    }
    if (words) {
      const known = make("details", {}, make("summary", { textContent: `the ${about.vocabulary.length - 1} words it knows` }));
      known.append(make("p", { textContent: about.vocabulary.slice(1).join(" ") }));
      settings.append(known);
    }
    put("gamma", slider("guidance γ", { min: 0, max: 8, step: 0.25, value: both ? 4 : Math.min(draw.gamma ?? 2, 8) }, (g) => g.toFixed(2), again));
    const { steps } = about;
    const usual = draw.sampler === "heun" ? 12 : steps.includes(draw.steps) ? draw.steps : 20;
    if (task.value !== "cost") {
      put("sampler", list("sampler", SAMPLERS, task.value === "fill" ? "ddpm" : draw.sampler in SAMPLERS && about.schedule.name === "flow" ? draw.sampler : "ddim", again));
      put("steps", slider("steps", { min: 0, max: steps.length - 1, step: 1, value: steps.indexOf(usual) }, (i) => steps[i], again));
      put("eta", slider("fresh noise η (DDIM)", { min: 0, max: 1, step: 0.1, value: 0 }, (eta) => eta.toFixed(1), again));
    }
    if (task.value === "redraw") put("from", slider("start level t", { min: 0.05, max: 1, step: 0.05, value: 0.8 }, (t) => t.toFixed(2), again));
    put("seed", slider("noise", { min: 0, max: 99, step: 1, value: 1 }, String, again));

    if (task.value === "enlarge") put("factor", list("pixels kept", Object.fromEntries([8, 4, 2].filter((n) => about.side % n === 0).map((n) => [n, `${about.side / n} × ${about.side / n}`])), 4, again));
    if (padded) {
      const { paints } = about;
      const kit = words ? { paints, ground: "white", brush: "red" } : about.channels === 3 ? CELLS : GREYS;
      put("pad", pad("Drawing pad. Draw with the mouse or a finger.", kit, again), board);
      if (words) example(controls.pad, [[40, 40, 110, 40, 75, 120]], paints.red, [150, 165, 95, 85], paints.blue);
      else if (about.channels === 1) example(controls.pad, [[90, 60, 190, 60, 190, 140, 100, 140], [190, 140, 190, 220, 90, 220]], GREYS.paints.white);
    }
    if (task.value === "fill") {
      put("pad", pad("Mask. Paint over what shall be drawn anew.", null, again), board);
      half(controls.pad);
    }
    if (task.value === "cost") return go();
    page.views = { x: picture("image x at time t"), x0: picture("estimate of x₀"), eps: picture("estimate of ε") };
    const figures = make("div", { className: "lab-figures" }, ...Object.values(page.views).map((view) => view.figure));
    const last = { anagram: "through the view", hybrid: "x₀ from afar", enlarge: "what is known" }[task.value];
    if (last) {
      page.views.last = picture(last);
      figures.append(page.views.last.figure);
    }
    page.way = slider("the way", { min: 0, max: 1, step: 1, value: 1 }, (i) => page.states[i] ? `t = ${page.states[i].t.toFixed(2)}` : "", () => show(page.states[page.way.value]));
    board.prepend(figures, page.way.row);
    go();
  }

  /** A drawing to begin with, so that nobody faces an empty pad. */
  function example(own, lines, colour, box, fill) {
    const context = own.element.querySelector("canvas").getContext("2d");
    Object.assign(context, { strokeStyle: `rgb(${colour})`, lineWidth: 24, lineCap: "round", lineJoin: "round" });
    for (const [x, y, ...rest] of lines) {
      context.beginPath();
      context.moveTo(x, y);
      for (let i = 0; i < rest.length; i += 2) context.lineTo(rest[i], rest[i + 1]);
      context.stroke();
    }
    if (box) {
      context.fillStyle = `rgb(${fill})`;
      context.fillRect(...box);
    }
  }

  /** The lower half, or of scenes the right one, to be filled in until something else is painted. */
  function half(own) {
    const context = own.element.querySelector("canvas").getContext("2d");
    context.fillStyle = "rgb(230, 159, 0)";
    context.fillRect(...(page.about.vocabulary ? [PAD / 2, 0, PAD / 2, PAD] : [0, PAD / 2, PAD, PAD / 2]));
  }

  function show(state) {
    if (!state) return;
    const { views, about } = page;
    paint(views.x.canvas, state.x, about);
    paint(views.x0.canvas, state.x0, about);
    const answered = state.i === state.of ? (page.states.at(-2) ?? state) : state; // clean data has no noise left
    paint(views.eps.canvas, answered.eps, about, 3);
    if (!views.last) return;
    const { side, channels } = about;
    if (controls.view) paint(views.last.canvas, VIEWS[controls.view.value].look(state.x0, side), about);
    else if (controls.blur) paint(views.last.canvas, blur(state.x0, controls.blur.value, side), about);
    else paint(views.last.canvas, known(), { channels, side: side / controls.factor.value });
  }

  const order = (more) => {
    const what = (name) => (page.about.vocabulary ? controls[name].value : Number(controls[name].value));
    return {
      model: model.value, what: what("what"), gamma: controls.gamma.value, seed: controls.seed.value, interval: page.about.draw.interval,
      eta: controls.eta?.value ?? 0, sampler: controls.sampler?.value, steps: page.about.steps[controls.steps?.value ?? 0],
      ...(controls.second ? { second: what("second"), view: controls.view?.value, blur: controls.blur?.value, interval: undefined } : {}),
      ...more,
    };
  };

  const speed = ({ ms, evaluations }) =>
    `${evaluations} evaluations of the network in ${(ms / 1000).toFixed(2)} s on this device: ${(ms / evaluations).toFixed(0)} ms each.`;

  /** Draws what the controls ask for; while a run is on its way, the newest wish waits for its turn. */
  async function go() {
    if (controls.eta) controls.eta.row.querySelector("input").disabled = controls.sampler.value !== "ddim";
    try {
      if (task.value === "cost") return await costs();
      const more = {};
      if (task.value === "redraw") Object.assign(more, { image: controls.pad.read(page.about), from: controls.from.value });
      if (task.value === "fill") {
        const key = model.value;
        if (!page.last.has(key)) page.last.set(key, await whole());
        if (model.value !== key) return;
        controls.pad.under(page.last.get(key), page.about);
        Object.assign(more, { image: page.last.get(key), mask: controls.pad.read(page.about) });
      }
      if (task.value === "enlarge") Object.assign(more, { small: known(), factor: Number(controls.factor.value) });
      const asked = order(more);
      const about = page.about;
      const states = [];
      status.textContent = "drawing …";
      const found = await lab.run(asked, (state) => {
        if (page.about !== about) return;
        if (state.i === 0) page.states = states;
        states.push(state);
        page.way.row.querySelector("input").max = state.of;
        page.way.set(state.i);
        show(state);
      });
      if (page.about !== about) return;
      if (task.value === "draw") page.last.set(model.value, states.at(-1).x);
      status.textContent = speed(found);
      status.dataset.done = String(Number(status.dataset.done ?? 0) + 1);
    } catch (error) {
      status.textContent = error.message;
    }
  }

  /** What is left of the drawing: the mean of each square of pixels. */
  const known = () => shrink(controls.pad.read(page.about), Number(controls.factor.value), page.about.side);

  /** A picture to make a hole in: the one that was drawn last, or one drawn for this. */
  async function whole() {
    let image = null;
    const what = page.about.vocabulary ? "a red six left of a blue boot on white" : Math.min(3, page.about.classes.length - 1);
    await lab.run({ model: model.value, what, gamma: 2, seed: 3, eta: 0, sampler: "ddim", steps: 20 }, (state) => (image = state.x));
    return image;
  }

  async function costs() {
    const { about } = page;
    const table = make("table", { className: "lab-costs" }, make("caption", { textContent: "The same noise; above, the evaluations of the denoiser" }));
    table.append(make("tr", {}, make("td"), ...COSTS.map((n) => make("th", { scope: "col", textContent: n }))));
    board.replaceChildren(table);
    const total = { ms: 0, evaluations: 0 };
    for (const [sampler, name] of Object.entries(SAMPLERS)) {
      const row = make("tr", {}, make("th", { scope: "row", textContent: name }));
      table.append(row);
      for (const n of COSTS) {
        const canvas = make("canvas", { className: "lab-picture", role: "img", "aria-label": `${name}, ${n} evaluations` });
        const steps = sampler === "heun" ? { 2: 2, 4: 3, 6: 4, 10: 6, 20: 12, 50: 25 }[n] : n;
        let last = null;
        const found = await lab.run(order({ sampler, steps }), (state) => (last = state.x));
        if (!table.isConnected) return;
        paint(canvas, last, about);
        row.append(make("td", {}, canvas));
        total.ms += found.ms;
        total.evaluations += found.evaluations;
        status.textContent = speed(total);
      }
    }
    status.dataset.done = String(Number(status.dataset.done ?? 0) + 1);
  }

  change();
}

const root = document.getElementById("lab");
if (root) start(root);
