// What a node of the pack says and draws of its work, below its inputs: one widget, in parts.

import { app } from "../../../scripts/app.js";
import { element } from "./dom.mjs";
import { nodeOf, openGraph } from "./graph.mjs";

const WIDGET = "kontext_panel";
const PARTS = ["status", "chart"]; // from top to bottom
const shown = new Map(); // "workflow node" → part → elements; a graph's nodes are made anew whenever its tab is opened

/** Show elements as a part of the panel of the node that an event is about; none of them removes it. */
export function show(event, part, ...elements) {
  const place = `${event.workflow} ${event.node}`;
  shown.set(place, { ...shown.get(place), [part]: elements });
  const node = nodeOf(event);
  if (node) panelOf(node).replace(part, elements);
}

/** Take a part away from all nodes of the open graph where `condition` holds for its elements. */
export function hide(part, condition) {
  for (const [place, parts] of shown) {
    const [workflow, node] = place.split(" ");
    if (workflow === openGraph()?.id && parts[part]?.some(condition)) show({ workflow, node }, part);
  }
}

app.registerExtension({
  name: "kontext.panel",
  afterConfigureGraph() {
    for (const [place, parts] of shown) {
      const [workflow, id] = place.split(" ");
      const node = nodeOf({ workflow, node: id });
      if (node) for (const part of PARTS) panelOf(node).replace(part, parts[part] ?? []);
    }
  },
});

export const hasPanel = (node) => node.widgets?.some((widget) => widget.name === WIDGET);

const panelOf = (node) =>
  node.widgets?.find((widget) => widget.name === WIDGET) ?? addPanel(node);

function addPanel(node) {
  const parts = Object.fromEntries(PARTS.map((name) => [name, element("div", { "data-part": name })]));
  const content = element("div", {}, ...Object.values(parts));
  const box = element("div", { class: "kontext-panel", "data-type": node.type }, content);
  content.style.cssText =
    `padding: 4px ${LiteGraph.vueNodesMode ? 6 : 14}px; font: 11px/1.4 sans-serif; color: var(--input-text, #ccc); user-select: text;`;
  let height = 0;
  const size = [...node.size];
  const widget = node.addDOMWidget(WIDGET, WIDGET, box, {
    serialize: false, hideOnZoom: false, margin: 0, getValue: () => "",
    getMinHeight: () => height, getMaxHeight: () => height,
  });
  widget.serialize = false; // neither in the saved workflow
  if (LiteGraph.vueNodesMode) node.setSize(size); // it was made as high as the canvas needs
  widget.replace = (part, elements) => parts[part].replaceChildren(...elements);
  new ResizeObserver(() => {
    if (!content.isConnected || height === content.offsetHeight) return;
    height = content.offsetHeight;
    if (LiteGraph.vueNodesMode) return; // there a node is as high as what it holds
    node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
    app.canvas.setDirty(true, true);
  }).observe(content);
  return widget;
}
