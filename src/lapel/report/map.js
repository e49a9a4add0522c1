"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const canvas = document.getElementById("map");
  const stage = document.getElementById("stage");
  const tip = document.getElementById("tip");
  const pen = canvas.getContext("2d");

  const OTHERS = "#b4bbc2", CHOSEN = "#2457a6";
  const STEPS = 65535;
  const REACH = 14; // pixels between the pointer and the dot that it means, at most
  const THUMB = 128;

  const bytes = Uint8Array.from(atob(data.coordinates), (letter) => letter.charCodeAt(0));
  const coordinates = new Uint16Array(bytes.buffer);
  const count = coordinates.length / 2;
  const x = new Float64Array(count), y = new Float64Array(count);
  for (let point = 0; point < count; point++) {
    x[point] = coordinates[2 * point] / STEPS;
    y[point] = coordinates[2 * point + 1] / STEPS;
  }
  const low = [Math.min(...x), Math.min(...y)], high = [Math.max(...x), Math.max(...y)];

  const sizes = new Array(data.names.length).fill(0);
  for (const group of data.groups) sizes[group]++;
  const ranked = sizes.map((_, group) => group).filter((group) => sizes[group]).sort((a, b) => sizes[b] - sizes[a]);
  const colours = data.colours;

  let width = 1, height = 1, scale = 1, left = 0, top = 0; // pixels of a unit, and where its origin is
  let chosen = null, shown = -1, queued = false;

  function showAll() {
    const margin = 24;
    const spread = [Math.max(high[0] - low[0], 1e-6), Math.max(high[1] - low[1], 1e-6)];
    scale = Math.min((width - 2 * margin) / spread[0], (height - 2 * margin) / spread[1]);
    left = width / 2 - scale * (low[0] + high[0]) / 2;
    top = height / 2 + scale * (low[1] + high[1]) / 2;
  }

  const across = (point) => left + scale * x[point];
  const down = (point) => top - scale * y[point];
  const colour = (group) => (group === chosen && colours[group] === OTHERS ? CHOSEN : colours[group]);
  const visible = (point) => chosen === null || data.groups[point] === chosen;

  function draw() {
    queued = false;
    const dense = window.devicePixelRatio || 1;
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    pen.clearRect(0, 0, width, height);
    const radius = Math.min(7, Math.max(1.8, 2.1 * Math.sqrt(scale / Math.min(width, height))));
    for (const faint of [true, false]) {
      pen.globalAlpha = faint ? 0.25 : 0.8;
      for (let point = 0; point < count; point++) {
        if (visible(point) === faint) continue;
        const column = across(point), line = down(point);
        if (column < -radius || line < -radius || column > width + radius || line > height + radius) continue;
        pen.fillStyle = faint ? OTHERS : colour(data.groups[point]);
        pen.beginPath();
        pen.arc(column, line, radius, 0, 7);
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
    if (shown >= 0) {
      pen.strokeStyle = "#000";
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(across(shown), down(shown), radius + 2, 0, 7);
      pen.stroke();
    }
    canvas.dataset.scale = scale.toFixed(3);
  }

  function redraw() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(draw);
  }

  function resize() {
    const before = [width, height];
    const dense = window.devicePixelRatio || 1;
    width = canvas.clientWidth;
    height = canvas.clientHeight;
    canvas.width = Math.round(width * dense);
    canvas.height = Math.round(height * dense);
    if (before[0] !== width || before[1] !== height) showAll();
    redraw();
  }

  function zoom(factor, column, line) {
    const wanted = Math.min(200, Math.max(0.5, scale * factor / Math.min(width, height))) * Math.min(width, height);
    factor = wanted / scale;
    left = column - factor * (column - left);
    top = line - factor * (line - top);
    scale = wanted;
    redraw();
  }

  function nearest(column, line) {
    let best = -1, least = REACH * REACH;
    for (let point = 0; point < count; point++) {
      if (!visible(point)) continue;
      const distance = (across(point) - column) ** 2 + (down(point) - line) ** 2;
      if (distance < least) { least = distance; best = point; }
    }
    return best;
  }

  function show(point) {
    shown = point;
    tip.hidden = point < 0;
    redraw();
    if (point < 0) return;
    const each = data.columns * data.columns;
    const place = point % each;
    const enlarged = THUMB / Math.max(data.width, data.height);
    const thumb = document.getElementById("thumb");
    thumb.style.width = `${data.width * enlarged}px`;
    thumb.style.height = `${data.height * enlarged}px`;
    thumb.style.backgroundImage = `url(${data.sheets[Math.floor(point / each)]})`;
    thumb.style.backgroundSize = `${data.columns * data.width * enlarged}px auto`;
    thumb.style.backgroundPosition =
      `${-(place % data.columns) * data.width * enlarged}px ${-Math.floor(place / data.columns) * data.height * enlarged}px`;
    document.getElementById("caption").textContent = data.captions[point];
    const room = [width - tip.offsetWidth - 4, height - tip.offsetHeight - 4];
    const column = across(point) + 14 > room[0] ? across(point) - 14 - tip.offsetWidth : across(point) + 14;
    tip.style.transform = `translate(${Math.max(4, Math.min(column, room[0]))}px, ${Math.max(4, Math.min(down(point) - 20, room[1]))}px)`;
  }

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const pointers = new Map();
  let moved = 0;

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    moved = 0;
    canvas.classList.add("moving");
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = at(event), before = pointers.get(event.pointerId);
    if (!before) { show(nearest(...now)); return; }
    moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
    const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    if (others.length) {
      const [column, line] = others[0];
      const factor = Math.hypot(now[0] - column, now[1] - line) / Math.max(1, Math.hypot(before[0] - column, before[1] - line));
      zoom(factor, column, line);
    } else {
      left += now[0] - before[0];
      top += now[1] - before[1];
    }
    pointers.set(event.pointerId, now);
    if (moved > 6) show(-1);
    redraw();
  });
  const released = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (!pointers.size) canvas.classList.remove("moving");
    if (event.type === "pointerup" && moved <= 6) show(nearest(...at(event)));
  };
  canvas.addEventListener("pointerup", released);
  canvas.addEventListener("pointercancel", released);
  canvas.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") show(-1); });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    show(-1);
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), ...at(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (step) { left += step[0]; top += step[1]; redraw(); event.preventDefault(); }
    if (event.key === "+" || event.key === "=") zoom(1.3, width / 2, height / 2);
    if (event.key === "-") zoom(1 / 1.3, width / 2, height / 2);
    if (event.key === "0") { showAll(); redraw(); }
  });
  for (const button of document.querySelectorAll("#buttons button")) {
    button.addEventListener("click", () => {
      const factor = Number(button.dataset.zoom);
      show(-1);
      if (factor) zoom(factor, width / 2, height / 2);
      else { showAll(); redraw(); }
    });
  }

  const legend = document.getElementById("legend");
  for (const group of ranked) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    const dot = document.createElement("i");
    dot.style.background = colours[group];
    button.append(dot, `${data.names[group]} (${sizes[group]})`);
    button.addEventListener("click", () => {
      chosen = chosen === group ? null : group;
      for (const each of legend.children) each.setAttribute("aria-pressed", String(each === button && chosen !== null));
      show(-1);
    });
    legend.append(button);
  }

  new ResizeObserver(resize).observe(stage);
  resize();
})();
