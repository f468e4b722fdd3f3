// The button of Load Paired Dataset, Load Pictures, Caption Pairs and Check Pairs that opens the
// page of their pairs; and what that page asks of the graph around it.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { inLanguage } from "./shared/graph.mjs";
import { openPage, tell } from "./shared/overlay.mjs";
import { ancestors, runPart } from "./shared/prompt.mjs";

const LOADERS = ["KontextLoadPairs", "KontextLoadPictures"];
const NODES = [...LOADERS, "KontextCaptionPairs", "KontextCheckPairs"];
const QUESTIONS = ["propose the instruction", "提出编辑指令 (中文)"];
const WORDS = {
  open: ["Open pairs", "打开图片对"],
  none: ["Connect a Load node to `pairs`: the page shows what it reads.", "请把加载节点连接到“图片对”，页面显示它读取的内容。"],
  waiting: ["Reading the pairs. If ComfyUI is busy, the page opens when it is done.", "正在读取图片对。若 ComfyUI 正忙，完成后会打开页面。"],
  captioner: ["There is no captioner in the graph. Connect one to Caption Pairs.", "工作流里没有打标模型，请把它连接到“图片对打标”。"],
};

/** The id of a node in what is queued: inside a subgraph it has the subgraph's before it. */
const idOf = (prompt, node) =>
  Object.keys(prompt).find((id) => id.split(":").at(-1) === String(node.id) && prompt[id].class_type === node.comfyClass);

/** The Load node whose pairs arrive at a node. */
function loaderOf(prompt, id) {
  while (prompt[id] && !LOADERS.includes(prompt[id].class_type)) id = prompt[id].inputs.pairs?.[0];
  return prompt[id] ? id : undefined;
}

async function openPairs(node) {
  const words = inLanguage(WORDS), { output, workflow } = await app.graphToPrompt();
  const loader = loaderOf(output, idOf(output, node));
  if (!loader) return tell(words.open, words.none);
  const hearing = {
    describe: (asked, answer) => describe(node, asked, answer),
    folders: (folders) => use(node, folders),
  };
  const read = JSON.stringify(output[loader].inputs);
  const known = node.properties.kontextPairs;
  try {
    if (known?.read !== read || !(await isKnown(known.id))) {
      tell(words.open, words.waiting);
      const report = { class_type: "PreviewAny", inputs: { source: [loader, 2] } };
      const made = await runPart({ ...ancestors(output, loader), kontext_report: report }, workflow);
      node.properties.kontextPairs = { read, id: made[loader].kontext_pairs[0] };
    }
    await openPage(`/kontext/pairs/${node.properties.kontextPairs.id}`, words.open, "", hearing);
  } catch (error) {
    tell(words.open, error.message);
    if (LOADERS.includes(node.comfyClass)) await openPage("/kontext/pairs", words.open, "", hearing);
  }
}

/** Whether this server knows the data set: the graph may come from another one. */
const isKnown = async (id) => (await api.fetchApi(`/kontext/pairs/${id}`)).status !== 404;

/** Queue the captioner of the graph for the pairs that the page has selected. */
async function describe(node, { set, listing, numbers, side }, answer) {
  const { output, workflow } = await app.graphToPrompt();
  const asking = [output[idOf(output, node)], ...Object.values(output)]
    .find((each) => each?.class_type === "KontextCaptionPairs" && Array.isArray(each.inputs.captioner));
  if (!asking) return answer({ kontext: "described", problem: inLanguage(WORDS).captioner });
  const [captioner] = asking.inputs.captioner, part = structuredClone(ancestors(output, captioner));
  const { inputs } = part[captioner];
  if (side === "control and target" && "question" in inputs && !QUESTIONS.includes(inputs.question))
    Object.assign(inputs, { question: inLanguage({ both: QUESTIONS }).both, own_question: "" });
  part.kontext_describe = {
    class_type: "KontextDescribePairs",
    inputs: { data_set: set, listing, numbers, describe: side, captioner: asking.inputs.captioner },
  };
  try {
    await runPart(part, workflow);
    answer({ kontext: "described" });
  } catch (error) {
    answer({ kontext: "described", problem: error.message });
  }
}

/** Put the folders of a data set that was brought in into the Load node. */
function use(node, { control, target }) {
  for (const [name, value] of [["control_folder", control], ["target_folder", target]]) {
    const widget = node.widgets.find((each) => each.name === name);
    if (!widget) continue;
    widget.value = value;
    widget.callback?.(value);
  }
  app.graph.setDirtyCanvas(true, true);
}

app.registerExtension({
  name: "kontext.pairs",
  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass)) return;
    const button = node.addWidget("button", "kontext_pairs_page", null, () => openPairs(node), {
      serialize: false,
    });
    button.label = inLanguage(WORDS).open;
    button.serialize = false;
  },
});
