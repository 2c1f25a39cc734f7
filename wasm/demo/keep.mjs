// Save, restore, forget: one index in the browser's storage, and what the page says of it.

import { ago, bytes, count } from "./format.mjs";
import { byId, complain } from "./page.mjs";
import { engine, state } from "./state.mjs";

// onRestored gets what the engine brought back.
export function wireKeeping(onRestored) {
  byId("keep").onclick = () =>
    attempt("The index was not saved", async () => {
      const { settings, question } = state;
      showKept(await engine.call("keep", { settings: { ...settings, question } }), "Saved");
    });
  byId("restore").onclick = () => attempt("Nothing was restored", () => restore(onRestored));
  byId("forget").onclick = () =>
    attempt("Nothing was forgotten", async () => {
      await engine.call("forget");
      showKept(null);
    });
}

export async function restore(onRestored) {
  const opened = await engine.call("restore");
  await onRestored(opened, opened.kept.settings);
  showKept(opened.kept, "Restored from this browser, saved");
}

// kept: what engine/keeping.py calls the state, or null.
export function showKept(kept, verb = "Saved") {
  byId("kept").textContent = kept
    ? `${verb} ${ago(kept.saved)}: ${kept.name}, ${count(kept.rows)} rows, ${bytes(kept.bytes)}. It outlives a reload.`
    : "Nothing yet. What you save outlives a reload.";
  byId("restore").disabled = byId("forget").disabled = !kept;
}

export function showNoStorage(problem) {
  byId("kept").textContent = `Not here: ${problem}.`;
  for (const id of ["keep", "restore", "forget"]) byId(id).hidden = true;
}

async function attempt(title, run) {
  try {
    await run();
  } catch (error) {
    complain(error, title);
  }
}
