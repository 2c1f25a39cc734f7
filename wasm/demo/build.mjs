// The index: built with a progress bar, and described in figures.

import { bytes, count, duration } from "./format.mjs";
import { clearFigures } from "./metrics.mjs";
import { byId, showError, pairs } from "./dom.mjs";
import { requestSearch } from "./search.mjs";
import { state, worker } from "./state.mjs";

const NEEDS_INDEX = ["measure", "save-index", "export"];
let builds = 0;

// Build with what the panel says. A build that is still running gives way.
export async function build() {
  const mine = ++builds;
  const quantization = document.querySelector("[name=quantization]:checked").value;
  showProgress({ done: 0, total: state.source.rows });
  let described = state.index;
  try {
    described = (await worker.call("build", { quantization, metric: byId("metric").value })).index;
  } catch (error) {
    if (mine === builds) showError(error);
  }
  if (mine !== builds) return;
  endProgress();
  if (described) showIndex(described);
  requestSearch();
}

export function wireBuild() {
  worker.on("building", (progress) => {
    if (!state.building) return;
    showProgress(progress);
    if (!state.index) requestSearch(); // what is there already answers
  });
  byId("stop").onclick = () => worker.call("stop");
  byId("complete").onclick = build;
  byId("quantization").onchange = build;
  byId("metric").onchange = build;
}

// A source was opened, or an index with it; what was being built is no longer wanted.
export function cancelBuild() {
  builds++;
  endProgress();
}

export function showIndex(index) {
  state.index = index;
  clearFigures();
  document.querySelector(`[name=quantization][value=${index.quantization}]`).checked = true;
  byId("metric").value = index.metric;
  byId("complete").hidden = index.rows === index.total;
  const { memory } = index;
  pairs(byId("index-facts"), {
    rows: index.rows === index.total ? count(index.rows) : `${count(index.rows)} of ${count(index.total)}`,
    dimensions: count(state.source.dim),
    built: index.seconds ? `in ${duration(index.seconds)}` : "read from a file",
    ...(index.rate && { "build rate": `${count(index.rate)} rows/s` }),
    "index in memory": bytes(memory.total),
    "its vectors": bytes(memory.vectors),
    "its codes": bytes(memory.codes),
    "its links": bytes(memory.links + memory.upper_links),
    "worker's heap": bytes(worker.heap),
  });
}

function showProgress({ done, total, rate }) {
  state.building = true;
  byId("building").hidden = false;
  byId("complete").hidden = true;
  byId("building-bar").value = done / total;
  byId("building-text").textContent = `${count(done)} of ${count(total)}${rate ? ` · ${count(rate)} rows/s` : ""}`;
  for (const id of NEEDS_INDEX) byId(id).disabled = true;
}

function endProgress() {
  state.building = false;
  byId("building").hidden = true;
  for (const id of NEEDS_INDEX) byId(id).disabled = false;
}
