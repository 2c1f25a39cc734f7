// The page from its start on; what happens when a source, an index or a saved state is opened.

import { replaceAddress, readAddress, wireAddress } from "./address.mjs";
import { build, cancelBuild, showIndex, wireBuild } from "./build.mjs";
import { firstQuestion, showSettings, showSource, wireControls } from "./controls.mjs";
import { wireFiles } from "./files.mjs";
import { bytes } from "./format.mjs";
import { restore, showSaved, showNoStorage, wireStorage } from "./storage.mjs";
import { byId, clearNotices, showError, notify } from "./dom.mjs";
import { requestSearch, results, setStatus } from "./search.mjs";
import { state, worker } from "./state.mjs";
import { missingFeature } from "./support.mjs";

// opened: {source, index or null}; saved: the settings that were saved with it.
// The first that is opened follows the address.
async function open(opened, saved = {}) {
  const { question: savedQuestion, ...settings } = saved;
  cancelBuild();
  clearNotices("error");
  state.source = opened.source;
  state.index = null;
  byId("index-facts").replaceChildren();
  Object.assign(state.settings, { topic: "", where: "" }, settings);
  const linked = byId("main").hidden ? followLink() : undefined;
  showSource();
  showSettings();
  results.draw([], "cosine");
  setStatus("");
  if (byId("main").hidden) {
    byId("main").hidden = false;
    if (matchMedia("(hover: hover)").matches) byId("query").focus(); // on a phone the keyboard would cover the page
  }
  const before = state.question;
  const first = linked ?? readSaved(savedQuestion) ?? (await firstQuestion());
  if (state.question === before) { // else a person was quicker
    state.question = first;
    byId("query").value = first.text ?? "";
  }
  replaceAddress();
  if (opened.index) {
    showIndex(opened.index);
    requestSearch();
  } else {
    byId("metric").value = state.source.metric;
    await build();
  }
}

// What was kept by an earlier version of the page has numbers as ids.
const readSaved = (question) => (question?.like === undefined ? question : { like: String(question.like) });

// Take over the settings of the address; returns its question, if it is about what is open.
function followLink() {
  const { settings, question, data, problems } = readAddress(state);
  const { source } = state;
  const asks = question !== undefined || settings.topic !== undefined || settings.where !== undefined;
  const isAbout = data === null ? source.sample : data === source.name;
  if (settings.topic && isAbout && !source.topics.some(([topic]) => topic === settings.topic)) {
    problems.push(`there is no topic ${settings.topic}`);
    delete settings.topic;
  }
  if (asks && !isAbout) problems.push(`it is about ${data ?? "the WordNet sample"}, and what is open is ${source.name}`);
  if (problems.length) notify(`${problems.join("; ")}.`, { title: "The address could not be followed in full", kind: "news" });
  const { k, ef } = settings;
  Object.assign(state.settings, isAbout ? settings : { ...(k && { k }), ...(ef && { ef }) });
  return isAbout ? question : undefined;
}

// Back or forward in the history.
function goBack({ settings, question }) {
  if (!state.source) return;
  Object.assign(state.settings, { topic: "", where: "" }, settings);
  showSettings();
  byId("query").value = question?.text ?? "";
  clearNotices("error");
  requestSearch(question ?? { text: "" }, { byUser: false });
}

async function openSample() {
  try {
    await open(await worker.call("open_sample"));
  } catch (error) {
    showError(error);
  }
}

async function start() {
  const missing = missingFeature();
  if (missing) {
    byId("loading").hidden = true;
    notify(`It needs ${missing}.`, { title: "This browser cannot run the page" });
    return;
  }
  worker.on("loading", ({ loaded, total }) => {
    byId("loading-bar").value = loaded / total;
    byId("loading-text").textContent = `${bytes(loaded)} of ${bytes(total)}`;
  });
  worker.on("starting", () => {
    byId("loading-bar").removeAttribute("value");
    byId("loading-text").textContent = "Starting Python";
  });
  worker.start();
  try {
    const found = await worker.call("start");
    byId("loading").hidden = true;
    showFacts(found);
    wireControls();
    wireBuild();
    wireFiles(open);
    wireStorage(open);
    wireAddress(goBack);
    byId("sample").onclick = openSample;
    await openFirst(found);
  } catch (error) {
    byId("loading").hidden = true;
    showError(error, "The page did not start");
  }
}

async function openFirst({ saved, storage_problem: problem }) {
  if (problem) showNoStorage(problem);
  else showSaved(saved);
  if (saved) {
    try {
      await restore(open);
      return;
    } catch (error) {
      notify(error.message, { title: "What was saved cannot be read; here is the sample instead", kind: "news" });
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
