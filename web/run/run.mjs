// One run: curves, samples over time, checkpoints, settings by topic, pairs.

import { element } from "../shared/dom.mjs";
import { lossChart } from "../shared/loss_chart.mjs";
import { HOME, ask, chinese, embedded, leave, notice, pageAddress, switchTheme } from "../shared/page.mjs";
import { continueButton, factsOf, stateOf } from "../shared/run_words.mjs";

const ENGLISH = {
  runs: "All runs", viewer: "Viewer", theme: "Light or dark", close: "Close",
  samples: "Samples", sides: "from left to right: before, with the LoRA, true result", keys: "← → another step, ↑ ↓ another picture",
  sample: (step, place, count) => `step ${step}` + (count > 1 ? ` · picture ${place} of ${count}` : ""),
  checkpoints: "Checkpoints", heads: ["step", "held-out loss against the base", "verdict", "MB", "file"], lowest: "lowest", keep: "keep this one",
  settings: "Settings", bold: "Bold: not the default.", pairs: (count) => `Pairs (${count})`,
  pair: ["name", "", "caption"], holdout: "held out", notes: "Notes", note: (step, text) => `step ${step}: ${text}`,
  topics: {
    run: "Training", basic: "Basics", lora: "LoRA", learning: "Learning", data: "Pictures and captions", memory: "Memory and speed",
    record: "Records",
  },
};
const CHINESE = {
  runs: "全部训练", viewer: "对比查看器", theme: "浅色或深色", close: "关闭",
  samples: "采样图", sides: "从左到右：修改前、使用 LoRA、真实的修改后图片", keys: "← → 换步数，↑ ↓ 换图片",
  sample: (step, place, count) => `第 ${step} 步` + (count > 1 ? ` · 第 ${place}/${count} 张` : ""),
  checkpoints: "检查点", heads: ["步数", "验证损失（相对基础模型）", "判断", "MB", "文件"], lowest: "最低", keep: "推荐保留",
  settings: "设置", bold: "粗体：与默认值不同。", pairs: (count) => `图片对（${count}）`,
  pair: ["名称", "", "打标文本"], holdout: "验证", notes: "备注", note: (step, text) => `第 ${step} 步：${text}`,
  topics: {
    run: "训练", basic: "基本", lora: "LoRA", learning: "学习方式", data: "图片与打标", memory: "显存与速度", record: "记录",
  },
};
const words = chinese ? CHINESE : ENGLISH;
const AGAIN = 3000; // ms between two looks at a run that is being trained
const BASE = HOME.replace(/\/run\/[^/]*$/, "");
const byId = (id) => document.getElementById(id);

const part = (title, ...content) => element("section", {}, element("h2", {}, title), ...content);
const table = (heads, rows) =>
  element("div", { class: "wide" }, element("table", {},
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", {}, head)))),
    element("tbody", {}, ...rows)));

// ---- samples over time ------------------------------------------------------------------------

/** The samples as step → files, and which one is shown. */
const gallery = {
  steps: [], files: {}, step: -1, place: 0,

  take(names) {
    const last = this.step === this.steps.length - 1; // whoever looks at the newest goes on doing so
    this.files = {};
    for (const name of names) {
      const step = Number(name.match(/^step_(\d+)/)[1]);
      (this.files[step] ??= []).push(name);
    }
    for (const files of Object.values(this.files))
      files.sort((one, other) => one.length - other.length || (one < other ? -1 : 1));
    this.steps = Object.keys(this.files).map(Number).sort((a, b) => a - b);
    if (last) this.step = this.steps.length - 1;
  },

  shown() {
    const step = this.steps[this.step], files = this.files[step];
    this.place = Math.min(this.place, files.length - 1);
    const go = (place) => () => { this.step = place; this.draw(); };
    const steps = this.steps.map((each, place) =>
      element("button", { "aria-pressed": place === this.step ? "true" : "false", onclick: go(place) }, `${each}`));
    return [
      element("figure", {},
        element("figcaption", { id: "sample" }, words.sample(step, this.place + 1, files.length)),
        element("img", { alt: "", src: `${HOME}/sample/${files[this.place]}` }),
        element("figcaption", {}, words.sides)),
      element("div", { class: "steps segments" }, ...steps),
      element("p", { class: "faint" }, words.keys),
    ];
  },

  draw() {
    byId("samples")?.replaceChildren(...this.shown());
  },

  move(steps, places) {
    const within = (value, count) => Math.min(Math.max(value, 0), count - 1);
    this.step = within(this.step + steps, this.steps.length);
    this.place = within(this.place + places, this.files[this.steps[this.step]].length);
    this.draw();
  },
};

// ---- the page ---------------------------------------------------------------------------------

function show(run) {
  document.title = byId("title").textContent = run.name;
  const place = `${BASE}/compare/${encodeURIComponent(run.name)}/${run.comparison}`;
  byId("actions").replaceChildren(
    element("a", { class: "button", href: pageAddress(`${BASE}/runs`) }, words.runs),
    ...(run.comparison ? [element("a", { class: "button", href: pageAddress(place) }, words.viewer)] : []),
    ...continueButton(run, `${HOME}/graph`),
    element("button", { class: "quiet", title: words.theme, onclick: switchTheme }, "◐"),
    ...(embedded ? [element("button", { class: "quiet", title: words.close, onclick: leave }, "✕")] : []));
  gallery.take(run.samples);
  const width = Math.min(1030, byId("run").clientWidth - 28);
  const content = [
    element("p", {}, stateOf(run), element("span", { class: "faint" }, ` · ${factsOf(run)}`)),
    ...(run.ending ? [element("p", { class: "finding good" }, run.ending)] : []),
    ...(run.chart?.findings ?? []).filter(({ kind }) => !run.ending || kind !== "undecided") // it is over
      .map(({ kind, text }) => element("p", { class: kind.startsWith("improving") ? "finding good" : "finding" }, text)),
    ...(run.chart ? [element("div", { class: "chart" }, lossChart(run.chart, width, 360, chinese))] : []),
    ...(gallery.steps.length
      ? [part(words.samples, element("div", { id: "samples", class: "strip" }, ...gallery.shown()))] : []),
    part(words.checkpoints, table(words.heads, run.rows.map(checkpointRow))),
    ...(run.notes.length
      ? [part(words.notes, ...run.notes.map(([step, text]) => element("p", { class: "faint" }, words.note(step, text))))] : []),
    part(words.settings, element("p", { class: "faint" }, words.bold),
      element("div", { class: "settings" }, ...settingRows(run.settings))),
    ...(run.pairs.length
      ? [part(words.pairs(run.pairs.length), table(words.pair, run.pairs.map(pairRow)))] : []),
  ];
  byId("run").replaceChildren(...content);
}

const cells = (row, values, kinds = []) =>
  element("tr", row, ...values.map((value, place) => element("td", { class: kinds[place] ?? "" }, value)));

const checkpointRow = (each) =>
  cells({ class: each.keep ? "best" : "" },
    [`${each.step}`, each.held_out + (each.best ? ` · ${words.lowest}` : ""),
      each.verdict + (each.keep ? ` · ${words.keep}` : ""), each.megabytes.toFixed(1), each.name],
    ["number", "", "", "number", "text"]);

const pairRow = (pair) =>
  cells({}, [pair.stem, pair.split === "holdout" ? words.holdout : "", pair.caption], ["", "", "text"]);

function settingRows(settings) {
  const made = [];
  let topic = "";
  for (const [name, value, changed, of] of settings) {
    if (of !== topic) made.push(element("h3", {}, words.topics[of]));
    topic = of;
    made.push(element("div", {}, `${name} `, changed ? element("b", {}, `${value}`) : `${value}`));
  }
  return made;
}

let training = false; // as far as is known: an answer that fails does not end it

async function load() {
  try {
    const run = await ask("facts");
    training = run.state === "training";
    show(run);
  } catch (error) {
    notice(error.message);
  }
  if (training) setTimeout(load, AGAIN);
}

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && embedded) return leave();
  const move = MOVES[event.key];
  if (!move || !gallery.steps.length || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  gallery.move(...move);
});
load();
