// While a run trains, its node shows how it goes: loss, held-out loss, pace, and what they say.
// Every event of the server holds the whole chart, so a page that was just opened has it too.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const NODE = "KontextTrainLora";
const WIDGET = "kontext_chart";
const HEIGHT = 290;
const BLUE = "#5b8def", GREEN = "#3fae76";

const ENGLISH = {
  step: "step", rate: "learning rate", memory: "memory", gain: "held-out", loss: "training loss",
  mean: "thick: moving mean of 5 % of the steps", held: "held-out loss against the base model",
  base: "base",
};

const CHINESE = {
  step: "步数", rate: "学习率", memory: "显存", gain: "留出损失", loss: "训练损失",
  mean: "粗线：5 % 步数的滑动平均", held: "留出损失（相对基础模型）", base: "基础模型",
  // the findings, by their kinds (evaluation/diagnosis.py); in English they come with the event
  rate_too_high: "学习率过高：训练损失来回摆动，有 {times} 次上升，最多 {rise} %，超出单步噪声的范围。请将学习率减半。",
  rate_too_high_held_out: "学习率过高：留出损失上下跳动 {times} 次，最多为基础模型的 {rise} %。请将学习率减半。",
  memorising: "过拟合（在背图）：自第 {step} 步起，留出损失上升了基础模型的 {rise} %（至少 {low} %），而训练损失下降了 {fall} %。请使用第 {step} 步附近的检查点；增加图片对、减少步数或降低 rank 会有帮助。",
  held_out_rises: "已过最佳点：自第 {step} 步起，留出损失上升了基础模型的 {rise} %（至少 {low} %）。请使用第 {step} 步附近的检查点。",
  improving: "仍在进步：最近三分之一的步数里，留出损失又下降了基础模型的 {fall} %（{low} 至 {high} %），现为 {change} %。继续训练应有帮助。",
  improving_training: "仍在进步：最近三分之一的步数里，训练损失下降了 {fall} %（至少 {low} %）。继续训练可能有帮助。",
  stalled: "过早停滞：自第 {step} 步（共 {done} 步）起，留出损失停在相对基础模型 {change} %。请尝试更高的学习率或 rank，并检查图片对和描述；仅增加步数没有用。",
  stalled_training: "过早停滞：{done} 步里训练损失只下降了 {fall} %，至多 {high} %。请尝试更高的学习率，并检查图片对和描述。",
  levelled: "已趋平稳：自第 {step} 步起，留出损失停在相对基础模型 {change} %。继续同样的训练收益很小。",
  levelled_training: "已趋平稳：训练损失共下降 {fall} %，最近三分之一的步数里不到 {high} %。继续同样的训练收益很小。",
  levelled_as_rate_fell: "随学习率下降而趋平：自第 {step} 步起，留出损失停在相对基础模型 {change} %，但最近三分之一的步数里学习率只有峰值的 {rate} %。计划更多步数的训练可能还有提升。",
  undecided: "还看不出趋势：最近三分之一的步数里，留出损失变化了基础模型的 {change} %（{low} 至 {high} %）。",
  undecided_training: "还看不出趋势：最近三分之一的步数里，训练损失变化了 {change} %（{low} 至 {high} %），在单步噪声之内。",
  too_early: "现在判断还太早：{done} 步，{tests} 次留出测量。",
  few_held_out: "留出图片对太少：只有 {pairs} 对，无法判断是否过拟合。请至少留出 3 对，最好 5 对。",
};

function words() {
  const locale = app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";
  return locale.startsWith("zh") ? CHINESE : ENGLISH;
}

const said = ({ kind, numbers, text }, words) =>
  words[kind]?.replace(/\{(\w+)\}/g, (_, name) => numbers[name]) ?? text;

// ---- numbers as people read them -------------------------------------------------------------

const rounded = (value) => String(Number(value.toPrecision(3)));
const signed = (value) => (value > 0 ? "+" : "") + rounded(value) + " %";

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

function element(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** One pair of axes: what is drawn on it is given in steps and values. */
function panel({ left, top, width, height, steps, low, high, label, colour, format }) {
  const x = (step) => left + (step / steps) * width;
  const y = (value) => top + (1 - (Math.min(Math.max(value, low), high) - low) / (high - low)) * height;
  const path = (points) => "M" + points.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join("L");
  const group = element("g");
  for (const value of ticks(low, high)) {
    group.append(
      element("line", { x1: left, x2: left + width, y1: y(value), y2: y(value), stroke: "currentColor", opacity: 0.15 }),
      element("text", { x: left - 5, y: y(value) + 3.5, "text-anchor": "end" }, format(value)),
    );
  }
  group.append(element("text", { x: left, y: top - 5, fill: colour, "font-weight": 600 }, label));
  return { group, x, y, path };
}

function drawing(run, width, height, text) {
  const svg = element("svg", {
    width, height, viewBox: `0 0 ${width} ${height}`, "font-size": 11, fill: "currentColor",
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
    element("path", { d: loss.path(run.loss), fill: "none", stroke: BLUE, opacity: 0.35 }),
    element("path", { d: loss.path(run.loss.map(([step, , mean]) => [step, mean])), fill: "none", stroke: BLUE, "stroke-width": 2 }),
    element("title", {}, text.mean),
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
    group.append(element("line", {
      x1: left, x2: width - right, y1: y(0), y2: y(0), stroke: "currentColor", "stroke-dasharray": "4 3", opacity: 0.6,
    }));
    for (const [step, change, low, high] of run.held_out) {
      if (low !== null) group.append(element("line", { x1: x(step), x2: x(step), y1: y(low), y2: y(high), stroke: GREEN, opacity: 0.6 }));
      group.append(element("circle", { cx: x(step), cy: y(change), r: 2.5, fill: GREEN }));
    }
    group.append(element("path", { d: path(run.held_out), fill: "none", stroke: GREEN, "stroke-width": 1.5 }));
    svg.append(group);
  }
  for (const step of ticks(0, run.steps))
    svg.append(element("text", { x: loss.x(step), y: height - 5, "text-anchor": step ? "middle" : "start" }, step || text.step + " 0"));
  return svg;
}

/** Step, pace and time left are in the node's text already, for every client of the server. */
function facts(run, text) {
  const [, change, low, high] = run.held_out.at(-1) ?? [];
  const interval = low == null ? "" : ` (${rounded(low)} … ${rounded(high)})`;
  return [
    `${text.rate} ${run.learning_rate.toExponential(1)}`,
    run.memory && `${text.memory} ${(run.memory / 2 ** 30).toFixed(1)} GiB`,
    change !== undefined && `${text.gain} ${signed(change)}${interval}`,
  ].filter(Boolean).join(" · ");
}

function line(content, opacity) {
  const made = document.createElement("div");
  made.textContent = content;
  made.style.cssText = `opacity: ${opacity}; flex: none; user-select: text;`;
  return made;
}

// ---- the node ------------------------------------------------------------------------------------

/** The node of an execution id such as "4", or "12:4" inside a subgraph. */
function nodeOf(id) {
  let graph = app.rootGraph ?? app.graph, node;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(part) ?? graph?.getNodeById(Number(part));
    graph = node?.subgraph;
  }
  return node?.type === NODE ? node : undefined;
}

const chartOf = (node) => node.widgets?.find((widget) => widget.name === WIDGET);

function addChart(node) {
  const box = document.createElement("div");
  box.className = "kontext-chart";
  box.style.cssText =
    "display: flex; flex-direction: column; gap: 4px; width: 100%; height: 100%; overflow: hidden; " +
    "box-sizing: border-box; padding: 4px 6px; font: 11px/1.35 sans-serif; color: var(--input-text, #ccc);";
  const widget = node.addDOMWidget(WIDGET, "kontext_chart", box, {
    serialize: false, hideOnZoom: false, getMinHeight: () => HEIGHT, getMaxHeight: () => HEIGHT, getValue: () => "",
  });
  widget.serialize = false; // neither in the saved workflow
  widget.showRun = (run) => {
    const text = words();
    const findings = run.findings.map((finding) => line(said(finding, text), 0.95));
    box.replaceChildren(line(facts(run, text), 0.8));
    box.append(...findings);
    const used = [...box.children].reduce((sum, child) => sum + child.offsetHeight + 4, 8);
    const width = box.clientWidth - 12;
    box.insertBefore(drawing(run, Math.max(width, 200), Math.max(HEIGHT - used, 140), text), box.children[1] ?? null);
  };
  node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
  return widget;
}

function removeChart(node) {
  const widget = chartOf(node);
  if (!widget) return;
  node.removeWidget(widget);
  node.setSize([node.size[0], Math.max(node.computeSize()[1], node.size[1] - HEIGHT)]);
}

app.registerExtension({
  name: "kontext.chart",
  setup() {
    api.addEventListener("kontext.progress", ({ detail }) => {
      const node = nodeOf(detail.node);
      if (!node) return; // another workflow is open
      const widget = chartOf(node) ?? addChart(node);
      requestAnimationFrame(() => widget.showRun(detail));
      app.graph.setDirtyCanvas(true, true);
    });
    // a finished node shows its loss plot, with all of this in it
    api.addEventListener("executed", ({ detail }) => {
      const node = nodeOf(detail.display_node ?? detail.node);
      if (node) removeChart(node);
    });
  },
});
