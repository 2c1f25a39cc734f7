// Numbers as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const two = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const three = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const count = (number) => whole.format(number);

export function bytes(number) {
  const [unit, size] = number >= 1e9 ? ["GB", 1e9] : number >= 1e6 ? ["MB", 1e6] : number >= 1e3 ? ["KB", 1e3] : ["B", 1];
  return `${(number / size).toFixed(size >= 1e6 && number / size < 100 ? 1 : 0)}\u202f${unit}`;
}

export function duration(seconds) {
  const [unit, size] = seconds >= 1 ? ["s", 1] : seconds >= 1e-3 ? ["ms", 1e-3] : ["µs", 1e-6];
  const value = seconds / size;
  return `${(value >= 100 ? whole : value >= 10 ? two : three).format(value)}\u202f${unit}`;
}

export const distance = (number) => number.toFixed(Math.abs(number) < 100 ? 3 : 1);

export function ago(seconds) {
  const minutes = Math.round((Date.now() / 1000 - seconds) / 60);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  return new Date(seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}
