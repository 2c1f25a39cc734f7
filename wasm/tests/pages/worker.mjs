import { boot } from "./boot.mjs";

onmessage = async ({ data: { id, code } }) => {
  try {
    postMessage({ id, result: await (await boot()).runPythonAsync(code) });
  } catch (error) {
    postMessage({ id, error: error.message });
  }
};
