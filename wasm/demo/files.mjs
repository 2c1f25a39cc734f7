// Files come in by choosing or dropping, and go out as downloads.

import { byId, showError } from "./dom.mjs";
import { worker } from "./state.mjs";

// onOpened gets what the worker says of a file that was read.
export function wireFiles(onOpened) {
  const read = async (file) => {
    try {
      const name = file.name.toLowerCase().endsWith(".ev") ? "open_index" : "open_file";
      await onOpened(await worker.call(name, {}, file));
    } catch (error) {
      showError(error, `${file.name} cannot be opened`);
    }
  };
  byId("open").onchange = () => {
    const [file] = byId("open").files;
    byId("open").value = ""; // so that the same file can be chosen again
    if (file) read(file);
  };
  byId("export").onclick = download;
  wireDrop(read);
}

function wireDrop(read) {
  const cover = byId("dropping");
  const hasFile = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    cover.hidden = false;
  });
  addEventListener("dragleave", (event) => (cover.hidden ||= event.relatedTarget === null));
  addEventListener("drop", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    cover.hidden = true;
    if (event.dataTransfer.files.length) read(event.dataTransfer.files[0]);
  });
}

async function download() {
  try {
    const { name, file } = await worker.call("export", { path: "/tmp/export.ev" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([file], { type: "application/octet-stream" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } catch (error) {
    showError(error, "The index was not exported");
  }
}
