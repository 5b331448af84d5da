/** What the bench measures, as numbers: samples of each way, their medians and their spread. */

/** The ways to a host that are compared, in the order in which they are shown. */
export const wayNames = ["ssh", "ControlMaster", "port", "lane"] as const;

/** One of them: ssh alone, ssh's own sharing, sshshim's port, its control socket. */
export type WayName = typeof wayNames[number];

/** One measurement of all ways that it is for. */
export interface Row {
  what: string;
  /** The unit of the samples, such as `ms`. */
  unit: string;
  /** A way that was not measured is missing. */
  samples: Partial<Record<WayName, number[]>>;
}

/** What one file of the bench measures. */
export interface Family {
  /** What `--only` calls it. */
  name: string;
  /** What is measured and how, in a sentence or two. */
  about: string;
  /** Tells each row as soon as it is there. */
  measure(options: FamilyOptions): AsyncIterable<Row>;
}

/** How a family is run. */
export interface FamilyOptions {
  /** Fewer rounds and fewer bytes, to see that it works. */
  isQuick: boolean;
}

/** The middle one of the values. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The value that `share` of the values, from 0 to 1, are not above; between two, a mix of them. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const [low, high] = [sorted[Math.floor(at)]!, sorted[Math.ceil(at)]!];
  return low + (high - low) * (at - Math.floor(at));
}

/**
 * How far samples are from their median, as a share of it: half the distance between the quartiles,
 * or with less than six samples half that between the lowest and the highest. `undefined` for a
 * single one.
 */
export function spread(values: readonly number[]): number | undefined {
  if (values.length < 2) return undefined;
  const share = values.length < 6 ? 0 : 0.25;
  return (quantile(values, 1 - share) - quantile(values, share)) / 2 / Math.abs(median(values));
}

/** Measures each way `rounds` times, in turn, so that what disturbs the machine disturbs all. */
export async function inTurn<Way extends { name: WayName }, Sample>(
  ways: readonly Way[],
  rounds: number,
  measure: (way: Way) => Promise<Sample>,
): Promise<Map<WayName, Sample[]>> {
  const samples = new Map<WayName, Sample[]>(ways.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const way of ways) samples.get(way.name)!.push(await measure(way));
  }
  return samples;
}

/** A row of what `inTurn` measured. */
export function rowOf<Sample>(
  what: string,
  unit: string,
  samples: Map<WayName, Sample[]>,
  number: (sample: Sample) => number,
): Row {
  const entries = [...samples].map(([name, all]) => [name, all.map(number)]);
  return { what, unit, samples: Object.fromEntries(entries) };
}
