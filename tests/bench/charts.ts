/** Charts of a run as SVG: bars of the four ways in groups, readable on light and on dark pages. */

import { figure, type Report } from "./report.ts";
import { median, type Row, type WayName, wayNames } from "./rows.ts";

/** A chart: a group of bars for each row. */
interface Chart {
  file: string;
  title: string;
  /** The rows and what each is called below its bars. */
  groups: { label: string; row: Row }[];
}

const labels: Record<WayName, string> = {
  ssh: "ssh",
  ControlMaster: "ControlMaster",
  port: "sshshim's port",
  lane: "sshshim's control socket",
};

const style = `
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.value { font-size: 11px; text-anchor: middle; fill: #59636e }
.group { text-anchor: middle }
.ssh { fill: #8c959f }
.ControlMaster { fill: #bf8700 }
.port { fill: #54aeff }
.lane { fill: #0550ae }
.axis { stroke: #d0d7de }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.value { fill: #9198a1 }
.ssh { fill: #656c76 }
.ControlMaster { fill: #d29922 }
.port { fill: #1f6feb }
.lane { fill: #79c0ff }
.axis { stroke: #3d444d }
}
`;

/**
 * The charts by their file names.
 *
 * @throws {Error} when the run did not measure what they show
 */
export function drawCharts(report: Report): Map<string, string> {
  const rows = new Map(report.families.flatMap(({ rows }) => rows.map((row) => [row.what, row])));
  const group = (label: string, what: string) => {
    const row = rows.get(what);
    if (row === undefined) throw new Error(`The chart needs "${what}", which was not measured.`);
    return { label, row };
  };
  const charts: Chart[] = [
    {
      file: "bench-latency.svg",
      title: 'Time of "ssh HOST true", by the round trip to the host (ms; less is better)',
      groups: [0, 20, 100, 200].map((ms) => group(`${ms} ms`, `exec, ${ms} ms away`)),
    },
    {
      file: "bench-throughput.svg",
      title: "Bytes through sessions, on one machine (MB/s; more is better)",
      groups: ["one stream down", "one stream up", "eight streams down", "eight streams up"].map(
        (what) => group(what, what),
      ),
    },
  ];
  return new Map(charts.map((chart) => [chart.file, draw(chart)]));
}

const size = { width: 720, height: 300 };
const plot = { left: 16, top: 76, width: 688, height: 184 };

function draw({ title, groups }: Chart): string {
  const highest = Math.max(
    ...groups.flatMap(({ row }) => Object.values(row.samples).map((samples) => median(samples))),
  );
  const groupWidth = plot.width / groups.length;
  const barWidth = groupWidth * 0.8 / wayNames.length;
  const baseline = plot.top + plot.height;
  const bars = groups.flatMap(({ label, row }, index) => {
    const left = plot.left + index * groupWidth + groupWidth * 0.1;
    const ways = wayNames.flatMap((name, position) => {
      const samples = row.samples[name];
      if (samples === undefined) return [];
      const value = median(samples);
      const height = Math.max(1, plot.height * value / highest);
      const x = left + position * barWidth;
      return [
        `<rect class="${name}" x="${round(x)}" y="${round(baseline - height)}" width="${
          round(barWidth - 2)
        }" height="${round(height)}"/>`,
        `<text class="value" x="${round(x + barWidth / 2 - 1)}" y="${
          round(baseline - height - 4)
        }">${figure(value)}</text>`,
      ];
    });
    const middle = round(left + groupWidth * 0.4);
    return [...ways, `<text class="group" x="${middle}" y="${baseline + 20}">${label}</text>`];
  });
  let x = plot.left;
  const legend = wayNames.flatMap((name) => {
    const entry = [
      `<rect class="${name}" x="${x}" y="40" width="12" height="12"/>`,
      `<text x="${x + 18}" y="51">${labels[name]}</text>`,
    ];
    x += 40 + labels[name].length * 7;
    return entry;
  });
  const { width, height } = size;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">`,
    `<title>${title}</title>`,
    `<style>${style}</style>`,
    `<text class="title" x="${plot.left}" y="24">${title}</text>`,
    ...legend,
    `<path class="axis" d="M${plot.left} ${baseline}.5h${plot.width}"/>`,
    ...bars,
    "</svg>",
    "",
  ].join("\n");
}

function round(value: number): string {
  return value.toFixed(1);
}
