"use strict";
/* The map is in the page as it is; this adds pictures, zooming, walking from dot to dot, and one category alone. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const map = document.getElementById("map");
  const stage = document.getElementById("stage");
  const tip = document.getElementById("tip");
  const said = document.getElementById("said");
  const legend = document.getElementById("legend");
  const ring = map.querySelector("circle");

  const REACH = 16; // pixels between the pointer and the dot that it means, at most
  const THUMB = 136;
  const MOST = 60; // times that the map can be enlarged

  const bytes = Uint8Array.from(atob(data.coordinates), (letter) => letter.charCodeAt(0));
  const coordinates = new Uint16Array(bytes.buffer);
  const count = coordinates.length / 2;
  const whole = map.viewBox.baseVal;
  const all = [whole.x, whole.y, whole.width, whole.height];
  let view = [...all], chosen = null, shown = -1, queued = false;

  const visible = (point) => chosen === null || data.groups[point] === chosen;

  /** Pixels of a unit, and where the drawing begins: it is centred in the room that it has. */
  function frame() {
    const style = getComputedStyle(map);
    const padding = parseFloat(style.paddingLeft);
    const width = map.clientWidth - 2 * padding, height = map.clientHeight - 2 * padding;
    const unit = Math.min(width / view[2], height / view[3]);
    return { unit, left: padding + (width - unit * view[2]) / 2, top: padding + (height - unit * view[3]) / 2 };
  }

  function place(point) {
    const { unit, left, top } = frame();
    return [left + unit * (coordinates[2 * point] - view[0]), top + unit * (coordinates[2 * point + 1] - view[1])];
  }

  function draw() {
    queued = false;
    map.setAttribute("viewBox", view.map((each) => each.toFixed(2)).join(" "));
    map.dataset.scale = (all[2] / view[2]).toFixed(3);
    map.classList.toggle("near", view[2] < 0.99 * all[2]);
    ring.setAttribute("visibility", shown < 0 ? "hidden" : "visible");
    if (shown < 0) return;
    ring.setAttribute("cx", coordinates[2 * shown]);
    ring.setAttribute("cy", coordinates[2 * shown + 1]);
    ring.setAttribute("r", 7 / frame().unit);
    const [across, down] = place(shown);
    const room = [stage.clientWidth - tip.offsetWidth - 6, stage.clientHeight - tip.offsetHeight - 6];
    const column = across + 16 > room[0] ? across - 16 - tip.offsetWidth : across + 16;
    tip.style.transform = `translate(${Math.max(6, Math.min(column, room[0]))}px, ${Math.max(6, Math.min(down - 24, room[1]))}px)`;
  }

  function redraw() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(draw);
  }

  function zoom(factor, column, line) {
    const { unit, left, top } = frame();
    const scale = Math.min(MOST, Math.max(1, factor * all[2] / view[2]));
    if (scale === 1) { view = [...all]; redraw(); return; }
    const x = view[0] + (column - left) / unit, y = view[1] + (line - top) / unit;
    const shrunk = all[2] / scale / view[2];
    view = [x - shrunk * (x - view[0]), y - shrunk * (y - view[1]), view[2] * shrunk, view[3] * shrunk];
    redraw();
  }

  const zoomMiddle = (factor) => zoom(factor, map.clientWidth / 2, map.clientHeight / 2);

  function move(across, down) {
    const { unit } = frame();
    view[0] = Math.min(all[0] + all[2] - view[2], Math.max(all[0], view[0] - across / unit));
    view[1] = Math.min(all[1] + all[3] - view[3], Math.max(all[1], view[1] - down / unit));
    redraw();
  }

  function nearest(column, line) {
    const { unit, left, top } = frame();
    const x = view[0] + (column - left) / unit, y = view[1] + (line - top) / unit;
    let best = -1, least = (REACH / unit) ** 2;
    for (let point = 0; point < count; point++) {
      if (!visible(point)) continue;
      const distance = (coordinates[2 * point] - x) ** 2 + (coordinates[2 * point + 1] - y) ** 2;
      if (distance < least) { least = distance; best = point; }
    }
    return best;
  }

  /** The nearest dot in a direction; those straight ahead count as nearer than those aside. */
  function next(across, down) {
    if (shown < 0) {
      const { unit } = frame();
      const x = view[0] + view[2] / 2, y = view[1] + view[3] / 2;
      return closest((point) => Math.hypot(coordinates[2 * point] - x, coordinates[2 * point + 1] - y) * unit);
    }
    const found = closest((point) => {
      const x = coordinates[2 * point] - coordinates[2 * shown], y = coordinates[2 * point + 1] - coordinates[2 * shown + 1];
      const ahead = x * across + y * down, aside = Math.abs(x * down - y * across);
      return ahead > 0 ? ahead + 2 * aside : Infinity;
    });
    return found < 0 ? shown : found;
  }

  function closest(far) {
    let best = -1, least = Infinity;
    for (let point = 0; point < count; point++) {
      if (point === shown || !visible(point)) continue;
      const distance = far(point);
      if (distance < least) { least = distance; best = point; }
    }
    return best;
  }

  function show(point, aloud = false) {
    shown = point;
    tip.hidden = point < 0;
    if (aloud) said.textContent = point < 0 ? "" : data.captions[point];
    redraw();
    if (point < 0) return;
    const each = data.columns * data.columns;
    const number = point % each;
    const proportion = data.proportions[data.proportions.length > 1 ? point : 0];
    const width = THUMB * Math.min(1, proportion), height = THUMB * Math.min(1, 1 / proportion);
    const thumb = document.getElementById("thumb");
    thumb.style.width = `${width}px`;
    thumb.style.height = `${height}px`;
    thumb.style.backgroundImage = `url(${data.sheets[Math.floor(point / each)]})`;
    thumb.style.backgroundSize = `${data.columns * width}px ${data.columns * height}px`;
    thumb.style.backgroundPosition = `${-(number % data.columns) * width}px ${-Math.floor(number / data.columns) * height}px`;
    document.getElementById("caption").textContent = data.captions[point];
  }

  /** Keep the dot that was walked to inside what is seen. */
  function follow() {
    if (shown < 0) return;
    const x = coordinates[2 * shown], y = coordinates[2 * shown + 1];
    if (x < view[0] || x > view[0] + view[2] || y < view[1] || y > view[1] + view[3]) {
      view[0] = Math.min(all[0] + all[2] - view[2], Math.max(all[0], x - view[2] / 2));
      view[1] = Math.min(all[1] + all[3] - view[3], Math.max(all[1], y - view[3] / 2));
    }
    redraw();
  }

  const at = (event) => {
    const box = map.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const pointers = new Map();
  let moved = 0;

  map.addEventListener("pointerdown", (event) => {
    map.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    moved = 0;
  });
  map.addEventListener("pointermove", (event) => {
    const now = at(event), before = pointers.get(event.pointerId);
    if (!before) { show(nearest(...now)); return; }
    moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
    const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, where]) => where);
    if (others.length) {
      const [column, line] = others[0];
      const factor = Math.hypot(now[0] - column, now[1] - line) / Math.max(1, Math.hypot(before[0] - column, before[1] - line));
      zoom(factor, column, line);
    } else {
      move(now[0] - before[0], now[1] - before[1]);
    }
    pointers.set(event.pointerId, now);
    if (moved > 6) { map.classList.add("moving"); show(-1); }
  });
  const released = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (!pointers.size) map.classList.remove("moving");
    if (event.type === "pointerup" && moved <= 6) show(nearest(...at(event)));
  };
  map.addEventListener("pointerup", released);
  map.addEventListener("pointercancel", released);
  map.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") show(-1); });
  map.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return; // the wheel is the page's
    event.preventDefault();
    show(-1);
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), ...at(event));
  }, { passive: false });
  map.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (way) { show(next(...way), true); follow(); }
    else if (event.key === "+" || event.key === "=") { zoomMiddle(1.5); follow(); }
    else if (event.key === "-") zoomMiddle(1 / 1.5);
    else if (event.key === "0") { view = [...all]; redraw(); }
    else if (event.key === "Escape") show(-1, true);
    else return;
    event.preventDefault();
  });
  map.addEventListener("blur", () => show(-1));
  for (const button of document.querySelectorAll("#buttons button")) {
    button.addEventListener("click", () => {
      show(-1);
      const factor = Number(button.dataset.zoom);
      if (factor) zoomMiddle(factor);
      else { view = [...all]; redraw(); }
    });
  }

  function choose(group) {
    chosen = chosen === group ? null : group;
    map.classList.toggle("chosen", chosen !== null);
    for (const path of map.querySelectorAll("path")) path.classList.toggle("on", Number(path.dataset.group) === chosen);
    for (const button of legend.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(Number(button.parentElement.dataset.group) === chosen));
    }
    show(-1);
  }

  for (const line of legend.children) {
    if (line.dataset.group === undefined) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.append(...line.childNodes);
    button.addEventListener("click", () => choose(Number(line.dataset.group)));
    line.append(button);
  }

  map.setAttribute("role", "application");
  map.setAttribute("tabindex", "0");
  map.setAttribute("aria-describedby", "map-help");
  map.classList.add("ready");
  for (const each of document.querySelectorAll(".live")) each.removeAttribute("hidden");
  new ResizeObserver(redraw).observe(stage);
  redraw();

  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new Set();
  const watched = new IntersectionObserver((entries) => {
    for (const each of entries) each.isIntersecting ? seen.add(each.target.id) : seen.delete(each.target.id);
    const first = [...links.keys()].find((id) => seen.has(id));
    for (const [id, link] of links) id === first ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
  }, { rootMargin: "-10% 0px -60% 0px" });
  for (const id of links.keys()) watched.observe(document.getElementById(id));
})();
