// A page of the pack, shown over ComfyUI's.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { chinese } from "./graph.mjs";

/** Dark or light, as the page is: 1.47 marks it by a class, 1.58 by the colour scheme alone. */
function theme() {
  const scheme = getComputedStyle(document.body).colorScheme;
  const dark = scheme.includes("dark") || Boolean(document.querySelector(".dark-theme"));
  return dark ? "dark" : "light";
}

export function tell(summary, detail) {
  app.extensionManager.toast.add({ severity: "info", summary, detail, life: 6000 });
}

/** Open "/kontext/…" once the server has said at `check`, below it, that it is there. What the page
 *  posts as { kontext: name } goes to hearing[name](content, answer); "close" puts it away. */
export async function openPage(path, title, check = "", hearing = {}) {
  const there = await api.fetchApi(path + check);
  if (!there.ok) return tell(title, await there.text());
  showOver(api.apiURL(`${path}?theme=${theme()}&lang=${chinese() ? "zh" : "en"}`), hearing);
}

function showOver(address, hearing) {
  const frame = document.createElement("iframe");
  frame.src = address;
  frame.className = "kontext-page";
  Object.assign(frame.style, {
    position: "fixed", inset: "0", width: "100%", height: "100%", border: "0", zIndex: "10000",
  });
  const hear = ({ source, data }) => {
    if (source !== frame.contentWindow || !data?.kontext) return;
    const answer = (content) => frame.contentWindow?.postMessage(content, location.origin);
    if (hearing[data.kontext]) return hearing[data.kontext](data, answer);
    window.removeEventListener("message", hear);
    frame.remove();
    if (data.kontext === "graph") app.loadGraphData(data.graph, true, true, data.name);
  };
  window.addEventListener("message", hear);
  frame.addEventListener("load", () => frame.contentWindow.focus());
  document.body.append(frame);
}
