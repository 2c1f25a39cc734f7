// Latency and recall, as figures, a curve and a split of where the time went.

import { count, duration } from "./format.mjs";
import { byId, pairs } from "./dom.mjs";

const WIDTH = 300;
const HEIGHT = 44;
const SHOWN = 60;

// figures: what python/session.py's `examine` and `measure` return.
export function drawFigures({ calls, trips, recalls, scans }, k) {
  if (!calls.n) return clearFigures();
  byId("p50").textContent = duration(calls.p50);
  byId("recall").textContent = percent(recalls.mean);
  byId("recall-note").textContent = `recall@${k} against exact search`;
  pairs(byId("latencies"), {
    P95: duration(calls.p95),
    P99: duration(calls.p99),
    searches: count(calls.n),
    "exact search": duration(scans.p50),
    ...(trips.n && { "round trip, P50": duration(trips.p50) }),
  });
  drawSpark(calls.values.slice(-SHOWN));
  showSplit(trips.n ? Math.min(1, calls.p50 / trips.p50) : undefined);
}

export function clearFigures() {
  for (const id of ["p50", "recall"]) byId(id).textContent = "–";
  for (const id of ["latencies", "spark"]) byId(id).replaceChildren();
  showSplit();
}

// The search call's share of the round trip; undefined where there was none.
function showSplit(share) {
  byId("split").hidden = share === undefined;
  if (share === undefined) return;
  byId("split-bar").style.setProperty("--share", share);
  byId("split-share").textContent = share < 0.01 ? "under 1\u202f%" : `${Math.round(100 * share)}\u202f%`;
}

const percent = (share) => `${(100 * share).toFixed(share >= 0.9995 ? 0 : 1)}\u202f%`;

function drawSpark(values) {
  const top = Math.max(...values) * 1.1;
  const step = WIDTH / (SHOWN - 1);
  const first = WIDTH - step * (values.length - 1);
  const points = values.map((value, i) => [first + i * step, HEIGHT - (HEIGHT - 3) * (value / top)]);
  const line = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  const [x, y] = points.at(-1);
  const area = `${points[0][0].toFixed(1)},${HEIGHT} ${line} ${x.toFixed(1)},${HEIGHT}`;
  byId("spark").innerHTML = `<polygon points="${area}" /><polyline points="${line}" />
    <path d="M${x.toFixed(1)},${y.toFixed(1)}h0" />`;
  const [least, most] = [Math.min(...values), Math.max(...values)];
  byId("spark").setAttribute(
    "aria-label",
    `Times of the last ${values.length} searches: ${duration(least)} to ${duration(most)}`,
  );
}
