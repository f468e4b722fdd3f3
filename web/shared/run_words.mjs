// What a list or a page says of a run, and the button that continues it.

import { element } from "./dom.mjs";
import { askAt, chinese, embedded, notice, openGraph } from "./page.mjs";

const ENGLISH = {
  training: ({ done, steps }) => `training, ${done} of ${steps} steps saved`,
  finished: ({ steps }) => `finished: ${steps} steps`,
  stopped: ({ done, steps }) => `stopped: ${done} of ${steps} steps`,
  damaged: () => "cannot be read",
  saved: (count) => `${count} ${count === 1 ? "checkpoint" : "checkpoints"}`,
  best: (step, change) => `best held-out: step ${step} (${change}%)`,
  keep: (step) => `keep step ${step}`,
  resume: "Continue", reopen: "Open graph", file: "Graph (.json)",
  how: "Drag this file onto ComfyUI's page and press Run to continue.",
};
const CHINESE = {
  training: ({ done, steps }) => `训练中，已保存 ${done}/${steps} 步`,
  finished: ({ steps }) => `已完成：${steps} 步`,
  stopped: ({ done, steps }) => `已停止：${done}/${steps} 步`,
  damaged: () => "无法读取",
  saved: (count) => `${count} 个检查点`,
  best: (step, change) => `验证损失最低：第 ${step} 步（${change}%）`,
  keep: (step) => `推荐第 ${step} 步`,
  resume: "继续训练", reopen: "打开工作流", file: "工作流（.json）",
  how: "把这个文件拖到 ComfyUI 页面上，点击运行即可继续训练。",
};
const words = chinese ? CHINESE : ENGLISH;

const signed = (value) => (value > 0 ? "+" : "") + value.toFixed(1);
const size = (bytes) => (bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`);

export const stateOf = (run) =>
  element("span", { class: `state ${run.state}` }, words[run.state](run));

export const factsOf = (run) =>
  [
    words.saved(run.checkpoints),
    run.keep !== null && words.keep(run.keep),
    run.best !== null && words.best(run.best, signed(run.change)),
    size(run.size),
  ].filter(Boolean).join(" · ");

/** The run's own graph, in which pressing Run continues it; outside ComfyUI's page, its file. */
export function continueButton(run, address) {
  if (!run.graph) return [];
  const title = run.state === "stopped" ? words.how : "";
  if (!embedded)
    return [element("a", { class: "button", href: address, download: `${run.name}.json`, title }, words.file)];
  const open = async () => {
    try {
      openGraph(await askAt(address), run.name);
    } catch (error) {
      notice(error.message);
    }
  };
  const text = run.state === "stopped" ? words.resume : words.reopen;
  return [element("button", { "data-action": "graph", onclick: open }, text)];
}
