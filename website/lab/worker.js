// The networks, off the page's own thread. In: {id, load}, {id, run}, {stop}. Out: {id, about}, {id, state},
// {id, done}, {id, error}.

import * as ort from "./ort/ort.wasm.min.mjs";
import * as samplers from "./samplers.js";

ort.env.wasm.numThreads = 1; // more would need headers that a static host does not send
ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;

const models = new Map();
let current = null; // the id of the run that is wanted

const address = (file) => new URL(`./models/${file}`, import.meta.url).href;

async function load(name) {
  const about = await (await fetch(address(`${name}.json`))).json();
  const session = await ort.InferenceSession.create(address(`${name}.onnx`));
  const reader = about.vocabulary ? await ort.InferenceSession.create(address(`${name}.words.onnx`)) : null;
  return { about, session, reader };
}

function loaded(name) {
  if (!models.has(name)) {
    const loading = load(name);
    loading.catch(() => models.delete(name)); // so that it can be tried again
    models.set(name, loading);
  }
  return models.get(name);
}

/** A caption as numbers. Throws an error that names the word that is not known. */
function tokens(caption, { vocabulary, length }) {
  const words = caption.toLowerCase().replace(/[^\p{L}\p{N}_\s]/gu, " ").split(/\s+/).filter(Boolean);
  const unknown = words.find((word) => !vocabulary.includes(word));
  if (unknown) throw new Error(`The model does not know the word “${unknown}”.`);
  if (words.length > length) throw new Error(`${words.length} words: the model reads at most ${length}.`);
  const row = new BigInt64Array(length);
  words.forEach((word, i) => (row[i] = BigInt(vocabulary.indexOf(word))));
  return row;
}

/** What the network is given for a class (null: none) or a caption. */
async function condition({ about, reader }, what) {
  if (reader) {
    const row = new ort.Tensor("int64", tokens(what ?? "", about), [1, about.length]);
    return (await reader.run({ tokens: row })).out.data;
  }
  const row = new Float32Array(about.classes.length);
  if (what !== null && row.length) row[what] = 1;
  return row;
}

function network({ about, session }, count) {
  const shape = [about.channels, about.side, about.side];
  return async (xs, ys, level) => {
    const stack = (parts, dims) => {
      const all = new Float32Array(parts.length * parts[0].length);
      parts.forEach((part, i) => all.set(part, i * part.length));
      return new ort.Tensor("float32", all, [parts.length, ...dims]);
    };
    const given = { x: stack(xs, shape), t: new ort.Tensor("float32", Float32Array.from(xs, () => level.t), [xs.length]) };
    if (ys[0].length) given.y = stack(ys, about.vocabulary ? [about.length, ys[0].length / about.length] : [ys[0].length]);
    const { data } = (await session.run(given)).out;
    count.evaluations += xs.length;
    return xs.map((x, i) => samplers.toX0(about.kind, data.subarray(i * x.length, (i + 1) * x.length), x, level));
  };
}

// Lets messages in, a newer run among them, without the 4 ms that a timer would wait.
const pause = () =>
  new Promise((go) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => { port1.close(); go(); };
    port2.postMessage(0);
  });

async function run(id, order) {
  current = id;
  const model = await loaded(order.model);
  const { about } = model;
  const size = about.channels * about.side ** 2;
  const count = { evaluations: 0 };
  const net = network(model, count);
  const normal = samplers.gaussian(order.seed);
  const none = await condition(model, null);
  const [low, high] = order.interval ?? [0, 1];
  const guided = async (what) => {
    const c = await condition(model, what);
    const inside = samplers.guide(net, c, none, about.classes.length || about.vocabulary ? order.gamma : 0);
    return samplers.during(inside, samplers.guide(net, c, none, 1), low, high);
  };
  let denoise = await guided(order.what);
  if (order.blur) denoise = samplers.hybrid(denoise, await guided(order.second), order.blur, about.side);
  if (order.view) {
    const views = [samplers.VIEWS.upright, samplers.VIEWS[order.view]];
    denoise = samplers.anagram([denoise, await guided(order.second)], views, about.side);
  }
  if (order.mask) denoise = samplers.inpaint(denoise, order.image, order.mask);
  if (order.small) denoise = samplers.upscale(denoise, order.small, order.factor, about.side);
  let levels = samplers.grid(about.schedule, order.steps);
  let x = order.noise ?? normal(size);
  if (order.image && !order.mask) [x, levels] = samplers.sdedit(order.image, levels, order.from, x);
  const began = performance.now();
  let i = 0;
  for await (const d of samplers.sample(denoise, x, levels, samplers.STEPS[order.sampler], { eta: order.eta, normal })) {
    if (current !== id) return;
    postMessage({ id, state: { i, of: levels.length - 1, t: d.level.t, x: d.x, x0: d.x0, eps: samplers.epsOf(d) } });
    i += 1;
    await pause();
  }
  postMessage({ id, done: { ms: performance.now() - began, evaluations: count.evaluations } });
}

onmessage = async ({ data }) => {
  try {
    if (data.stop) current = null;
    if (data.load) postMessage({ id: data.id, about: (await loaded(data.load)).about });
    if (data.run) await run(data.id, data.run);
  } catch (error) {
    postMessage({ id: data.id, error: error.message });
  }
};
