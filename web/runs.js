// The button of Train and of Open Run that opens the run's page, or the list of all runs.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { inLanguage } from "./shared/graph.mjs";
import { openPage } from "./shared/overlay.mjs";

const NODES = ["KontextTrainLora", "KontextOpenRun"];
const WORDS = { open: ["Open run page", "打开训练详情"] };

async function openRun(node) {
  const name = node.widgets.find((widget) => widget.name === "name")?.value ?? "";
  const page = `/kontext/run/${encodeURIComponent(name)}`;
  const there = name && (await api.fetchApi(page)).ok;
  return openPage(there ? page : "/kontext/runs", inLanguage(WORDS).open);
}

app.registerExtension({
  name: "kontext.runs",
  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass)) return;
    const button = node.addWidget("button", "kontext_run_page", null, () => openRun(node), {
      serialize: false,
    });
    button.label = inLanguage(WORDS).open;
    button.serialize = false;
  },
});
