// The graph that ComfyUI's page shows, and its nodes.

import { app } from "../../../scripts/app.js";

const setting = (name) => app.extensionManager?.setting?.get(name) ?? "";
export const chinese = () => setting("Comfy.Locale").startsWith("zh");

// The two languages of a script's words: { greeting: ["Hello", "你好"] }
export const inLanguage = (words) =>
  Object.fromEntries(Object.entries(words).map(([name, texts]) => [name, texts[Number(chinese())]]));

export const openGraph = () => app.rootGraph ?? app.graph;

/** The pack's node of an execution id such as "4", or "12:4" inside a subgraph. */
export function nodeAt(id) {
  let graph = openGraph(), node;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(part) ?? graph?.getNodeById(Number(part));
    graph = node?.subgraph;
  }
  return node?.type?.startsWith("Kontext") ? node : undefined;
}

/** The node that an event of the server is about; none where it is of a graph that is not open. */
export const nodeOf = ({ node, workflow }) =>
  workflow && workflow === openGraph()?.id ? nodeAt(node) : undefined;
