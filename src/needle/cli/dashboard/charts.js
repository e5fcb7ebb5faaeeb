"use strict";
// Charts in SVG. A series is {run, name, color, split, x: [numbers], y: [numbers or null]}.

const SVG = "http://www.w3.org/2000/svg";
const BOX = { left: 52, right: 10, top: 8, bottom: 24 };

function element(parent, tag, attributes = {}, text = null) {
  const svg = parent.namespaceURI === SVG || tag === "svg";
  const made = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "style") made.style.cssText = value; // the policy forbids the attribute
    else made.setAttribute(key, value);
  }
  if (text !== null) made.textContent = text;
  parent.append(made);
  return made;
}

function short(value) {
  if (value === null || value === undefined) return "–";
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size >= 1e9) return +(value / 1e9).toPrecision(3) + "G";
  if (size >= 1e6) return +(value / 1e6).toPrecision(3) + "M";
  if (size >= 1e5) return +(value / 1e3).toPrecision(3) + "k";
  if (size !== 0 && size < 1e-4) return value.toExponential(1);
  return String(+value.toPrecision(4));
}

function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const s = Math.round(seconds), two = (n) => String(n).padStart(2, "0");
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}`
    : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}

// The exponential mean of what came so far, without a bias to zero; gaps stay gaps.
function smooth(values, weight) {
  let sum = 0, norm = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}

function ticksLinear(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw)), part = raw / power;
  const unit = power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
  const first = Math.ceil(low / unit - 1e-9), last = Math.floor(high / unit + 1e-9), ticks = [];
  for (let i = first; i <= last && ticks.length < 50; i++) ticks.push(i * unit);
  return ticks;
}

function ticksLog(low, high) {
  const ticks = [], decades = Math.log10(high / low);
  const multiples = decades > 3 ? [1] : [1, 2, 5];
  const every = Math.max(1, Math.ceil(decades / 6));
  for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high) + 1e-9; e++)
    for (const m of multiples) {
      const tick = m * 10 ** e;
      if (e % every === 0 && tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
    }
  return ticks.length >= 2 ? ticks : ticksLinear(low, high, 4);
}

function extent(lists) {
  let low = Infinity, high = -Infinity;
  for (const list of lists) for (const v of list) if (v !== null) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  return [low, high];
}

// Draw the series into `card`; options: {log, weight, time, x: label}.
function drawChart(card, series, options) {
  card.querySelectorAll("svg, .tip").forEach((old) => old.remove());
  const width = Math.max(card.clientWidth - 24, 200), height = 240;
  const svg = element(card, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  element(svg, "title", {}, card.dataset.key);
  const shown = series.map((s) => ({ ...s, raw: s.y, y: options.weight ? smooth(s.y, options.weight) : s.y }));
  let [left, right] = extent(shown.map((s) => s.x));
  let [low, high] = extent(shown.map((s) => s.raw));
  const log = options.log && low > 0;
  if (!Number.isFinite(left)) return;
  if (left === right) { left -= 0.5; right += 0.5; }
  if (!Number.isFinite(low)) { low = 0; high = 1; }
  if (high - low <= Math.abs(high) * 1e-12) { const d = Math.abs(high) * 0.1 || 0.5; low -= d; high += d; }
  const to = (v) => (log ? Math.log10(v) : v);
  const pad = (to(high) - to(low)) * 0.04, floor = to(low) - pad, roof = to(high) + pad;
  const px = (v) => BOX.left + ((v - left) / (right - left)) * (width - BOX.left - BOX.right);
  const py = (v) => height - BOX.bottom - ((to(v) - floor) / (roof - floor)) * (height - BOX.top - BOX.bottom);
  drawAxes(svg, { left, right, low, high, log, px, py, width, height, options });
  for (const s of shown) {
    const base = { stroke: s.color, "data-run": s.run, "data-split": s.split };
    if (options.weight) element(svg, "path", { ...base, class: "curve faint", d: path(s.x, s.raw, px, py) });
    element(svg, "path", { ...base, class: `curve ${s.split}`, d: path(s.x, s.y, px, py) });
    drawPoints(svg, s, px, py, height - BOX.bottom);
  }
  watchPointer(card, svg, shown, px, py, { width, height, options });
}

function drawAxes(svg, { left, right, low, high, log, px, py, width, height, options }) {
  for (const tick of log ? ticksLog(low, high) : ticksLinear(low, high, 5)) {
    const y = py(tick);
    element(svg, "line", { class: "grid", x1: BOX.left, x2: width - BOX.right, y1: y, y2: y });
    element(svg, "text", { x: BOX.left - 6, y: y + 4, "text-anchor": "end", class: "ytick" }, short(tick));
  }
  for (const tick of ticksLinear(left, right, Math.max(2, Math.floor(width / 80)))) {
    const anchor = px(tick) > width - 40 ? "end" : "middle";
    element(svg, "text", { x: px(tick), y: height - 8, "text-anchor": anchor },
      options.time ? duration(tick) : short(tick));
  }
}

function path(x, y, px, py) {
  let pen = false, d = "";
  for (let i = 0; i < x.length; i++) {
    if (y[i] === null) { pen = false; continue; }
    d += `${pen ? "L" : "M"}${px(x[i]).toFixed(1)} ${py(y[i]).toFixed(1)}`;
    pen = true;
  }
  return d;
}

// A dot for a point without neighbours, a cross at the bottom for a value that is not finite.
function drawPoints(svg, s, px, py, bottom) {
  const known = (i) => i >= 0 && i < s.y.length && s.y[i] !== null;
  let crosses = 0;
  for (let i = 0; i < s.y.length; i++) {
    if (s.y[i] !== null && !known(i - 1) && !known(i + 1))
      element(svg, "circle", { cx: px(s.x[i]), cy: py(s.y[i]), r: 3, fill: s.color });
    if (s.y[i] === null && crosses++ < 200)
      element(svg, "text", { x: px(s.x[i]), y: bottom, "text-anchor": "middle", class: "lost",
        style: `fill:${s.color}` }, "×");
  }
}

function nearest(x, place) {
  let low = 0, high = x.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (x[middle] < place) low = middle; else high = middle;
  }
  return Math.abs(x[low] - place) <= Math.abs(x[high] - place) ? low : high;
}

function watchPointer(card, svg, series, px, py, { width, height, options }) {
  const [left, right] = [BOX.left, width - BOX.right];
  const cross = element(svg, "line", { class: "cross", y1: BOX.top, y2: height - BOX.bottom, visibility: "hidden" });
  const dots = element(svg, "g");
  const hide = () => {
    cross.setAttribute("visibility", "hidden");
    dots.replaceChildren();
    card.querySelector(".tip")?.remove();
  };
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * width;
    hide();
    if (at < left - 5 || at > right + 5) return;
    const tip = document.createElement("div");
    tip.className = "tip";
    let place = null;
    const found = series.filter((s) => s.x.length).map((s) => {
      const xs = s.x.map(px), i = nearest(xs, at);
      return { s, i, distance: Math.abs(xs[i] - at) };
    });
    const closest = Math.min(...found.map((f) => f.distance));
    for (const { s, i, distance } of found.filter((f) => f.distance <= closest + 14).slice(0, 12)) {
      if (distance === closest) place = s.x[i];
      const line = element(tip, "div");
      element(line, "span", { class: "dot", style: `--color:${s.color}` });
      element(line, "span", { class: "of" }, `${s.name} ${s.split}`);
      element(line, "b", {}, s.y[i] === null ? "not finite" : short(s.y[i]));
      if (s.y[i] !== null) element(dots, "circle", { cx: px(s.x[i]), cy: py(s.y[i]), r: 3.5, fill: s.color });
    }
    if (place === null) return;
    const where = document.createElement("div");
    where.textContent = `${options.x} ${options.time ? duration(place) : short(place)}`;
    tip.prepend(where);
    cross.setAttribute("x1", px(place));
    cross.setAttribute("x2", px(place));
    cross.setAttribute("visibility", "visible");
    card.append(tip);
    const side = event.clientX - box.left > box.width / 2;
    tip.style.top = "2.2rem";
    tip.style[side ? "left" : "right"] = side ? `${BOX.left + 16}px` : "16px";
  });
}
