// A finished node shows its result. ComfyUI's page keeps the last progress preview in front of it,
// and forgets previews only when the next graph runs.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { nodeAt } from "./shared/graph.mjs";

// ComfyUI hands extensions no way to take a preview away. Where its page is built otherwise, the
// preview stays, as it does on any other node.
const outputs = () => {
  const page = document.querySelector("#vue-app")?.__vue_app__;
  return page?.config.globalProperties.$pinia?._s.get("nodeOutput");
};

app.registerExtension({
  name: "kontext.previews",
  setup() {
    api.addEventListener("executed", ({ detail }) => {
      const node = nodeAt(detail.display_node ?? detail.node);
      if (!node) return;
      const place = node.graph.isRootGraph ? `${node.id}` : `${node.graph.id}:${node.id}`;
      outputs()?.revokePreviewsByLocatorId?.(place);
      if (!detail.output?.images) clearCanvas(node);
      app.graph.setDirtyCanvas(true, true);
    });
  },
});

// The classic canvas goes on showing pictures that it has loaded until there are others.
function clearCanvas(node) {
  node.imgs = undefined;
  const widget = node.widgets?.find(({ name }) => name === "$$canvas-image-preview");
  if (widget) node.removeWidget(widget);
}
