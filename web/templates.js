// ComfyUI's template browser lists a pack's graphs by their file names, in the order of its folder
// on disk. Here they come in the order of the work, and begin with what they are for.

import { api } from "../../scripts/api.js";
import { chinese } from "./shared/graph.mjs";

const STAGES = [
  [["1 Train", "1 训练"], ["train_kontext_lora", "train_and_keep"]],
  [["2 Choose", "2 选择"], ["choose_checkpoint", "compare_checkpoints"]],
  [["3 Use", "3 使用"], ["use_kontext_lora"]],
  [["Other models", "其他模型"], ["train_flux2_klein", "train_qwen_image_edit", "train_pictures"]],
  [["Pairs", "图片对"], ["prepare_pairs", "make_control_group", "texture_enhancer_pairs"]],
  [["Captions", "打标"], ["caption_pairs", "caption_tags"]],
  [["Styles", "风格"],
    ["train_style_lora", "direct_style_transfer", "indirect_style_transfer", "stack_loras"]],
];
const [FIRST] = STAGES[0][1];
const SEPARATOR = " · "; // in no file name of ours

const inOrder = (names) => [
  ...STAGES.flatMap(([stage, graphs]) =>
    graphs.filter((name) => names.includes(name)).map((name) => stage[Number(chinese())] + SEPARATOR + name)),
  ...names.filter((name) => !STAGES.some(([, graphs]) => graphs.includes(name))),
];

const listed = api.getWorkflowTemplates;
api.getWorkflowTemplates = async function () {
  const packs = await listed.call(this);
  return Object.fromEntries(Object.entries(packs).map(
    ([pack, names]) => [pack, names.includes(FIRST) ? inOrder(names) : names]));
};

// Files and pictures are asked for by the names that are shown
const address = api.apiURL;
api.apiURL = function (route) {
  const [, folder, shown] = route.match(/^(\/workflow_templates\/[^/]+\/)(.*)$/) ?? [];
  const stage = shown && STAGES.flatMap(([texts]) => texts).find((text) => shown.startsWith(text + SEPARATOR));
  return address.call(this, stage ? folder + shown.slice((stage + SEPARATOR).length) : route);
};
