// A square to draw on with mouse, pen or finger. The 28x28 picture is sent once per stroke, as base64 text.
// With a picture underneath it is a mask that is drawn, in orange over the picture.

const SIDE = 280, PIXELS = 28, PEN = 24, WHITE = [255, 255, 255], ORANGE = [230, 159, 0];

function render({ model, el }) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  const mask = model.get("under") !== "", ink = mask ? ORANGE : WHITE;
  canvas.setAttribute(
    "aria-label",
    mask
      ? "Mask. Paint over what shall be drawn anew, with the mouse or a finger."
      : "Drawing pad. Draw a digit with the mouse or a finger, or paste a picture.",
  );
  canvas.style.cssText =
    "border:1px solid #888; touch-action:none; cursor:crosshair; display:block; " +
    "background:black center/cover; image-rendering:pixelated";
  const big = canvas.getContext("2d");
  Object.assign(big, { lineWidth: PEN, lineCap: "round", lineJoin: "round", strokeStyle: `rgb(${ink})` });
  const small = document.createElement("canvas");
  small.width = small.height = PIXELS;
  const tiny = small.getContext("2d", { willReadFrequently: true });
  tiny.imageSmoothingQuality = "high";

  const clear = () => {
    big.clearRect(0, 0, SIDE, SIDE);
    if (mask) return;
    big.fillStyle = "black";
    big.fillRect(0, 0, SIDE, SIDE);
  };
  let sent = null;
  const send = () => {
    tiny.clearRect(0, 0, PIXELS, PIXELS);
    tiny.drawImage(canvas, 0, 0, PIXELS, PIXELS);
    const { data } = tiny.getImageData(0, 0, PIXELS, PIXELS);
    let text = "";
    for (let i = 0; i < data.length; i += 4)
      text += String.fromCharCode(mask ? data[i + 3] : Math.round((data[i] + data[i + 1] + data[i + 2]) / 3));
    sent = btoa(text);
    model.set("value", sent);
    model.save_changes();
  };
  // Puts a picture, 784 grey values as base64 text, on the small canvas; false when it is something else.
  const unpack = (value, colour) => {
    const text = atob(value);
    if (text.length !== PIXELS * PIXELS) return false;
    const image = tiny.createImageData(PIXELS, PIXELS);
    for (let i = 0; i < text.length; i++) image.data.set([...colour, text.charCodeAt(i)], 4 * i);
    tiny.putImageData(image, 0, 0);
    return true;
  };
  const receive = () => {
    if (model.get("value") === sent) return;
    clear();
    if (!unpack(model.get("value"), ink)) return;
    big.imageSmoothingEnabled = false;
    big.drawImage(small, 0, 0, SIDE, SIDE);
  };
  const lay = () => {
    if (mask && unpack(model.get("under"), WHITE)) canvas.style.backgroundImage = `url(${small.toDataURL()})`;
  };

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * SIDE) / box.width, ((event.clientY - box.top) * SIDE) / box.height];
  };
  let drawing = false;
  canvas.addEventListener("pointerdown", (event) => {
    drawing = true;
    canvas.setPointerCapture(event.pointerId);
    big.beginPath();
    big.moveTo(...at(event));
    big.lineTo(...at(event));
    big.stroke();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drawing) return;
    big.lineTo(...at(event));
    big.stroke();
  });
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, () => {
      if (drawing) send();
      drawing = false;
    });

  // A picture from elsewhere is fitted in; on light paper it is turned into white on black.
  const load = async (file) => {
    const picture = await createImageBitmap(file);
    const scale = SIDE / Math.max(picture.width, picture.height);
    const [w, h] = [picture.width * scale, picture.height * scale];
    clear();
    big.imageSmoothingEnabled = true;
    big.drawImage(picture, (SIDE - w) / 2, (SIDE - h) / 2, w, h);
    const [left, top] = [Math.ceil((SIDE - w) / 2), Math.ceil((SIDE - h) / 2)];
    const corner = big.getImageData(left + 2, top + 2, 1, 1).data;
    if (corner[0] + corner[1] + corner[2] > 384) {
      big.globalCompositeOperation = "difference";
      big.fillStyle = "white";
      big.fillRect(left, top, w, h);
      big.globalCompositeOperation = "source-over";
    }
    send();
  };
  if (!mask) canvas.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((f) => f.type.startsWith("image/"));
    if (file) load(file);
  });

  const wipe = document.createElement("button");
  wipe.textContent = "clear";
  wipe.addEventListener("click", () => { clear(); send(); });
  const buttons = document.createElement("div");
  buttons.style.cssText = "display:flex; gap:8px; margin:4px 0";
  buttons.append(wipe);
  if (!mask) {
    const upload = document.createElement("input");
    Object.assign(upload, { type: "file", accept: "image/*" });
    upload.setAttribute("aria-label", "a picture of a digit");
    upload.addEventListener("change", () => upload.files[0] && load(upload.files[0]));
    buttons.append(upload);
  }

  clear();
  lay();
  receive();
  model.on("change:value", receive);
  model.on("change:under", lay);
  el.append(canvas, buttons);
  return () => {
    model.off("change:value", receive);
    model.off("change:under", lay);
  };
}

export default { render };
