// ComfyUI's template browser lists a pack's graphs as its folder on disk does. Here they come in the
// order of the work, with the one to begin with first.

import { api } from "../../scripts/api.js";

const ORDER = [
  "train_kontext_lora", "train_and_keep", "choose_checkpoint", "compare_checkpoints", "use_kontext_lora",
  "train_flux2_klein", "train_qwen_image_edit", "train_pictures",
  "prepare_pairs", "caption_pairs", "caption_tags", "make_control_group", "texture_enhancer_pairs",
  "train_style_lora", "direct_style_transfer", "indirect_style_transfer", "stack_loras",
];
const place = (name) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);

const listed = api.getWorkflowTemplates;
api.getWorkflowTemplates = async function () {
  const packs = await listed.call(this);
  for (const names of Object.values(packs))
    if (names.includes(ORDER[0])) names.sort((one, other) => place(one) - place(other));
  return packs;
};
