// The list of all runs, with what can be done with each.

import { element } from "../shared/dom.mjs";
import { HOME, LANGUAGE, ask, askAt, chinese, embedded, leave, notice, pageAddress, switchTheme } from "../shared/page.mjs";
import { continueButton, factsOf, stateOf } from "../shared/run_words.mjs";

const ENGLISH = {
  title: "Training runs", page: "Run page", viewer: "Viewer", remove: "Delete", sure: "Really delete?",
  none: "No training yet. Run a graph with Train Kontext LoRA in it.",
  removed: (name, trash) => `“${name}” lies in output/${trash} now. Nothing there is ever deleted by itself.`,
  theme: "Light or dark", close: "Close",
};
const CHINESE = {
  title: "训练记录", page: "训练详情", viewer: "对比查看器", remove: "删除", sure: "确定删除？",
  none: "还没有训练。请运行含有“训练 Kontext LoRA”节点的工作流。",
  removed: (name, trash) => `“${name}”已移到 output/${trash}，那里的文件不会被自动删除。`,
  theme: "浅色或深色", close: "关闭",
};
const words = chinese ? CHINESE : ENGLISH;
const BASE = HOME.replace(/\/runs\/?$/, "");
const runUrl = (name, rest = "") => `${BASE}/run/${encodeURIComponent(name)}${rest}`;

function card(run) {
  const picture = run.thumbnail
    ? element("img", { class: "picture", alt: "", loading: "lazy", src: runUrl(run.name, `/sample/${run.thumbnail}`) })
    : element("div", { class: "picture" });
  const place = `${BASE}/compare/${encodeURIComponent(run.name)}/${run.comparison}`;
  const date = new Date(run.changed * 1000).toLocaleString(LANGUAGE);
  return element("article", { class: "run", "data-run": run.name },
    picture,
    element("div", {},
      element("h2", {}, run.name),
      element("p", {}, stateOf(run), ` · ${date}`),
      element("p", {}, run.problem || factsOf(run)),
      ...(run.ending ? [element("p", { class: "faint" }, run.ending)] : [])),
    element("div", { class: "actions" },
      element("a", { class: "button", href: pageAddress(runUrl(run.name)) }, words.page),
      ...(run.comparison ? [element("a", { class: "button", href: pageAddress(place) }, words.viewer)] : []),
      ...continueButton(run, runUrl(run.name, "/graph")),
      ...(run.state === "training" ? [] : [removeButton(run.name)])));
}

/** Asks once more before the run goes to the trash folder. */
function removeButton(name) {
  let asked = false;
  const button = element("button", { class: "quiet", "data-action": "delete" }, words.remove);
  const reset = () => {
    asked = false;
    button.className = "quiet";
    button.textContent = words.remove;
  };
  button.addEventListener("blur", reset);
  button.addEventListener("click", async () => {
    if (!asked) {
      asked = true;
      button.className = "danger";
      button.textContent = words.sure;
      return;
    }
    try {
      const { trash } = await askAt(runUrl(name, "/delete"), { name });
      notice(words.removed(name, trash));
      await show();
    } catch (error) {
      notice(error.message);
      reset();
    }
  });
  return button;
}

async function show() {
  const runs = await ask("list");
  const cards = runs.length ? runs.map(card) : [element("p", { class: "none" }, words.none)];
  document.getElementById("runs").replaceChildren(...cards);
}

document.title = document.getElementById("title").textContent = words.title;
document.getElementById("actions").append(
  element("button", { class: "quiet", title: words.theme, onclick: switchTheme }, "◐"),
  ...(embedded ? [element("button", { class: "quiet", title: words.close, onclick: leave }, "✕")] : []));
document.addEventListener("keydown", (event) => event.key === "Escape" && embedded && leave());
show().catch((error) => notice(error.message));
