// The page's side of worker.js: one run at a time, a newer one takes the place of an older.

export class Laboratory {
  constructor() {
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.waiting = new Map();
    this.last = 0;
    this.worker.onmessage = ({ data }) => this.waiting.get(data.id)?.(data);
    this.worker.onerror = (event) => this.waiting.forEach((hear, id) => hear({ id, error: event.message ?? "no worker" }));
  }

  send(message, hear) {
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, (answer) => {
        if (answer.state) return hear(answer.state);
        this.waiting.delete(id);
        if (answer.error) reject(new Error(answer.error));
        else resolve(answer.about ?? answer.done);
      });
      this.worker.postMessage({ id, ...message });
    });
  }

  /** What there is to know of a model, once it is here. */
  load(name) {
    return this.send({ load: name });
  }

  /** Draw; `hear` is called with the state at each level. Resolves to {ms, evaluations}; never, if a newer run began. */
  run(order, hear) {
    this.waiting.delete(this.running);
    const found = this.send({ run: order }, hear);
    this.running = this.last;
    return found;
  }

  stop() {
    this.worker.postMessage({ stop: true });
  }
}
