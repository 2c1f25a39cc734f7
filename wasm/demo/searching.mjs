// From what is asked to what is shown: one search at a time, the newest question first.

import { latest } from "./client.mjs";
import { count, duration } from "./format.mjs";
import { drawFigures } from "./meters.mjs";
import { byId, complain } from "./page.mjs";
import { headword, resultList } from "./results.mjs";
import { engine, state } from "./state.mjs";

export const results = resultList(byId("results"), {
  onNeighbours: (id) => ask({ like: id }),
  onLeave: () => byId("query").focus(),
});

let frame = 0;

// Ask anew, with the settings of now; without a question, the last one again.
export function ask(question = state.question) {
  state.question = question;
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(() => state.source && answer({ ...state.settings, ...state.question }));
}

const answer = latest(async (asked, superseded) => {
  if (asked.text?.trim() === "") return showNothing();
  try {
    const sent = performance.now();
    const found = await engine.call("search", asked);
    const trip = (performance.now() - sent) / 1000;
    show(found, asked);
    if (superseded() || state.building) return;
    drawFigures(await engine.call("examine", { ...asked, trip }), asked.k);
  } catch (error) {
    if (error.kind === "ParameterError") showHint(error.message);
    else complain(error);
  }
});

function show({ hits, about, metric, rows, matches, seconds, work }, { topic }) {
  results.draw(hits, metric);
  showAbout(about);
  const among = topic ? `${count(matches)} in ${topic}` : count(rows);
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

function showHint(message) {
  results.fade();
  setStatus(message, true);
}

function showNothing() {
  results.draw([], "cosine");
  showAbout(null);
  setStatus(state.source.encodes ? "Type to search." : "Type the number of a row or words of its text.");
}

export function setStatus(text, isHint = false) {
  byId("status").classList.toggle("hint", isHint);
  byId("status").textContent = text;
}
