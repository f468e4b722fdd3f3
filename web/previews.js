// A finished node shows its result. ComfyUI's page keeps the last progress preview in front of it.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

app.registerExtension({
  name: "kontext.previews",
  setup() {
    api.addEventListener("executed", ({ detail }) => {
      const node = app.graph.getNodeById(detail.display_node ?? detail.node);
      if (!node?.type.startsWith("Kontext") || !detail.output?.images) return;
      delete app.nodePreviewImages[node.id];
      app.graph.setDirtyCanvas(true, true);
    });
  },
});
