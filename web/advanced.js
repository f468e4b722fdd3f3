// Nodes 2.0 fold the inputs that are marked as advanced. The classic canvas shows them all, so there
// they are hidden behind a button.

import { app } from "../../scripts/app.js";
import { inLanguage } from "./shared/graph.mjs";

const WORDS = {
  all: ["Show advanced inputs", "显示高级输入"],
  fewer: ["Hide advanced inputs", "隐藏高级输入"],
};
const PLAIN = 60; // Nodes 2.0 let a node grow to what it holds, from any height

const advancedOf = (node) =>
  node.comfyClass?.startsWith("Kontext")
    ? (node.widgets ?? []).filter((widget) => widget.options?.advanced) : [];

/** Shows nothing that fills whatever room there is: no text fields, no pictures. */
const isPlain = (node) =>
  !node.widgets.some(({ element, options }) => element && !(options?.advanced && !node.properties.kontextAll));

function show(node, all) {
  const words = inLanguage(WORDS);
  for (const widget of advancedOf(node)) widget.hidden = !all;
  node.widgets.find(({ name }) => name === "advanced").label = all ? words.fewer : words.all;
  node.properties.kontextAll = all; // kept in the graph
  fit(node);
}

/** How high the classic canvas would draw a node without its advanced inputs. */
function foldedHeight(node) {
  const advanced = advancedOf(node);
  for (const widget of advanced) widget.hidden = true;
  const [, height] = node.computeSize();
  for (const widget of advanced) widget.hidden = false;
  return height;
}

/** ComfyUI loads a node as high as the canvas needs for all inputs; Nodes 2.0 would stretch its texts. */
const fitToSaved = (node) =>
  node.setSize([node.size[0], isPlain(node) ? PLAIN : node.kontextSaved?.[1] ?? PLAIN]);

function fit(node) {
  const least = node.computeSize()[1];
  // the height it was saved with may be that of all inputs
  if (isPlain(node)) node.setSize([node.size[0], least]);
  else if (node.size[1] < least) node.setSize([node.size[0], least]);
}

app.registerExtension({
  name: "kontext.advanced",
  nodeCreated(node) {
    if (!advancedOf(node).length) return;
    if (LiteGraph.vueNodesMode) {
      const configure = node.onConfigure;
      node.onConfigure = function (saved) {
        configure?.call(this, saved);
        this.kontextSaved = saved.size;
      };
      // it gave the new node the height of all its inputs
      return node.setSize([node.size[0], isPlain(node) ? PLAIN : foldedHeight(node)]);
    }
    const toggle = () => show(node, !node.properties.kontextAll);
    node.addWidget("button", "advanced", null, toggle, { serialize: false }).serialize = false;
    const always = app.extensionManager?.setting?.get("Comfy.Node.AlwaysShowAdvancedWidgets");
    show(node, Boolean(always));
  },
  loadedGraphNode(node) {
    if (!advancedOf(node).length) return;
    if (LiteGraph.vueNodesMode) fitToSaved(node);
    else show(node, Boolean(node.properties.kontextAll));
  },
});
