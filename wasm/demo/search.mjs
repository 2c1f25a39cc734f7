// From what is asked to what is shown: one search at a time, the newest question first.

import { updateAddress } from "./address.mjs";
import { latest } from "./worker-client.mjs";
import { count, duration } from "./format.mjs";
import { drawFigures } from "./metrics.mjs";
import { byId, clearNotices, showError } from "./dom.mjs";
import { headword, resultList } from "./results.mjs";
import { state, worker } from "./state.mjs";

export const results = resultList(byId("results"), {
  onNeighbors: (id) => requestSearch({ like: id }, { step: true }),
  onLeave: () => byId("query").focus(),
});

// What the number at the right of a result is.
const DISTANCES = {
  cosine: "Distance at the right, 1 − cos",
  l2: "Distance at the right, squared Euclidean",
  ip: "Distance at the right, 1 − inner product",
};

let frame = 0;

// Ask anew, with the settings of now; without a question, the last one again.
// byUser: what a person asked, which goes into the address; step: as an entry of its own at once.
export function requestSearch(question, { byUser = question !== undefined, step = false } = {}) {
  state.question = question ?? state.question;
  state.byUser ||= byUser;
  if (byUser) updateAddress({ step });
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(() => state.source && answer({ ...state.settings, ...state.question }));
}

const answer = latest(async (asked, superseded) => {
  if (asked.text?.trim() === "") return showNothing();
  try {
    const sent = performance.now();
    const found = await worker.call("search", asked);
    const trip = (performance.now() - sent) / 1000;
    show(found, asked);
    showConditionError();
    if (state.byUser) clearNotices("error"); // it is about something earlier
    state.byUser = false;
    if (superseded() || state.building) return;
    drawFigures(await worker.call("examine", { ...asked, trip }), asked.k);
  } catch (error) {
    if (error.kind === "WhereError") showConditionError(error.message);
    else if (error.kind === "ParameterError") showHint(error.message);
    else showError(error);
  }
});

function show({ hits, about, metric, rows, matches, seconds, work, python }, { topic, where }) {
  results.draw(hits, metric);
  byId("legend").textContent = hits.length ? `${DISTANCES[metric]}: lower is closer` : "";
  byId("python").textContent = python;
  showAbout(about);
  const among = where.trim() ? `${count(matches)} that pass` : topic ? `${count(matches)} in ${topic}` : count(rows);
  // A coarse clock cannot tell less than one step.
  const took = seconds > state.clock ? duration(seconds) : `less than ${duration(state.clock)}`;
  const compared = work ? `, ${count(work.distances)} distances computed` : "";
  setStatus(hits.length ? `Nearest ${hits.length} of ${among} in ${took}${compared}` : `Nothing among ${among}`);
}

function showAbout(row) {
  byId("about").hidden = !row;
  if (!row) return;
  const [word, rest] = headword(row.text ?? `row ${row.id}`);
  byId("about-row").textContent = word || rest;
}

function showConditionError(message = "") {
  byId("where").setAttribute("aria-invalid", message !== "");
  byId("where-error").textContent = message;
  byId("where-error").hidden = !message;
  if (message) showHint("The condition cannot be read.");
}

function showHint(message) {
  results.fade();
  setStatus(message, true);
}

function showNothing() {
  results.draw([], "cosine");
  byId("legend").textContent = "";
  showAbout(null);
  setStatus(state.source.encodes ? "Type to search." : "Type the number of a row or words of its text.");
}

export function setStatus(text, isHint = false) {
  byId("status").classList.toggle("hint", isHint);
  byId("status").textContent = text;
}
