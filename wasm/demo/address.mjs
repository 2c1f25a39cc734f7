// The address says what is asked, so that a link can be shared and Back works:
// ?q=TEXT or ?row=ID, k, ef, topic, where; data=NAME where it is not about the sample.
//
// What is chosen is a step in the history at once, a question or condition that is typed once it has stood for a moment;
// ef and k are none.

import { state } from "./state.mjs";

const MOMENT = 700; // ms: what is typed in one go is one step
const LIMITS = { k: [1, 50], ef: [1, 1000] };
let timer = 0;

// What the address asks for: {settings, question, data, problems}, each problem a clause of a sentence.
export function readAddress({ settings: before }) {
  const given = new URLSearchParams(location.search);
  const settings = {};
  const problems = [];
  for (const [name, [least, most]] of Object.entries(LIMITS)) {
    if (!given.has(name)) continue;
    const text = given.get(name);
    const number = /^\d{1,9}$/.test(text) ? Number(text) : NaN;
    if (number >= least && number <= most) settings[name] = number;
    else problems.push(`${name}=${text} is not a whole number from ${least} to ${most}, so ${name} is ${before[name]}`);
  }
  for (const name of ["topic", "where"]) if (given.has(name)) settings[name] = given.get(name);
  const row = given.get("row");
  if (row !== null && !/^-?\d{1,19}$/.test(row)) problems.push(`row=${row} is not the number of a row`);
  const like = row !== null && /^-?\d{1,19}$/.test(row) ? { like: row } : undefined;
  const question = like ?? (given.has("q") ? { text: given.get("q") } : undefined);
  return { settings, question, data: given.get("data"), problems };
}

// Write down what is asked now, after a moment; step: at once, as a step of its own.
export function updateAddress(how = {}) {
  if (how.step) return write();
  clearTimeout(timer);
  timer = setTimeout(write, MOMENT);
}

// What was opened: the address is put right in place.
export function replaceAddress() {
  clearTimeout(timer);
  timer = 0;
  history.replaceState(null, "", address());
}

// onBack gets what readAddress returns.
export function wireAddress(onBack) {
  // Who leaves the field, or the page, has asked.
  for (const leaving of ["focusout", "beforeunload"]) addEventListener(leaving, () => timer && write());
  addEventListener("popstate", () => {
    clearTimeout(timer);
    timer = 0;
    onBack(readAddress(state));
  });
}

function write() {
  clearTimeout(timer);
  timer = 0;
  const [now, next] = [new URLSearchParams(location.search), new URLSearchParams(address().split("?")[1])];
  const step = ["q", "row", "topic", "where", "data"].some((name) => now.get(name) !== next.get(name));
  if (step) history.pushState(null, "", address());
  else history.replaceState(null, "", address());
}

function address() {
  const { settings, question, source } = state;
  const said = question.like === undefined ? { q: question.text ?? "" } : { row: question.like };
  const more = Object.fromEntries(["topic", "where"].flatMap((name) => (settings[name] ? [[name, settings[name]]] : [])));
  const data = source.sample ? {} : { data: source.name };
  return `${location.pathname}?${new URLSearchParams({ ...said, k: settings.k, ef: settings.ef, ...more, ...data })}`;
}
