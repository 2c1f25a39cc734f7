// Save, restore, forget: one index in the browser's storage, and what the page says of it. All tabs share it.

import { ago, bytes, count } from "./format.mjs";
import { byId, clearNotices, showError, notify } from "./dom.mjs";
import { state, worker } from "./state.mjs";

const tabs = new BroadcastChannel("edgevec-demo"); // says that something was saved or forgotten

// onRestored gets what the worker brought back.
export function wireStorage(onRestored) {
  byId("save-index").onclick = () => save();
  byId("restore").onclick = () => attempt("Nothing was restored", () => restore(onRestored));
  byId("forget").onclick = () => forget();
  tabs.onmessage = () => attempt("What another tab saved cannot be read", refresh);
}

function save(overwrite = false) {
  return change("The index was not saved", "Save over it", save, async () => {
    const { settings, question } = state;
    showSaved(await worker.call("save", { settings: { ...settings, question }, overwrite }), "Saved");
  });
}

function forget(overwrite = false) {
  return change("Nothing was forgotten", "Forget it", forget, async () => {
    await worker.call("forget", { overwrite });
    showSaved(null);
  });
}

// What another tab has saved or forgotten is shown here too, and said.
async function refresh() {
  const saved = await worker.call("refresh");
  showSaved(saved, "Saved by another tab");
  const text = saved
    ? `It saved ${saved.name}, ${count(saved.rows)} rows, in place of what was kept before.`
    : "It forgot what was saved here.";
  notify(text, { title: "Another tab changed what is kept", kind: "news" });
}

export async function restore(onRestored) {
  const opened = await worker.call("restore");
  await onRestored(opened, opened.saved.settings);
  showSaved(opened.saved, "Restored from this browser, saved");
}

// saved: what python/storage.py calls the state, or null.
export function showSaved(saved, verb = "Saved") {
  byId("saved-index").textContent = saved
    ? `${verb} ${ago(saved.saved)}: ${saved.name}, ${count(saved.rows)} rows, ${bytes(saved.bytes)}. It outlives a reload.`
    : "Nothing yet. What you save outlives a reload.";
  byId("restore").disabled = byId("forget").disabled = !saved;
}

export function showNoStorage(problem) {
  byId("saved-index").textContent = `Not here: ${problem}.`;
  for (const id of ["save-index", "restore", "forget"]) byId(id).hidden = true;
}

// A change of what is saved; where another tab was first, `again` does it all the same.
async function change(title, anyway, again, run) {
  try {
    await run();
    clearNotices("news");
    tabs.postMessage({});
  } catch (error) {
    if (error.kind !== "ConflictError") return showError(error, title);
    await attempt(title, refresh);
    notify(`${title}: another tab has changed what is kept, as is said at “Kept in this browser”.`, {
      title: "Another tab was first",
      action: anyway,
      onAction: () => again(true),
    });
  }
}

async function attempt(title, run) {
  try {
    await run();
  } catch (error) {
    showError(error, title);
  }
}
