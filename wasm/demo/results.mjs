// The list of results: drawn in place, walked with the arrow keys.

import { distance } from "./format.mjs";

// onNeighbors(id) is called when a result is chosen, onLeave() when the arrow leads above the first.
export function resultList(list, { onNeighbors, onLeave }) {
  const buttons = () => [...list.querySelectorAll("button")];

  list.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) onNeighbors(button.dataset.id); // a text: ids have up to 64 bits
  });

  list.addEventListener("keydown", (event) => {
    const all = buttons();
    const at = all.indexOf(document.activeElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (next === undefined || at < 0) return;
    event.preventDefault();
    if (next < 0) onLeave();
    else all[Math.min(next, all.length - 1)].focus();
  });

  return {
    focusFirst: () => buttons()[0]?.focus(),

    // Items are reused, so that the focus stays where it is.
    draw(hits, metric) {
      const near = closeness(hits, metric);
      while (list.children.length > hits.length) list.lastChild.remove();
      while (list.children.length < hits.length) list.append(newItem());
      hits.forEach((hit, i) => fill(list.children[i], hit, near[i]));
      list.classList.remove("stale");
    },

    // What is shown answers an older question.
    fade: () => list.classList.add("stale"),
  };
}

function newItem() {
  const item = document.createElement("li");
  item.innerHTML = `<button type="button"><span class="entry"><b></b> <span></span></span>
    <span class="where"></span><span class="far"><span></span><i aria-hidden="true"></i></span></button>`;
  return item;
}

function fill(item, { id, text, topic, distance: far }, near) {
  const [word, rest] = headword(text ?? `row ${id}`);
  item.firstChild.dataset.id = id;
  item.querySelector(".entry b").textContent = word;
  item.querySelector(".entry span").textContent = rest;
  item.querySelector(".where").textContent = topic ?? (text === null ? "" : `row ${id}`);
  item.querySelector(".far span").textContent = distance(far);
  item.querySelector(".far").title = `distance ${far}`;
  item.querySelector(".far i").style.setProperty("--near", near);
}

// "words: definition", as dictionaries have it; other texts have no headword.
export function headword(text) {
  const at = text.indexOf(": ");
  return at > 0 && at < 80 ? [text.slice(0, at), text.slice(at + 2)] : ["", text];
}

// How full the bars are, 0 to 1. A cosine distance says it by itself; others are compared with those shown.
function closeness(hits, metric) {
  const distances = hits.map(({ distance }) => distance);
  if (metric === "cosine") return distances.map((far) => Math.min(1, Math.max(0, 1 - far)));
  const [least, most] = [Math.min(...distances), Math.max(...distances)];
  return distances.map((far) => 1 - (0.9 * (far - least)) / (most - least || 1));
}
