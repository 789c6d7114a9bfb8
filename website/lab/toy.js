// The density of three lumps on a line that returns in the lessons: its exact denoiser, walks with it, and where they end.

import { list, make, slider } from "./controls.js";
import { STEPS, gaussian, grid, guide, sample } from "./samplers.js";

const WEIGHTS = [0.5, 0.3, 0.2], MEANS = [-1, 0.9, 0.2], STDS = [0.3, 0.2, 0.25];
const FLOW = { name: "flow" };
const COUNT = 3000, SHOWN = 24, SPAN = 2.6;
const ORANGE = "#d55e00", PALE = "#56b4e9", GREY = "#444";

/** log p(x, lump) of a number x at a level, for each lump. */
const parts = (x, { alpha, sigma }) =>
  WEIGHTS.map((weight, k) => {
    const variance = (alpha * STDS[k]) ** 2 + sigma ** 2;
    return Math.log(weight / Math.sqrt(2 * Math.PI * variance)) - (x - alpha * MEANS[k]) ** 2 / (2 * variance);
  });

const logSum = (logs) => {
  const top = Math.max(...logs);
  return top + Math.log(logs.reduce((sum, log) => sum + Math.exp(log - top), 0));
};

/** E[x0 | x], or E[x0 | x, y] for a label y, of each number; a network as samplers.js has them. */
export async function network(xs, ys, level) {
  const { alpha, sigma } = level;
  const lumps = MEANS.map((mean, k) => {
    const variance = (alpha * STDS[k]) ** 2 + sigma ** 2;
    return { mean, pull: (alpha * STDS[k] ** 2) / variance, weight: WEIGHTS[k] / Math.sqrt(variance), twice: 2 * variance };
  });
  return xs.map((x, i) => {
    const fitting = ys[i] === null ? lumps : [lumps[ys[i]]];
    return x.map((value) => {
      let sum = 0, total = 0;
      for (const { mean, pull, weight, twice } of fitting) {
        const off = value - alpha * mean, share = weight * Math.exp((-off * off) / twice);
        sum += share * (mean + pull * off);
        total += share;
      }
      return sum / total;
    });
  });
}

/** The density at even places, proportional to p(x) p(y | x)^gamma: its sum times the distance of two places is 1. */
export function density(places, level, label, gamma) {
  const logs = places.map((x) => {
    const joint = parts(x, level), log = logSum(joint);
    return label === null ? log : log + gamma * (joint[label] - log);
  });
  const total = logSum(logs);
  return logs.map((log) => Math.exp(log - total) / (places[1] - places[0]));
}

/** COUNT walks from always the same noise: [{t, x}], from t = 1 to 0. */
export async function walks({ steps, label, gamma, eta }) {
  const denoise = guide(network, label, null, label === null ? 0 : gamma);
  const normal = gaussian(0), states = [];
  for await (const d of sample(denoise, normal(COUNT), grid(FLOW, steps), STEPS.ddim, { eta, normal }))
    states.push({ t: d.level.t, x: d.x });
  return states;
}

/** Where the walks are at time t: between two steps of this path they go straight. */
function at(states, t) {
  const after = states.findIndex((state) => state.t <= t);
  if (after <= 0) return states[0].x;
  const [from, to] = [states[after - 1], states[after]];
  const share = (from.t - t) / (from.t - to.t);
  return from.x.map((x, i) => x + share * (to.x[i] - x));
}

const even = (n) => Array.from({ length: n }, (_, i) => -SPAN + (2 * SPAN * i) / (n - 1));

function picture(canvas, states, { t, label, gamma }) {
  const context = canvas.getContext("2d");
  const [left, right, gap, height] = [500, 320, 40, 320]; // of two panels beside each other
  const y = (x) => ((SPAN - x) / (2 * SPAN)) * height;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.setTransform(1, 0, 0, 1, 30, 24);
  const rows = even(131), columns = 101, shade = context.createImageData(columns, rows.length);
  for (let i = 0; i < columns; i++) {
    const time = 1 - i / (columns - 1);
    density(rows, { alpha: 1 - time, sigma: time }, label, gamma).forEach((p, row) => {
      const place = 4 * ((rows.length - 1 - row) * columns + i), share = Math.min(1, p / 1.2);
      shade.data.set([255 - 247 * share, 255 - 207 * share, 255 - 148 * share, 255], place);
    });
  }
  const small = make("canvas", { width: columns, height: rows.length });
  small.getContext("2d").putImageData(shade, 0, 0);
  context.drawImage(small, 0, 0, left, height);
  const line = (points, colour, width) => {
    Object.assign(context, { strokeStyle: colour, lineWidth: width });
    context.beginPath();
    points.forEach(([px, py], i) => (i ? context.lineTo(px, py) : context.moveTo(px, py)));
    context.stroke();
  };
  context.save();
  context.beginPath();
  context.rect(0, 0, left, height);
  context.clip();
  for (let i = 0; i < SHOWN; i++) line(states.map((state) => [(1 - state.t) * left, y(state.x[i])]), "#b0487fb0", 1);
  line([[(1 - t) * left, 0], [(1 - t) * left, height]], ORANGE, 2);
  context.restore();
  const start = left + gap, bins = 65, counts = new Array(bins).fill(0);
  for (const x of at(states, t)) {
    const bin = Math.floor(((x + SPAN) / (2 * SPAN)) * bins);
    if (bin >= 0 && bin < bins) counts[bin] += 1;
  }
  const wide = (p) => start + Math.min(1, p / 2.2) * right;
  context.fillStyle = PALE;
  counts.forEach((count, bin) => {
    const p = (count * bins) / (COUNT * 2 * SPAN);
    context.fillRect(start, height - ((bin + 1) * height) / bins, wide(p) - start, height / bins);
  });
  const fine = even(261);
  line(density(fine, { alpha: 1 - t, sigma: t }, label, gamma).map((p, i) => [wide(p), y(fine[i])]), ORANGE, 2);
  line([[0, 0], [0, height], [left, height]], GREY, 1);
  line([[start, 0], [start, height], [start + right, height]], GREY, 1);
  Object.assign(context, { fillStyle: GREY, font: "15px sans-serif", textAlign: "left" });
  context.fillText("noise, t = 1", 0, height + 20);
  const name = label === null ? "p(x)" : `p(x) p(${label} | x)^${gamma}`;
  context.fillText(`t = ${t.toFixed(2)}: ${COUNT.toLocaleString("en")} walks; line: ${name}`, start, -8);
  context.fillText(`${SHOWN} walks, x over time`, 0, -8);
  context.textAlign = "right";
  context.fillText("data, t = 0", left, height + 20);
  for (const x of [-2, -1, 0, 1, 2]) context.fillText(x, -6, y(x) + 5);
}

function start(root) {
  const canvas = make("canvas", {
    className: "lab-toy", width: 910, height: 376, role: "img",
    "aria-label": "Walks from noise to data through the density of the toy, and how they are spread at one time",
  });
  const status = make("p", { className: "lab-status", role: "status" });
  const settings = make("div", { className: "lab-settings" });
  let states = null, wanted = 0;
  const label = () => (controls.label.value === "any" ? null : Number(controls.label.value));
  const show = () => states && picture(canvas, states, { t: controls.t.value, label: label(), gamma: controls.gamma.value });
  async function go() {
    const mine = ++wanted, began = performance.now();
    controls.gamma.row.querySelector("input").disabled = label() === null;
    const found = await walks({ steps: controls.steps.value, label: label(), gamma: controls.gamma.value, eta: controls.eta.value });
    if (mine !== wanted) return;
    states = found;
    show();
    status.textContent = `${COUNT.toLocaleString("en")} walks of ${controls.steps.value} steps in ${(performance.now() - began).toFixed(0)} ms on this device.`;
    status.dataset.done = String(Number(status.dataset.done ?? 0) + 1);
  }
  const lumps = Object.fromEntries(MEANS.map((mean, k) => [k, `${k}, the lump at ${mean}`]));
  const controls = {
    t: slider("time t", { min: 0, max: 1, step: 0.05, value: 0 }, (t) => t.toFixed(2), show),
    steps: slider("steps", { min: 1, max: 60, step: 1, value: 4 }, String, go),
    eta: slider("fresh noise η", { min: 0, max: 1, step: 0.1, value: 0 }, (eta) => eta.toFixed(1), go),
    label: list("label", { any: "any", ...lumps }, "any", go),
    gamma: slider("guidance γ", { min: 0, max: 5, step: 0.5, value: 1 }, (gamma) => gamma.toFixed(1), go),
  };
  settings.append(...Object.values(controls).map((control) => control.row));
  root.replaceChildren(settings, canvas, status);
  const seen = new IntersectionObserver((entries) => { // the first digit above comes before what nobody looks at yet
    if (!entries.some((entry) => entry.isIntersecting)) return;
    seen.disconnect();
    go();
  });
  seen.observe(root);
}

const root = document.getElementById("toy");
if (root) start(root);
