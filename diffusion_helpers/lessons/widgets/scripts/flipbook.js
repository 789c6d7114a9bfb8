// Sliders over pictures that are all here already. Nothing is asked of a kernel.
// data-lm-suppress-shortcuts: without it JupyterLab takes the arrow keys for itself.

const FRAME_MS = 120;

function slider(label, values, onMove) {
  const row = document.createElement("div");
  row.style.cssText = "display:flex; align-items:center; gap:8px; margin:2px 0";
  const name = document.createElement("label");
  name.style.cssText = "min-width:170px";
  name.textContent = label;
  const input = document.createElement("input");
  Object.assign(input, { type: "range", min: 0, max: values.length - 1, step: 1 });
  input.style.cssText = "width:240px";
  input.setAttribute("data-lm-suppress-shortcuts", "true");
  input.setAttribute("aria-label", label);
  const shown = document.createElement("output");
  shown.style.cssText = "min-width:48px";
  input.addEventListener("input", () => onMove(Number(input.value)));
  row.append(name, input, shown);
  const show = (i) => {
    input.value = i;
    input.setAttribute("aria-valuetext", values[i]);
    shown.textContent = values[i];
  };
  return { row, show };
}

function render({ model, el }) {
  const axes = model.get("axes");
  const picture = document.createElement("img");
  picture.style.cssText = "max-width:100%; display:block; margin-top:4px";

  const index = () =>
    model.get("place").reduce((sum, i, k) => sum * axes[k].values.length + i, 0);
  const move = (k, i) => {
    const place = [...model.get("place")];
    place[k] = i;
    model.set("place", place);
    model.save_changes();
  };

  const sliders = axes.map((axis, k) =>
    slider(axis.label, axis.values, (i) => { stop(); move(k, i); })
  );
  const play = document.createElement("button");
  play.setAttribute("data-lm-suppress-shortcuts", "true");
  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "▶ play";
  };
  const next = () => {
    const i = model.get("place")[0] + 1;
    if (i < axes[0].values.length) move(0, i);
    else stop();
  };
  play.addEventListener("click", () => {
    if (timer !== null) return stop();
    if (model.get("place")[0] === axes[0].values.length - 1) move(0, 0);
    timer = setInterval(next, FRAME_MS);
    play.textContent = "◼ stop";
  });
  stop();
  sliders[0].row.append(play);

  const draw = () => {
    const place = model.get("place");
    sliders.forEach(({ show }, k) => show(place[k]));
    picture.src = "data:image/png;base64," + model.get("pictures")[index()];
    picture.alt = axes.map((axis, k) => `${axis.label}: ${axis.values[place[k]]}`).join(", ");
  };
  model.on("change:place", draw);
  draw();
  el.append(...sliders.map(({ row }) => row), picture);
  return () => {
    stop();
    model.off("change:place", draw);
  };
}

export default { render };
