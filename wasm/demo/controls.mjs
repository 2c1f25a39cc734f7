// What the user turns and types: the search field, topic, sliders, and the measurement.

import { count, duration } from "./format.mjs";
import { drawFigures } from "./metrics.mjs";
import { byId, showError } from "./dom.mjs";
import { requestSearch, results } from "./search.mjs";
import { state, worker } from "./state.mjs";

const EFS = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1000];
const EXAMPLES = ["device for measuring temperature", "yellow fruit that monkeys like", "to walk slowly without purpose"];
const GROUPS = { noun: "Nouns", verb: "Verbs", adj: "Adjectives", adv: "Adverbs" };

export function wireControls() {
  wireQuery();
  byId("topic").onchange = () => set({ topic: byId("topic").value }, { step: true });
  byId("where").oninput = () => set({ where: byId("where").value });
  byId("copy").onclick = copy;
  byId("ef").max = EFS.length - 1;
  byId("ef").oninput = () => set({ ef: EFS[byId("ef").value] });
  byId("k").oninput = () => set({ k: Number(byId("k").value) });
  byId("measure").onclick = measure;
  worker.on("measuring", ({ done, total }) => (byId("measure-note").textContent = `${done} of ${total}`));
  byId("text-again").onclick = () => {
    byId("query").focus();
    requestSearch({ text: byId("query").value });
  };
  byId("measure-note").textContent = howTimed();
  showSettings();
}

// The panel's part that depends on what is open.
export function showSource() {
  const { source } = state;
  offerTopics(source);
  const label = source.encodes ? "Describe what you look for" : source.texts ? "A row's number, or words of its text" : "A row's number";
  byId("query-label").textContent = byId("query").placeholder = label;
  byId("dataset").textContent = source.name;
  byId("where").placeholder = source.fields.includes("topic") ? "topic = 'noun.plant' AND text LIKE '%fruit%'" : "id > 100";
  byId("where-fields").textContent = source.fields.join(", ");
  const starts = source.encodes ? EXAMPLES.map((text) => linkButton(text, () => type(text))) : [];
  const random = linkButton(source.encodes ? "a random entry" : "Take a random row", async () =>
    requestSearch({ like: await worker.call("random_row") }, { step: true }),
  );
  byId("examples").replaceChildren(...starts, random);
}

// The question that a source starts with.
export async function firstQuestion() {
  return state.source.encodes ? { text: EXAMPLES[0] } : { like: await worker.call("random_row") };
}

export function showSettings() {
  const { ef, k, topic, where } = state.settings;
  const at = EFS.findIndex((value) => value >= ef);
  byId("ef").value = at < 0 ? EFS.length - 1 : at;
  byId("ef").setAttribute("aria-valuetext", ef);
  byId("ef-value").textContent = count(ef);
  byId("k").value = byId("k-value").textContent = k;
  byId("topic").value = topic;
  if (byId("where").value !== where) byId("where").value = where; // the cursor stays where someone types
}

function set(changed, how) {
  Object.assign(state.settings, changed);
  showSettings();
  requestSearch(state.question, how);
}

async function copy() {
  const text = byId("python").textContent;
  try {
    await navigator.clipboard.writeText(text);
    byId("copied").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(byId("python"));
    byId("copied").textContent = "Selected: copy it with the keyboard.";
  }
}

function wireQuery() {
  const query = byId("query");
  query.oninput = () => requestSearch({ text: query.value });
  byId("search-form").onsubmit = (event) => {
    event.preventDefault();
    requestSearch({ text: query.value });
  };
  query.onkeydown = (event) => {
    if (event.key !== "ArrowDown") return;
    event.preventDefault();
    results.focusFirst();
  };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=range], [type=radio], [type=file]), textarea, select");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    query.focus();
    query.select();
  });
}

function type(text) {
  byId("query").value = text;
  byId("query").focus();
  requestSearch({ text }, { step: true });
}

async function measure() {
  byId("measure").disabled = true;
  try {
    const { ef, k, topic, where } = state.settings;
    const figures = await worker.call("measure", { ef, k, topic, where });
    drawFigures(figures, k);
  } catch (error) {
    showError(error);
  } finally {
    byId("measure-note").textContent = howTimed();
    byId("measure").disabled = state.building;
  }
}

const howTimed = () =>
  `A search is repeated, warm, until it has taken 10 steps of this browser's clock (${duration(state.clock)} each).`;

function offerTopics({ topics, rows }) {
  byId("topic-label").hidden = !topics.length;
  const groups = new Map([["", [option("", `All (${count(rows)})`)]]]);
  for (const [topic, number] of topics) {
    const [prefix, rest] = topic.split(/\.(.*)/);
    const group = GROUPS[prefix] ?? "";
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(option(topic, `${group ? rest : topic} (${count(number)})`));
  }
  byId("topic").replaceChildren(
    ...[...groups].flatMap(([label, options]) => {
      if (!label) return options;
      const group = document.createElement("optgroup");
      group.label = label;
      group.append(...options);
      return [group];
    }),
  );
}

function option(value, text) {
  return new Option(text, value);
}

function linkButton(text, run) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "link";
  button.textContent = text;
  button.onclick = run;
  return button;
}
