/** A strict reader of OpenMetrics 1.0 text, as far as counters and gauges go. */

/** A family of metrics. */
export interface MetricFamily {
  type: string;
  unit: string | undefined;
  help: string | undefined;
  /** Values by name and labels, as in `name{label="value"}`, sorted by label. */
  samples: Map<string, number>;
}

const name = "[a-zA-Z_:][a-zA-Z0-9_:]*";
const escapedText = String.raw`(?:[^"\\\n]|\\["\\n])*`;
const pair = `[a-zA-Z_][a-zA-Z0-9_]*="${escapedText}"`;
const metadataLine = new RegExp(`^# (TYPE|UNIT|HELP) (${name}) (.+)$`);
const sampleLine = new RegExp(`^(${name})(?:\\{(${pair}(?:,${pair})*)\\})? (\\S+)$`);
const number = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$/;

/**
 * Reads a page.
 *
 * @throws {Error} where it breaks a rule; the message has the line
 */
export function parseOpenMetrics(page: string): Map<string, MetricFamily> {
  const lines = page.split("\n");
  if (lines.pop() !== "" || lines.pop() !== "# EOF") throw new Error("it does not end with # EOF");
  const families = new Map<string, MetricFamily>();
  let current: [string, MetricFamily] | undefined;
  for (const line of lines) {
    const demand = (isFine: unknown) => {
      if (!isFine) throw new Error(`not OpenMetrics: ${line}`);
    };
    const metadata = metadataLine.exec(line);
    if (metadata) {
      const [, kind, its, words] = metadata as unknown as [string, string, string, string];
      if (current?.[0] !== its) {
        demand(!families.has(its));
        current = [its, { type: "unknown", unit: undefined, help: undefined, samples: new Map() }];
        families.set(...current);
      }
      const [, family] = current;
      demand(family.samples.size === 0);
      if (kind === "TYPE") {
        demand(family.type === "unknown" && ["counter", "gauge"].includes(words));
        family.type = words;
      } else if (kind === "UNIT") {
        demand(family.unit === undefined && its.endsWith(`_${words}`));
        family.unit = words;
      } else {
        demand(family.help === undefined && !/[^\\]\\[^\\n"]/.test(words));
        family.help = words;
      }
      continue;
    }
    const sample = sampleLine.exec(line);
    demand(sample && current);
    const [, its, labels = "", value] = sample as unknown as [string, string, string, string];
    const [familyName, family] = current!;
    demand(its === (family.type === "counter" ? `${familyName}_total` : familyName));
    demand(number.test(value) && (family.type !== "counter" || Number(value) >= 0));
    const pairs = [...labels.matchAll(new RegExp(pair, "g"))].map(([text]) => text).sort();
    demand(new Set(pairs.map((text) => text.split("=")[0])).size === pairs.length);
    const key = `${its}${pairs.length === 0 ? "" : `{${pairs.join(",")}}`}`;
    demand(!family.samples.has(key));
    family.samples.set(key, Number(value));
  }
  return families;
}
