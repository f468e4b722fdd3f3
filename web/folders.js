// The setting with the owner's list of folders: a text with a folder a line, and a button to save.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { element } from "./shared/dom.mjs";
import { inLanguage } from "./shared/graph.mjs";

const WORDS = {
  save: ["Save list", "保存列表"],
  saved: ["Saved. It counts at once.", "已保存，立即生效。"],
  hint: ["D:\\jewellery", "D:\\珠宝"],
};

async function ask(body) {
  const reply = await api.fetchApi("/kontext/folders", body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!reply.ok) throw Error(await reply.text());
  return (await reply.json()).folders.join("\n");
}

function editor() {
  const words = inLanguage(WORDS);
  const text = element("textarea", { rows: 4, cols: 44, spellcheck: "false", placeholder: words.hint });
  const save = () => show(ask({ folders: text.value.split("\n") }), words.saved);
  const button = element("button", { class: "kontext-save", onclick: save }, words.save);
  const line = element("div", { role: "status" });
  Object.assign(text.style, {
    display: "block", width: "100%", padding: "6px 8px", borderRadius: "6px", font: "inherit",
    color: "inherit", background: "transparent", border: "1px solid currentColor", opacity: "0.9",
  });
  Object.assign(button.style, {
    margin: "6px 0", padding: "4px 12px", borderRadius: "6px", font: "inherit", color: "inherit",
    background: "transparent", border: "1px solid currentColor", cursor: "pointer",
  });

  async function show(answer, after = "") {
    try {
      text.value = await answer;
      line.textContent = after;
    } catch (error) {
      line.textContent = error.message;
    }
  }
  text.disabled = true; // what is typed before the list has come would be lost
  ask().then(
    (folders) => Object.assign(text, { value: folders, disabled: false }),
    (error) => {
      text.hidden = button.hidden = true;
      line.textContent = error.message;
    },
  );
  return element("div", { class: "kontext-folders", style: "max-width: 26rem" }, text, button, line);
}

app.registerExtension({
  name: "kontext.folders",
  settings: [
    {
      id: "Kontext.Folders",
      category: ["Kontext LoRA", "Shared server", "Folders"],
      name: "Folders that others may read",
      tooltip:
        "While others can reach this ComfyUI, they may use pictures in these folders, besides " +
        "input, output and temp. One folder a line. Changed on this machine only.",
      type: editor,
      defaultValue: "",
    },
  ],
});
