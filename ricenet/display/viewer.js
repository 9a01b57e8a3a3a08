// Brings the viewer of a page to life: reads #viewer-data, draws with NiiVue, obeys the controls of viewer.html.j2.
// document.body.dataset.viewer says how far it is: "ready" once the first frame is drawn, "failed" if it cannot be.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const form = document.getElementById("viewer");
  const canvas = document.getElementById("viewer-slices");
  const message = document.getElementById("viewer-message");
  // On screen, left is the patient's right, which is up the first axis of RAS+.
  const STEPS = {
    ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0],
    PageUp: [0, 0, 1], PageDown: [0, 0, -1],
  };
  const viewer = new niivue.Niivue({
    isRadiologicalConvention: true,
    sagittalNoseLeft: true,
    isSliceMM: false,
    multiplanarShowRender: niivue.SHOW_RENDER.NEVER,
    multiplanarLayout: niivue.MULTIPLANAR_TYPE.AUTO,
    multiplanarPadPixels: 8,
    tileMargin: -1, // room for the names of the sides
    crosshairColor: [1, 1, 1, 0.9],
    crosshairWidth: 0.5,
    crosshairGap: 16,
    showAllOrientationMarkers: true,
    fontColor: [1, 1, 1, 1],
    dragAndDropEnabled: false,
    clipPlaneHotKey: "",
    cycleClipPlaneHotKey: "",
    viewModeHotKey: "",
    loadingText: "",
    logLevel: "error",
  });
  const volumes = {}; // by layer: what holds the values, for a dose and for masks never drawn itself
  const contours = {}; // by dose: its isodoses; by masks: their outlines

  function channels(colour) {
    return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  }

  // A colour map of NiiVue: colours at indices 0 to 255, clear at 0 only.
  function colourMap(stops) {
    const colours = stops.map((stop) => channels(stop.colour));
    return {
      R: [0, ...colours.map((one) => one[0])],
      G: [0, ...colours.map((one) => one[1])],
      B: [0, ...colours.map((one) => one[2])],
      A: [0, ...colours.map(() => 255)],
      I: [0, ...stops.map((stop) => stop.index)],
    };
  }

  // The index of the first is 1 or, where codes from 1 upwards are shown, that of the first code.
  function evenly(colours, first = 1) {
    const step = colours.length > 1 ? (255 - first) / (colours.length - 1) : 0;
    return colourMap(colours.map((colour, at) => ({ colour, index: Math.round(first + step * at) })));
  }

  function addColours() {
    viewer.addColormap("above", evenly(data.map_colours.above));
    viewer.addColormap("below", evenly(data.map_colours.below));
    viewer.addColormap("isodoses", evenly(data.isodoses.map((one) => one.colour), 255 / data.isodoses.length));
    for (const layer of data.layers.filter((one) => one.kind === "masks")) {
      viewer.addColormap("outlines", evenly(layer.colours, 255 / layer.colours.length));
    }
  }

  async function add(name, base64, appearance) {
    const volume = await niivue.NVImage.loadFromBase64({ base64, name: `${name}.nii.gz`, opacity: 0, ...appearance });
    viewer.addVolume(volume);
    return volume;
  }

  function look(layer) {
    if (layer.kind !== "map") return { colormap: "gray", cal_min: layer.low, cal_max: layer.high };
    const limit = Math.max(Math.abs(layer.low), Math.abs(layer.high));
    return {
      colormap: "above", cal_min: data.shown_share * limit, cal_max: limit,
      colormapNegative: "below", cal_minNeg: -limit, cal_maxNeg: -data.shown_share * limit,
    };
  }

  function written(value, decimals) {
    const text = value.toFixed(decimals);
    return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "\u2212");
  }

  function reading(layer, value) {
    // A masked voxel is stored below the lowest value of all others.
    if (layer.kind === "masks") return layer.names.filter((_, bit) => (Math.round(value) >> bit) & 1).join(", ") || "none";
    if (layer.masked !== null && Math.abs(value - layer.masked) < 1e-4) return "outside the brain";
    return written(value, layer.decimals) + (layer.unit ? ` ${layer.unit}` : "");
  }

  function tell(location) {
    const [x, y, z] = location.mm;
    const place = [x, y, z].map((mm) => written(mm, 1));
    document.getElementById("viewer-position").textContent = `x ${place[0]}, y ${place[1]}, z ${place[2]} mm`;
    for (const layer of data.layers) {
      const found = location.values.find((one) => one.id === volumes[layer.name].id);
      form.querySelector(`[data-value="${layer.name}"]`).textContent = reading(layer, found.value);
    }
  }

  function moveTo(place) {
    viewer.scene.crosshairPos = viewer.mm2frac(place, 0, true);
    viewer.createOnLocationChange();
    viewer.drawScene();
  }

  // The chosen MRI is the background, the others are clear.
  function apply() {
    const base = form.querySelector('input[name="base"]:checked').value;
    for (const layer of data.layers) {
      const shown = contours[layer.name] ?? volumes[layer.name];
      shown.opacity = layer.kind === "mri" ? Number(layer.name === base) : opacity(layer.name);
    }
    viewer.setVolume(volumes[base], 0);
  }

  function opacity(name) {
    const shown = form.querySelector(`[data-shown="${name}"]`).checked;
    return shown ? Number(form.querySelector(`[data-opacity="${name}"]`).value) / 100 : 0;
  }

  function reset() {
    for (const layer of data.layers) {
      const { cal_min, cal_max } = look(layer);
      Object.assign(volumes[layer.name], { cal_min, cal_max });
    }
    viewer.scene.pan2Dxyzmm = [0, 0, 0, 1];
    apply();
    moveTo(data.start_mm);
  }

  function obeyControls() {
    let waiting = false;
    form.addEventListener("input", () => {
      // Blending takes a while without a graphics card: once a frame, however fast the slider moves.
      if (!waiting) requestAnimationFrame(() => { waiting = false; apply(); });
      waiting = true;
    });
    form.addEventListener("reset", () => setTimeout(reset)); // the controls are reset after the event
    form.addEventListener("submit", (event) => event.preventDefault());
    for (const button of form.querySelectorAll("[data-jump]")) {
      const layer = data.layers.find((one) => one.name === button.dataset.jump);
      button.addEventListener("click", () => moveTo(layer.maximum_mm));
    }
  }

  // NiiVue has keys of its own, which nobody asked for, and takes the wheel from a page that is only scrolled past.
  function obeyKeys() {
    const frame = canvas.parentElement;
    frame.addEventListener("keydown", (event) => {
      event.stopPropagation();
      const step = STEPS[event.key];
      if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      viewer.moveCrosshairInVox(...step);
    }, true);
    frame.addEventListener("keyup", (event) => event.stopPropagation(), true);
    frame.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas) event.stopPropagation();
    }, { capture: true, passive: true });
    frame.addEventListener("pointerdown", () => canvas.focus({ preventScroll: true }), true);
  }

  async function start() {
    message.textContent = "The viewer is loading.";
    form.hidden = false;
    await viewer.attachToCanvas(canvas);
    addColours();
    for (const layer of data.layers) volumes[layer.name] = await add(layer.name, layer.base64, look(layer));
    for (const layer of data.layers.filter((one) => one.contours)) {
      const masks = layer.kind === "masks";
      const highest = masks ? layer.names.length : data.isodoses.length;
      const lines = { colormap: masks ? "outlines" : "isodoses", cal_min: 0, cal_max: highest };
      contours[layer.name] = await add(`${layer.name}-lines`, layer.contours, lines);
    }
    viewer.onLocationChange = tell;
    obeyControls();
    obeyKeys();
    reset();
    message.hidden = true;
    document.body.dataset.viewer = "ready";
  }

  start().catch((error) => {
    console.error(error);
    form.hidden = true;
    message.textContent = `The viewer could not start: ${error.message} The picture below shows the same case.`;
    document.body.dataset.viewer = "failed";
  });
})();
