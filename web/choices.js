// In Chinese the values of a choice read Chinese. A graph and its prompt keep the English ones.
// ComfyUI's own translation has no place for values; ours stand with the names of their inputs.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { chinese } from "./shared/graph.mjs";

const SWITCH = { on: "开", off: "关" }; // that canvas says "true" and "false"
let nodes = {};

/** The classic canvas places a list of such values before its lines are in it. */
function keepInView() {
  const list = [...document.querySelectorAll(".litecontextmenu")].at(-1);
  if (!list) return; // an arrow of the widget has been pressed
  const lowest = Math.max(0, innerHeight - list.scrollHeight - 10);
  list.style.top = `${Math.min(parseFloat(list.style.top), lowest)}px`;
}

function translate(widget, { name, options }) {
  if (widget.element?.placeholder) widget.element.placeholder = name; // the classic canvas shows the id
  if (widget.type === "toggle" && !LiteGraph.vueNodesMode) Object.assign(widget.options, SWITCH);
  if (!options) return;
  widget.options.getOptionLabel = (value) => options[value] ?? value ?? "";
  const click = widget.onClick;
  widget.onClick = function (...where) {
    click.apply(this, where);
    keepInView();
  };
}

app.registerExtension({
  name: "kontext.choices",
  async setup() {
    nodes = (await api.getCustomNodesI18n()).zh.nodeDefs;
  },
  nodeCreated(node) {
    const inputs = chinese() ? nodes[node.comfyClass]?.inputs : undefined;
    if (!node.comfyClass?.startsWith("Kontext") || !inputs) return;
    for (const widget of node.widgets ?? []) if (inputs[widget.name]) translate(widget, inputs[widget.name]);
  },
});
