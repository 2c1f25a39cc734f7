// The page from its start on; what happens when a source, an index or a saved state is opened.

import { build, forgetBuild, showIndex, wireBuilding } from "./building.mjs";
import { firstQuestion, showSettings, showSource, wireControls } from "./controls.mjs";
import { wireFiles } from "./files.mjs";
import { bytes } from "./format.mjs";
import { restore, showKept, showNoStorage, wireKeeping } from "./keep.mjs";
import { byId, clearNotices, complain, notify } from "./page.mjs";
import { ask, results, setStatus } from "./searching.mjs";
import { engine, state } from "./state.mjs";
import { missingFeature } from "./support.mjs";

// opened: {source, index or null}; saved: the settings that were kept with it.
async function open(opened, saved = {}) {
  const { question, ...settings } = saved;
  forgetBuild();
  clearNotices();
  state.source = opened.source;
  state.index = null;
  byId("index-facts").replaceChildren();
  Object.assign(state.settings, { topic: "" }, settings);
  showSource();
  showSettings();
  results.draw([], "cosine");
  setStatus("");
  if (byId("main").hidden) {
    byId("main").hidden = false;
    if (matchMedia("(hover: hover)").matches) byId("query").focus(); // on a phone the keyboard would cover the page
  }
  state.question = question ?? (await firstQuestion());
  byId("query").value = state.question.text ?? "";
  if (opened.index) {
    showIndex(opened.index);
    ask();
  } else {
    byId("metric").value = state.source.metric;
    await build();
  }
}

async function openSample() {
  try {
    await open(await engine.call("open_sample"));
  } catch (error) {
    complain(error);
  }
}

async function start() {
  const missing = missingFeature();
  if (missing) {
    byId("loading").hidden = true;
    notify(`It needs ${missing}.`, { title: "This browser cannot run the page" });
    return;
  }
  engine.on("loading", ({ loaded, total }) => {
    byId("loading-bar").value = loaded / total;
    byId("loading-text").textContent = `${bytes(loaded)} of ${bytes(total)}`;
  });
  engine.on("starting", () => {
    byId("loading-bar").removeAttribute("value");
    byId("loading-text").textContent = "Starting Python";
  });
  engine.start();
  try {
    const found = await engine.call("start");
    byId("loading").hidden = true;
    showFacts(found);
    wireControls();
    wireBuilding();
    wireFiles(open);
    wireKeeping(open);
    byId("sample").onclick = openSample;
    await openFirst(found);
  } catch (error) {
    byId("loading").hidden = true;
    complain(error, "The page did not start");
  }
}

async function openFirst({ kept, storage_problem: problem }) {
  if (problem) showNoStorage(problem);
  else showKept(kept);
  if (kept) {
    try {
      await restore(open);
      return;
    } catch (error) {
      complain(error, "What was saved cannot be read; here is the sample instead");
    }
  }
  await openSample();
}

function showFacts({ version, python, simd, clock }) {
  state.clock = clock;
  const facts = [`edgevec ${version}`, `SIMD ${simd}`, `Python ${python} in a worker`];
  byId("facts").replaceChildren(
    ...facts.map((fact) => {
      const item = document.createElement("li");
      item.textContent = fact;
      return item;
    }),
  );
}

start();
