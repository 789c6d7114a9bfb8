// What the pages of the laboratory are put together from.

/** An element with properties, attributes (with a dash) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties))
    if (name.includes("-") || name === "for" || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  element.append(...children);
  return element;
}

let names = 0;
/** A labelled control: the control and the row that holds it. */
export function labelled(text, control, ...more) {
  control.id ||= `lab-${++names}`;
  return make("div", { className: "lab-row" }, make("label", { for: control.id, textContent: text }), control, ...more);
}

export function slider(text, { min, max, step, value }, show, changed) {
  const input = make("input", { type: "range", min, max, step, value });
  const output = make("output", { textContent: show(value) });
  input.addEventListener("input", () => {
    output.textContent = show(Number(input.value));
    changed();
  });
  const row = labelled(text, input, output);
  const set = (value) => {
    input.value = value;
    output.textContent = show(Number(input.value));
  };
  return { row, set, get value() { return Number(input.value); } };
}

/** One of several, as a group of radio buttons that look like keys. */
export function choice(legend, options, value, changed) {
  const group = make("fieldset", { className: "lab-choice" }, make("legend", { textContent: legend }));
  const name = `lab-${++names}`;
  for (const [key, text] of Object.entries(options)) {
    const input = make("input", { type: "radio", name, value: key, checked: key === String(value) });
    input.addEventListener("change", changed);
    group.append(make("label", {}, input, make("span", { textContent: text })));
  }
  return { row: group, get value() { return group.querySelector("input:checked")?.value ?? null; } };
}

export function list(text, options, value, changed) {
  const select = make("select");
  for (const [key, title] of Object.entries(options)) select.append(make("option", { value: key, textContent: title }));
  select.value = value;
  select.addEventListener("change", changed);
  return { row: labelled(text, select), set: (key) => (select.value = key), get value() { return select.value; } };
}
