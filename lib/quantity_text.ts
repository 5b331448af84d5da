/** Sizes and durations in words for people. */

const sizeUnits = ["B", "kB", "MB", "GB", "TB", "PB"];

/** Bytes as `512 B`, `1.2 kB` or `34 MB`; a kB is 1,000 of them. */
export function sizeText(bytes: number): string {
  let [value, unit] = [bytes, 0];
  // What would be shown as 1000 is one of the next unit.
  while (Number(shortNumber(value)) >= 1000 && unit < sizeUnits.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? Math.round(value) : shortNumber(value)} ${sizeUnits[unit]}`;
}

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;

/** A duration as `0.4 s`, `12 s`, `5 min`, `2 h 13 min` or `3 d 4 h`. */
export function durationText(ms: number): string {
  if (ms < 9950) return `${(ms / second).toFixed(1)} s`;
  if (ms < minute - second / 2) return `${Math.round(ms / second)} s`;
  if (ms < hour - minute / 2) return `${Math.round(ms / minute)} min`;
  if (ms < day - minute / 2) {
    return twoUnits(Math.round(ms / minute), { of: 60, names: ["h", "min"] });
  }
  return twoUnits(Math.round(ms / hour), { of: 24, names: ["d", "h"] });
}

/** A round trip as `0.4 ms` or `12 ms`. */
export function roundTripText(ms: number): string {
  return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
}

function twoUnits(
  count: number,
  { of, names: [large, small] }: { of: number; names: [string, string] },
): string {
  const rest = count % of;
  return `${Math.floor(count / of)} ${large}${rest === 0 ? "" : ` ${rest} ${small}`}`;
}

/** Two digits at least, and one behind the point at most. */
function shortNumber(value: number): string {
  return value < 9.95 ? value.toFixed(1) : String(Math.round(value));
}
