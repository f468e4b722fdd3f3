// The curves of a run: training loss, and the held-out loss against the base model.

import { drawn } from "./dom.mjs";

const BLUE = "#5b8def", GREEN = "#3fae76";

const ENGLISH = {
  step: "step", loss: "training loss", mean: "thick: moving mean of 5% of the steps",
  held: "held-out loss against the base model",
};
const CHINESE = {
  step: "步数", loss: "训练损失", mean: "粗线：5% 步数的滑动平均", held: "验证损失（相对基础模型）",
};

// ---- numbers as people read them -------------------------------------------------------------

export const rounded = (value) => String(Number(value.toPrecision(3)));
export const signed = (value) => (value > 0 ? "+" : "") + rounded(value) + "%";

/** Two to five round numbers that span low..high. */
function ticks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((each) => each >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const count = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, i) => Number(((first + i) * step).toPrecision(6)));
}

// ---- drawing -----------------------------------------------------------------------------------

/** One pair of axes: what is drawn on it is given in steps and values. */
function panel({ left, top, width, height, steps, low, high, label, colour, format }) {
  const x = (step) => left + (step / steps) * width;
  const y = (value) => top + (1 - (Math.min(Math.max(value, low), high) - low) / (high - low)) * height;
  const path = (points) => "M" + points.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join("L");
  const group = drawn("g");
  for (const value of ticks(low, high)) {
    group.append(
      drawn("line", { x1: left, x2: left + width, y1: y(value), y2: y(value), stroke: "currentColor", opacity: 0.15 }),
      drawn("text", { x: left - 5, y: y(value) + 3.5, "text-anchor": "end" }, format(value)),
    );
  }
  group.append(drawn("text", { x: left, y: top - 5, fill: colour, "font-weight": 600 }, label));
  return { group, x, y, path };
}

/** `run` is an event's: `steps`, `loss` rows of step, loss, mean, `held_out` of step, change, low, high. */
export function lossChart(run, width, height, chinese) {
  const text = chinese ? CHINESE : ENGLISH;
  const svg = drawn("svg", {
    width: "100%", viewBox: `0 0 ${width} ${height}`, "font-size": 11, fill: "currentColor",
  });
  const held = run.held_out.length > 0;
  const [left, right, bottom, gap] = [46, 12, 18, 26];
  const room = height - 16 - bottom - (held ? gap : 0);
  const place = { left, width: width - left - right, steps: run.steps };

  // a single step of an unlucky noise level must not flatten the rest
  const losses = run.loss.map(([, loss]) => loss).sort((a, b) => a - b);
  const usual = losses[Math.floor(0.95 * (losses.length - 1))];
  const high = 1.15 * Math.max(usual, ...run.loss.map(([, , mean]) => mean)) || 1;
  const loss = panel({
    ...place, top: 16, height: held ? 0.55 * room : room, low: 0, high,
    label: text.loss, colour: BLUE, format: rounded,
  });
  loss.group.append(
    drawn("path", { d: loss.path(run.loss), fill: "none", stroke: BLUE, opacity: 0.35 }),
    drawn("path", { d: loss.path(run.loss.map(([step, , mean]) => [step, mean])), fill: "none", stroke: BLUE, "stroke-width": 2 }),
    drawn("title", {}, text.mean),
  );
  svg.append(loss.group);

  if (held) {
    const changes = run.held_out.map(([, change]) => change);
    const [least, most] = [Math.min(0, ...changes), Math.max(0, ...changes)];
    const reach = run.held_out.map(([, change, low]) => (low === null ? 0 : change - low)).sort((a, b) => a - b);
    const margin = Math.max(reach[Math.floor(reach.length / 2)], 0.1 * (most - least), 0.5);
    const chart = panel({
      ...place, top: 16 + 0.55 * room + gap, height: 0.45 * room, low: least - margin, high: most + margin,
      label: text.held, colour: GREEN, format: signed,
    });
    const { group, x, y, path } = chart;
    group.append(drawn("line", {
      x1: left, x2: width - right, y1: y(0), y2: y(0), stroke: "currentColor", "stroke-dasharray": "4 3", opacity: 0.6,
    }));
    for (const [step, change, low, high] of run.held_out) {
      if (low !== null) group.append(drawn("line", { x1: x(step), x2: x(step), y1: y(low), y2: y(high), stroke: GREEN, opacity: 0.6 }));
      group.append(drawn("circle", { cx: x(step), cy: y(change), r: 2.5, fill: GREEN }));
    }
    group.append(drawn("path", { d: path(run.held_out), fill: "none", stroke: GREEN, "stroke-width": 1.5 }));
    svg.append(group);
  }
  const anchor = (step) => (step === 0 ? "start" : step === run.steps ? "end" : "middle");
  for (const step of ticks(0, run.steps))
    svg.append(drawn("text", { x: loss.x(step), y: height - 5, "text-anchor": anchor(step) }, step || text.step + " 0"));
  return svg;
}

