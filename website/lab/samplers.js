// The samplers and edits of diffusion_helpers in plain JavaScript; names and formulas are those of the package.
//
// An image is a Float32Array of C·H·W numbers in [-1, 1]. A network is an async function (xs, ys, level) that answers
// several images at one level with as many estimates of x0. A denoiser is an async function (x, level) to one such.

const onFlow = (t) => ({ t, alpha: 1 - t, sigma: t });
const entryOf = (schedule, entry) => ({
  t: entry / (schedule.alpha.length - 1),
  alpha: schedule.alpha[entry],
  sigma: schedule.sigma[entry],
});

/** The steps + 1 levels of a run, from t = 1 down to 0: of the flow, or stored ones of a table. */
export function grid(schedule, steps) {
  if (!schedule.alpha) return Array.from({ length: steps + 1 }, (_, i) => onFlow(1 - i / steps));
  if (!schedule.grids[steps]) throw new Error(`${steps} steps: expected one of ${Object.keys(schedule.grids)}`);
  return schedule.grids[steps].map((entry) => entryOf(schedule, entry));
}

/** a·x + b·y, number by number. */
export function mix(a, x, b, y) {
  const out = new Float32Array(x.length);
  for (let i = 0; i < x.length; i++) out[i] = a * x[i] + b * y[i];
  return out;
}

/** The estimate of x0 that a prediction of this kind stands for. */
export function toX0(kind, prediction, x, { alpha, sigma }) {
  const [c0, c1] = { eps: [0, 1], x0: [1, 0], v: [-sigma, alpha], flow: [-1, 1] }[kind];
  if (kind === "x0") return prediction;
  const determinant = alpha * c1 - sigma * c0;
  return mix(c1 / determinant, x, -sigma / determinant, prediction);
}

/** The noise estimate that goes with x0; 0 at sigma = 0. */
export function epsOf({ x, x0, level }) {
  if (level.sigma === 0) return new Float32Array(x.length);
  return mix(1 / level.sigma, x, -level.alpha / level.sigma, x0);
}

/** Standard normal numbers, the same for the same seed: mulberry32 and Box-Muller. */
export function gaussian(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let n = Math.imul(state ^ (state >>> 15), 1 | state);
    n = (n + Math.imul(n ^ (n >>> 7), 61 | n)) ^ n;
    return ((n ^ (n >>> 14)) >>> 0) / 4294967296;
  };
  return (length) =>
    Float32Array.from({ length }, () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()));
}

const transitionStd = (at, to) =>
  Math.sqrt(Math.max(0, at.sigma ** 2 - ((at.alpha / to.alpha) * to.sigma) ** 2));

/** The image at the lower level `to`; eta = 0 keeps the estimated noise, 1 replaces it as DDPM does. */
export function move(d, to, eta = 0, normal = null) {
  const eps = epsOf(d);
  if (eta === 0) return mix(to.alpha, d.x0, to.sigma, eps);
  const fresh = ((eta * to.sigma) / d.level.sigma) * transitionStd(d.level, to);
  const kept = Math.sqrt(Math.max(0, to.sigma ** 2 - fresh ** 2));
  return mix(1, mix(to.alpha, d.x0, kept, eps), to.sigma > 0 ? fresh : 0, normal(d.x.length));
}

const asked = async (denoise, x, level) => ({ x, x0: await denoise(x, level), level });
const logRatio = (level) => Math.log(level.alpha / level.sigma);

// Each takes (denoise, x, at, to, previous, { eta, normal }) to the image at `to` and the answer at `at`.
export const STEPS = {
  async ddim(denoise, x, at, to, previous, { eta = 0, normal }) {
    const d = await asked(denoise, x, at);
    return [move(d, to, eta, normal), d];
  },
  async ddpm(denoise, x, at, to, previous, { normal }) {
    const d = await asked(denoise, x, at);
    return [move(d, to, 1, normal), d];
  },
  async heun(denoise, x, at, to) {
    const d = await asked(denoise, x, at);
    const guess = move(d, to);
    if (!(at.alpha > 0 && to.sigma > 0)) return [guess, d];
    const eps = mix(0.5, epsOf(d), 0.5, epsOf(await asked(denoise, guess, to)));
    return [move({ x, x0: mix(1 / at.alpha, x, -at.sigma / at.alpha, eps), level: at }, to), d];
  },
  async dpmpp_2m(denoise, x, at, to, previous) {
    const d = await asked(denoise, x, at);
    if (!previous) return [move(d, to), d];
    const [before, now, after] = [previous.level, at, to].map(logRatio);
    const ahead = to.sigma > 0 ? (after - now) / (now - before) / 2 : 0; // 0 too where previous had no signal
    return [move({ x, x0: mix(1 + ahead, d.x0, -ahead, previous.x0), level: at }, to), d];
  },
};

/** Walks x down the levels, yielding the state at each: {x, x0, level}. The last has x0 = x. */
export async function* sample(denoise, x, levels, step, options = {}) {
  let previous = null;
  for (let i = 0; i + 1 < levels.length; i++) {
    const [following, d] = await step(denoise, x, levels[i], levels[i + 1], previous, options);
    yield d;
    [x, previous] = [following, d];
  }
  yield { x, x0: x, level: levels.at(-1) };
}

/** Guidance: on the line from the answer to u (gamma = 0) through that to c (1), and beyond. */
export function guide(network, c, u, gamma) {
  return async (x, level) => {
    if (gamma === 0 || gamma === 1) return (await network([x], [gamma ? c : u], level))[0];
    const [to, base] = await network([x, x], [c, u], level);
    return mix(gamma, to, 1 - gamma, base);
  };
}

/** One denoiser at times low <= t <= high, another before and after. */
export const during = (inside, outside, low, high) => (x, level) =>
  (low <= level.t && level.t <= high ? inside : outside)(x, level);

/** Keeps `image` where the mask, one number a pixel, is 0, and fills in where it is 1. */
export function inpaint(denoise, image, mask) {
  return async (x, level) => {
    const x0 = await denoise(x, level);
    return x0.map((value, i) => (mask[i % mask.length] ? value : image[i]));
  };
}

/** The mean of every factor × factor pixels. */
export function shrink(x, factor, side) {
  const small = side / factor;
  const out = new Float32Array(x.length / factor ** 2);
  for (let i = 0; i < x.length; i++) {
    const [channel, row, column] = [Math.floor(i / side ** 2), Math.floor(i / side) % side, i % side];
    const at = channel * small ** 2 + Math.floor(row / factor) * small + Math.floor(column / factor);
    out[at] += x[i] / factor ** 2;
  }
  return out;
}

/** Keeps the mean of every factor × factor pixels as in `small`. */
export function upscale(denoise, small, factor, side) {
  return async (x, level) => {
    const x0 = await denoise(x, level);
    const off = mix(1, small, -1, shrink(x0, factor, side));
    const few = side / factor;
    return x0.map((value, i) => {
      const [channel, row, column] = [Math.floor(i / side ** 2), Math.floor(i / side) % side, i % side];
      return value + off[channel * few ** 2 + Math.floor(row / factor) * few + Math.floor(column / factor)];
    });
  };
}

/** Gaussian blur, sigma in pixels, mirrored at the edge. */
export function blur(x, sigma, side) {
  const reach = Math.ceil(3 * sigma);
  const kernel = Float64Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-((i - reach) ** 2) / (2 * sigma ** 2)));
  const total = kernel.reduce((sum, weight) => sum + weight);
  const mirrored = (place) => (place < 0 ? -place : place >= side ? 2 * (side - 1) - place : place);
  const along = (source, step) => {
    const out = new Float32Array(source.length);
    for (let i = 0; i < source.length; i++) {
      const place = Math.floor(i / step) % side;
      let sum = 0;
      for (let k = -reach; k <= reach; k++) sum += kernel[k + reach] * source[i + (mirrored(place + k) - place) * step];
      out[i] = sum / total;
    }
    return out;
  };
  return along(along(x, 1), side);
}

/** The low frequencies of one denoiser's estimate, and the high ones of another's; sigma, in pixels, divides them. */
export function hybrid(far, near, sigma, side) {
  return async (x, level) => {
    const [low, high] = [await far(x, level), await near(x, level)];
    return mix(1, mix(1, blur(low, sigma, side), 1, high), -1, blur(high, sigma, side));
  };
}

/** Where to begin from an image: with the noise of time t, and the levels below. */
export function sdedit(image, levels, t, eps) {
  const below = levels.filter((level) => level.t <= t + 1e-9);
  return [mix(below[0].alpha, image, below[0].sigma, eps), below];
}

const moved = (place) => (x, side) => {
  const out = new Float32Array(x.length), area = side * side;
  for (let start = 0; start < x.length; start += area)
    for (let row = 0; row < side; row++)
      for (let column = 0; column < side; column++) {
        const [r, c] = place(row, column, side - 1);
        out[start + row * side + column] = x[start + r * side + c];
      }
  return out;
};
const upright = moved((row, column) => [row, column]);
const halfTurn = moved((row, column, last) => [last - row, last - column]);
const flip = moved((row, column, last) => [last - row, column]);

// How an image is looked at, and the way back.
export const VIEWS = {
  upright: { look: upright, back: upright },
  "half turn": { look: halfTurn, back: halfTurn },
  flip: { look: flip, back: flip },
  "quarter turn": {
    look: moved((row, column, last) => [column, last - row]),
    back: moved((row, column, last) => [last - column, row]),
  },
};

/** One image that each denoiser sees through its view: the mean of their estimates, each brought back. */
export function anagram(denoisers, views, side) {
  return async (x, level) => {
    let sum = new Float32Array(x.length);
    for (const [i, denoise] of denoisers.entries()) {
      const seen = await denoise(views[i].look(x, side), level);
      sum = mix(1, sum, 1 / denoisers.length, views[i].back(seen, side));
    }
    return sum;
  };
}
