// Small helpers over the document.

export const byId = (id) => document.getElementById(id);

// Fill a <dl> with {name: value}.
export function pairs(list, values) {
  list.replaceChildren(
    ...Object.entries(values).map(([name, value]) => {
      const pair = document.createElement("div");
      const [term, definition] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name;
      definition.textContent = value;
      pair.append(term, definition);
      return pair;
    }),
  );
}

// Show something at the top of the page: an "error", or "news". A new one replaces the old of its kind.
export function notify(message, { title = "That did not work", action, onAction, kind = "error" } = {}) {
  const notice = document.createElement("div");
  notice.className = `notice ${kind}`;
  notice.innerHTML = `<p><b></b> <span></span></p><div class="buttons"></div>`;
  notice.querySelector("b").textContent = `${title}.`;
  notice.querySelector("span").textContent = message;
  const add = (label, run) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.onclick = run;
    notice.querySelector(".buttons").append(button);
  };
  if (action) add(action, onAction);
  add("Dismiss", () => notice.remove());
  clearNotices(kind);
  byId("notices").append(notice);
}

export function clearNotices(kind = "error") {
  for (const notice of byId("notices").querySelectorAll(`.${kind}`)) notice.remove();
}

const TITLES = {
  OutOfMemoryError: "Not enough memory",
  MemoryError: "Not enough memory",
  FetchError: "A file of this page did not arrive",
  StorageError: "The browser's storage refused",
};

// Show an error of the worker's. After a fatal one only a new start helps.
export function showError(error, title = "That did not work") {
  notify(error.message, {
    title: TITLES[error.kind] ?? title,
    ...(error.fatal && {
      action: error.kind === "FetchError" ? "Try again" : "Start again",
      onAction: () => location.reload(),
    }),
  });
}
