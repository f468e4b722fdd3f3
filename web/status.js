// What a node of the pack says of its work: how far it is, how it ended, what went wrong.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { element } from "./shared/dom.mjs";
import { nodeAt, openGraph } from "./shared/graph.mjs";
import { hide, show } from "./shared/panel.mjs";

const STYLE = "white-space: pre-line; overflow-wrap: anywhere; max-height: 108px; overflow-y: auto;";
const ERROR = "color: var(--error-text, #ff6b6b); font-weight: 600;";

function line({ text, error }) {
  // the page leaves the wheel to what says so
  const made = element("div", { class: error ? "error" : "", "data-capture-wheel": "true" }, text);
  made.style.cssText = STYLE + (error ? ERROR : "");
  return made;
}

/** ComfyUI marks a node red whose input is refused before the start, and says why in a side panel. */
function showRefusals() {
  for (const [id, { errors }] of Object.entries(app.lastNodeErrors ?? {})) {
    const told = errors.filter(({ type }) => type === "custom_validation_failed");
    const text = [...new Set(told.map(({ details }) => details.replace(/^\w+ - /, "")))].join("\n");
    if (text && nodeAt(id))
      show({ node: id, workflow: openGraph().id }, "status", line({ text, error: true }));
  }
}

app.registerExtension({
  name: "kontext.status",
  setup() {
    api.addEventListener("kontext.status", ({ detail }) => show(detail, "status", line(detail)));
    const queue = app.queuePrompt;
    app.queuePrompt = async function (...choices) {
      const queued = await queue.apply(this, choices);
      showRefusals();
      return queued;
    };
    // a node that another one stops from running: ComfyUI says why behind a button only
    api.addEventListener("execution_error", ({ detail }) => {
      const { exception_type: kind, exception_message: message, node_id: id } = detail;
      if (kind === "ExecutionBlocked" && nodeAt(id)?.type.startsWith("Kontext"))
        show({ node: id, workflow: openGraph().id }, "status",
          line({ text: message.replace(/^Execution Blocked: /, ""), error: true }));
    });
    // who presses Run again has mended what was wrong
    api.addEventListener("promptQueueing", () => hide("status", (made) => made.className === "error"));
  },
});
