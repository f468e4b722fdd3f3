// Nodes 2.0 fold the settings that are marked as advanced. The classic canvas shows them all, so
// there they are hidden behind a button.

import { app } from "../../scripts/app.js";

const NODE = "KontextTrainingSettings";
const ENGLISH = ["Show all settings", "Show fewer settings"];
const CHINESE = ["显示全部设置", "只显示常用设置"];

app.registerExtension({
  name: "kontext.advanced",
  nodeCreated(node) {
    if (node.comfyClass !== NODE || LiteGraph.vueNodesMode) return;
    const settings = app.extensionManager?.setting;
    const labels = settings?.get("Comfy.Locale")?.startsWith("zh") ? CHINESE : ENGLISH;
    const advanced = node.widgets.filter((widget) => widget.options?.advanced);
    const show = (all) => {
      for (const widget of advanced) widget.hidden = !all;
      button.label = labels[Number(all)];
      node.setSize([node.size[0], node.computeSize()[1]]);
    };
    const toggle = () => show(advanced[0].hidden);
    const button = node.addWidget("button", "advanced", null, toggle, { serialize: false });
    button.serialize = false; // neither in the saved graph nor in the queue
    show(Boolean(settings?.get("Comfy.Node.AlwaysShowAdvancedWidgets")));
  },
  loadedGraphNode(node) {
    // the size it was saved with may be that of all settings
    if (node.comfyClass !== NODE || LiteGraph.vueNodesMode) return;
    node.setSize([node.size[0], node.computeSize()[1]]);
  },
});
