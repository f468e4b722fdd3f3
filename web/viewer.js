// The button of Compare Checkpoints that opens its pictures in the viewer, over ComfyUI's page.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const NODE = "KontextCompareCheckpoints";
const setting = (name) => app.extensionManager?.setting?.get(name) ?? "";
const chinese = () => setting("Comfy.Locale").startsWith("zh");
const words = () =>
  chinese()
    ? { open: "打开对比查看器", none: "还没有可看的对比：请先运行这个节点。" }
    : { open: "Open viewer", none: "There is no comparison to look at yet: run this node first." };

function tell(detail) {
  app.extensionManager.toast.add({ severity: "info", summary: words().open, detail, life: 6000 });
}

async function openViewer(node) {
  const made = node.properties?.kontextCompare;
  if (!made) return tell(words().none);
  const place = [made.run, made.comparison].map(encodeURIComponent).join("/");
  const there = await api.fetchApi(`/kontext/compare/${place}/manifest`);
  if (!there.ok) return tell(await there.text());
  const theme = document.querySelector(".dark-theme") ? "dark" : "light";
  showOver(api.apiURL(`/kontext/compare/${place}?theme=${theme}&lang=${chinese() ? "zh" : "en"}`));
}

function showOver(address) {
  const frame = document.createElement("iframe");
  frame.src = address;
  frame.id = "kontext-viewer";
  Object.assign(frame.style, {
    position: "fixed", inset: "0", width: "100%", height: "100%", border: "0", zIndex: "10000",
  });
  const close = (event) => {
    if (event.source !== frame.contentWindow || event.data !== "kontext-viewer-close") return;
    window.removeEventListener("message", close);
    frame.remove();
  };
  window.addEventListener("message", close);
  frame.addEventListener("load", () => frame.contentWindow.focus());
  document.body.append(frame);
}

app.registerExtension({
  name: "kontext.viewer",
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const button = node.addWidget("button", "kontext_viewer", null, () => openViewer(node), {
      serialize: false,
    });
    button.label = words().open;
    button.serialize = false;
    const executed = node.onExecuted;
    node.onExecuted = function (output, ...rest) {
      executed?.call(this, output, ...rest);
      const [made] = output?.kontext_compare ?? [];
      if (made) this.properties.kontextCompare = made;
    };
  },
});
