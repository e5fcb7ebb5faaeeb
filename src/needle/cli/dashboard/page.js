// The page: asks for the runs every two seconds and draws those that are chosen.
// Whatever comes from files is set as text, never as HTML.

const COLORS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17a0b0", "#a0a020", "#7f7f7f"];
const $ = (id) => document.getElementById(id);
const state = { runs: [], details: new Map(), chosen: new Set(), colors: new Map(), tab: "curves", first: true };

function restore() {
  const saved = new URLSearchParams(location.hash.slice(1));
  for (const id of (saved.get("runs") || "").split(",").filter(Boolean)) state.chosen.add(id);
  state.first = !saved.has("runs");
  if (saved.get("x")) $("x").value = saved.get("x");
  $("log").checked = saved.get("log") === "1";
  $("smooth").value = saved.get("smooth") || 0;
  if ($(saved.get("tab"))?.role === "tabpanel") state.tab = saved.get("tab");
  document.documentElement.dataset.theme = read("theme") || "";
}

function remember() {
  const saved = new URLSearchParams({ runs: [...state.chosen].join(","), x: $("x").value,
    log: $("log").checked ? "1" : "0", smooth: $("smooth").value, tab: state.tab });
  history.replaceState(null, "", "#" + saved);
}

// Storage may be forbidden.
function read(key) { try { return localStorage.getItem(key); } catch { return null; } }
function write(key, value) { try { localStorage.setItem(key, value); } catch { /* as it is */ } }

function color(id) {
  if (!state.colors.has(id)) state.colors.set(id, COLORS[state.colors.size % COLORS.length]);
  return state.colors.get(id);
}

// ---- talking to the server ---------------------------------------------------------------------

async function get(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  return answer.json();
}

let polling = false;

async function poll() {
  if (polling) return;
  polling = true;
  try {
    const { folder, runs } = await get("api/runs");
    state.runs = runs;
    $("folder").textContent = folder;
    if (state.first && runs.length) {
      state.first = false;
      const running = runs.filter((run) => run.state === "running");
      for (const run of running.length ? running.slice(0, 5) : runs.slice(0, 1)) state.chosen.add(run.id);
    }
    const here = new Set(runs.map((run) => run.id));
    for (const id of state.chosen) if (!here.has(id)) state.chosen.delete(id);
    const changed = await fetchDetails();
    drawRuns();
    if (changed) draw();
    $("live").textContent = runs.some((run) => run.state === "running") ? "● live" : "up to date";
    $("live").className = "";
  } catch (error) {
    console.warn(error);
    $("live").textContent = "no answer from needle dashboard";
    $("live").className = "lost";
  }
  polling = false;
}

// Fetch the chosen runs whose files have changed. Returns whether any has.
async function fetchDetails() {
  const wanted = state.runs.filter((run) => state.chosen.has(run.id) && state.details.get(run.id)?.version !== run.version);
  await Promise.all(wanted.map(async (run) => {
    state.details.set(run.id, { ...(await get(`api/run?id=${run.id}`)), version: run.version });
  }));
  return wanted.length > 0 || draw.last !== [...state.chosen].join();
}

// ---- the list of runs --------------------------------------------------------------------------

// "accuracy "; nothing for the loss of the validation, which is what others are the best by.
function bestName(best) {
  return best.metric === "validation/loss" ? "" : `${best.metric.replace("validation/", "")} `;
}

function drawRuns() {
  const list = $("runs"), words = $("filter").value.toLowerCase();
  const focused = document.activeElement?.dataset?.id;
  list.replaceChildren();
  for (const run of state.runs.filter((r) => r.name.toLowerCase().includes(words))) {
    const shown = state.chosen.has(run.id);
    const label = element(element(list, "li"), "label", { class: shown ? "shown" : "", title: `${run.name}\n${run.title}` });
    if (shown) label.style.setProperty("--color", color(run.id));
    const box = element(label, "input", { type: "checkbox", "data-id": run.id, "aria-label": run.name });
    box.checked = shown;
    box.addEventListener("change", () => choose(run.id, box.checked));
    element(label, "span", { class: "name" }, run.name);
    element(label, "span", { class: `state ${run.state}` }, run.state);
    const facts = [run.steps ? `step ${run.step} of ${run.steps}` : `step ${run.step ?? "–"}`,
      `loss ${short(run.loss)}`, run.best ? `best ${bestName(run.best)}${short(run.best.value)}` : "", duration(run.seconds)];
    element(label, "span", { class: "facts" }, facts.filter(Boolean).join(" · "));
    if (run.state === "running" && run.steps)
      element(label, "progress", { max: run.steps, value: run.step ?? 0 });
    if (focused === run.id) box.focus();
  }
  $("empty").hidden = state.runs.length > 0;
  $("empty").textContent = "There is no run in this folder yet. `needle train digits` makes one; it appears here by itself.";
}

async function choose(id, shown) {
  if (shown) state.chosen.add(id); else state.chosen.delete(id);
  remember();
  drawRuns();
  try { await fetchDetails(); } catch { /* the next poll says so */ }
  draw();
}

// ---- tabs --------------------------------------------------------------------------------------

function chosen() {
  return state.runs.filter((run) => state.chosen.has(run.id) && state.details.has(run.id))
    .map((run) => ({ ...run, ...state.details.get(run.id), color: color(run.id) }));
}

function draw() {
  draw.last = [...state.chosen].join();
  for (const tab of document.querySelectorAll("[role=tab]"))
    tab.setAttribute("aria-selected", tab.dataset.tab === state.tab);
  for (const panel of document.querySelectorAll("[role=tabpanel]")) panel.hidden = panel.id !== state.tab;
  const runs = chosen();
  $("problems").replaceChildren();
  for (const run of runs) for (const problem of run.problems) element($("problems"), "li", {}, `${run.name}: ${problem}`);
  ({ curves: drawCurves, configuration: drawSettings, confusion: drawConfusions, samples: drawSamples })[state.tab](runs);
}

function drawCurves(runs) {
  const x = $("x").value, weight = +$("smooth").value;
  $("smoothed").textContent = weight.toFixed(2);
  const keys = [...new Set(runs.flatMap((run) => run.keys))];
  const area = $("charts"), cards = new Map([...area.children].map((card) => [card.dataset.key, card]));
  for (const [key, card] of cards) if (!keys.includes(key)) card.remove();
  for (const key of keys) {
    let card = cards.get(key);
    if (!card) {
      card = element(area, "figure", { class: "card", "data-key": key });
      element(card, "h2", {}, key === "lr" ? "learning rate" : key.replaceAll("_", " "));
    }
    area.append(card);
    const series = [];
    for (const run of runs) for (const split of ["train", "validation"]) {
      const rows = run.curves[split];
      if (!$(split).checked || !rows || !rows[key] || !rows[x]) continue;
      const kept = rows.step.map((_, i) => i).filter((i) => rows[x][i] !== null && rows.has[key][i]);
      if (kept.length) series.push({ run: run.id, name: run.name, color: run.color, split,
        x: kept.map((i) => rows[x][i]), y: kept.map((i) => rows[key][i]) });
    }
    drawChart(card, series, { log: $("log").checked, weight, x: x === "seconds" ? "time" : x, time: x === "seconds" });
  }
}

function flatten(config, prefix = "") {
  return Object.entries(config).flatMap(([key, value]) =>
    value !== null && typeof value === "object" && !Array.isArray(value)
      ? flatten(value, `${prefix}${key}.`) : [[prefix + key, typeof value === "string" ? value : JSON.stringify(value)]]);
}

function drawSettings(runs) {
  const table = $("settings"), configs = runs.map((run) => new Map(flatten(run.config)));
  table.replaceChildren();
  const head = element(element(table, "thead"), "tr");
  element(head, "th", {}, "");
  for (const run of runs) element(head, "th", {}, run.name);
  const body = element(table, "tbody");
  for (const key of new Set(configs.flatMap((config) => [...config.keys()]))) {
    const values = configs.map((config) => config.get(key));
    const differs = new Set(values).size > 1;
    if ($("differences").checked && !differs) continue;
    const row = element(body, "tr", { class: differs ? "differs" : "" });
    element(row, "th", {}, key);
    for (const value of values) element(row, "td", {}, value ?? "–");
  }
}

function drawConfusions(runs) {
  const area = $("confusion");
  area.replaceChildren();
  for (const run of runs) {
    const card = element(area, "div", { class: "card" });
    element(card, "h2", {}, run.name);
    if (!run.confusion) { element(card, "p", { class: "quiet" }, "This run has no confusion matrix."); continue; }
    const { classes, matrix, step, data } = run.confusion;
    element(card, "p", { class: "quiet" }, [data, step === null ? "" : `step ${step}`, "rows: true, columns: predicted"].filter(Boolean).join(" · "));
    const sums = matrix.map((row) => Math.max(1, row.reduce((a, b) => a + b, 0)));
    let worst = 1e-9;
    matrix.forEach((row, i) => row.forEach((n, j) => { if (i !== j) worst = Math.max(worst, n / sums[i]); }));
    const shade = (i, j) => {
      const share = matrix[i][j] / sums[i];
      if (!matrix[i][j]) return null;
      return i === j ? [22, 104, 184, 0.15 + 0.75 * share] : [192, 40, 45, 0.2 + 0.7 * Math.sqrt(share / worst)];
    };
    if (classes.length <= 24) drawMatrix(card, classes, matrix, shade); else drawPixels(card, classes, matrix, shade);
    const errors = matrix.flatMap((row, i) => row.map((n, j) => [n, i, j])).filter(([n, i, j]) => n && i !== j);
    errors.sort((a, b) => b[0] - a[0]);
    const list = element(card, "ul");
    for (const [n, i, j] of errors.slice(0, 5)) element(list, "li", {}, `${classes[i]} taken for ${classes[j]}: ${n}`);
  }
}

function drawMatrix(card, classes, matrix, shade) {
  const table = element(element(card, "div", { class: "wide" }), "table", { class: "matrix" });
  const head = element(element(table, "thead"), "tr");
  element(head, "th");
  const turned = classes.some((name) => name.length > 3) ? "turned" : "";
  for (const name of classes) element(head, "th", { title: name, class: turned }, name);
  const body = element(table, "tbody");
  matrix.forEach((row, i) => {
    const line = element(body, "tr");
    element(line, "th", { title: classes[i] }, classes[i]);
    row.forEach((n, j) => {
      const cell = element(line, "td", { title: `${classes[i]} as ${classes[j]}: ${n}` }, n || "");
      const rgba = shade(i, j);
      if (rgba) cell.style.background = `rgba(${rgba.join()})`;
      if (rgba && rgba[3] > 0.6) cell.style.color = "#fff";
    });
  });
}

function drawPixels(card, classes, matrix, shade) {
  const canvas = element(card, "canvas", { width: classes.length, height: classes.length });
  const paint = canvas.getContext("2d");
  matrix.forEach((row, i) => row.forEach((_, j) => {
    const rgba = shade(i, j);
    if (rgba) { paint.fillStyle = `rgba(${rgba.join()})`; paint.fillRect(j, i, 1, 1); }
  }));
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect(), at = (v, size) => Math.min(classes.length - 1, Math.max(0, Math.floor(v / size * classes.length)));
    const i = at(event.clientY - box.top, box.height), j = at(event.clientX - box.left, box.width);
    canvas.title = `${classes[i]} as ${classes[j]}: ${matrix[i][j]}`;
  });
}

function drawSamples(runs) {
  const area = $("samples");
  area.replaceChildren();
  for (const run of runs) {
    if (!run.samples.length) {
      element(element(area, "div", { class: "card quiet" }), "span", {}, `${run.name} has no samples.`);
      continue;
    }
    for (const name of run.samples.slice(-6).reverse()) {
      const card = element(area, "div", { class: "card sample" });
      element(card, "h2", {}, `${run.name}: ${name}`);
      const address = `sample?id=${run.id}&name=${encodeURIComponent(name)}`;
      if (name.endsWith(".png")) element(card, "img", { src: `${address}&version=${run.version}`, alt: name });
      else fetch(address).then((answer) => answer.text()).then((text) => element(card, "pre", {}, text)).catch(() => {});
    }
  }
}

// ---- start -------------------------------------------------------------------------------------

restore();
for (const id of ["x", "log", "smooth", "train", "validation", "differences"])
  $(id).addEventListener("input", () => { remember(); draw(); });
$("filter").addEventListener("input", drawRuns);
$("none").addEventListener("click", () => { state.chosen.clear(); remember(); drawRuns(); draw(); });
$("theme").addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  write("theme", document.documentElement.dataset.theme);
});
for (const tab of document.querySelectorAll("[role=tab]"))
  tab.addEventListener("click", () => { state.tab = tab.dataset.tab; remember(); draw(); });
let resized = 0;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(draw, 150); });
draw();
poll();
setInterval(() => { if (!document.hidden) poll(); }, 2000);
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
