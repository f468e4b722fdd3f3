// The button of Compare Checkpoints that opens its pictures in the viewer.

import { app } from "../../scripts/app.js";
import { inLanguage } from "./shared/graph.mjs";
import { openPage, tell } from "./shared/overlay.mjs";

const NODE = "KontextCompareCheckpoints";
const WORDS = {
  open: ["Open viewer", "打开对比查看器"],
  none: ["There is no comparison to look at yet: run this node first.", "还没有可看的对比：请先运行这个节点。"],
};

function openViewer(node) {
  const words = inLanguage(WORDS), made = node.properties?.kontextCompare;
  if (!made) return tell(words.open, words.none);
  const place = [made.run, made.comparison].map(encodeURIComponent).join("/");
  return openPage(`/kontext/compare/${place}`, words.open, "/manifest");
}

app.registerExtension({
  name: "kontext.viewer",
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const button = node.addWidget("button", "kontext_viewer", null, () => openViewer(node), {
      serialize: false,
    });
    button.label = inLanguage(WORDS).open;
    button.serialize = false;
    const executed = node.onExecuted;
    node.onExecuted = function (output, ...rest) {
      executed?.call(this, output, ...rest);
      const [made] = output?.kontext_compare ?? [];
      if (made) this.properties.kontextCompare = made;
    };
  },
});
