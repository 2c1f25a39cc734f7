// What the page knows, and the worker that it asks. Every module reads these; app.mjs says when they change.

import { WorkerClient } from "./worker-client.mjs";

export const worker = new WorkerClient();

export const state = {
  settings: { k: 10, ef: 64, topic: "", where: "" },
  question: { text: "" }, // or {like: id}, the id as a text
  source: null, // what is open, as python/sources.py describes it
  index: null, // as python/session.py describes it
  building: false,
  clock: 0, // seconds: the smallest step of the worker's clock
};
