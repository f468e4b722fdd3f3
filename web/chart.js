// While a run trains, and after, its node shows how it goes: loss, held-out loss, what they say.
// Every event of the server holds the whole chart, so a page that was just opened has it too.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { element } from "./shared/dom.mjs";
import { chinese, inLanguage, openGraph } from "./shared/graph.mjs";
import { lossChart, rounded, signed } from "./shared/loss_chart.mjs";
import { hasPanel, show } from "./shared/panel.mjs";

const NODE = "KontextTrainLora";
const [WIDTH, HEIGHT] = [340, 230]; // what is drawn; the node scales it to its own width

const WORDS = {
  rate: ["learning rate", "学习率"], memory: ["memory", "显存"], gain: ["held-out", "验证损失"],
};

/** Step, pace and time left are in the status line, for every client of the server. */
function facts(run) {
  const text = inLanguage(WORDS);
  const [, change, low, high] = run.held_out.at(-1) ?? [];
  const interval = low == null ? "" : ` (${rounded(low)} … ${rounded(high)})`;
  return [
    `${text.rate} ${run.learning_rate.toExponential(1)}`,
    run.memory && `${text.memory} ${(run.memory / 2 ** 30).toFixed(1)} GiB`,
    change !== undefined && `${text.gain} ${signed(change)}${interval}`,
  ].filter(Boolean).join(" · ");
}

/** Before, with the LoRA, and the true result. While a run trains, ComfyUI's preview shows it. */
function lastSample({ run, sample }) {
  const src = api.apiURL(`/kontext/run/${encodeURIComponent(run)}/sample/${encodeURIComponent(sample)}`);
  const picture = element("img", { src, alt: "", class: "sample" });
  picture.style.cssText = "display: block; width: 100%; margin-top: 4px;";
  return picture;
}

function showChart(run) {
  show(
    run, "chart",
    element("div", {}, facts(run)),
    lossChart(run, WIDTH, HEIGHT, chinese()),
    ...run.findings.map((finding) => element("div", {}, finding.text)),
    ...(run.sample ? [lastSample(run)] : []),
  );
}

/** A graph that is opened again, even after a restart, shows the run that its node trained last. */
async function showAgain(node) {
  const reply = await api.fetchApi(`/kontext/run/${encodeURIComponent(node.properties.kontextRun)}/chart`);
  const chart = reply.ok && (await reply.json());
  if (chart) showChart({ ...chart, node: node.id, workflow: openGraph().id });
}

app.registerExtension({
  name: "kontext.chart",
  setup() {
    api.addEventListener("kontext.progress", ({ detail }) => showChart(detail));
  },
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const executed = node.onExecuted;
    node.onExecuted = function (output, ...rest) {
      executed?.call(this, output, ...rest);
      const [run] = output?.kontext_run ?? [];
      if (!run) return;
      this.properties.kontextRun = run;
      showAgain(this);
    };
  },
  afterConfigureGraph() {
    for (const node of openGraph().nodes)
      if (node.comfyClass === NODE && node.properties.kontextRun && !hasPanel(node)) showAgain(node);
  },
});
