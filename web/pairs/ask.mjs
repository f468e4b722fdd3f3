// Machine descriptions: asked of the captioner in the graph, as an ordinary prompt.

import { element } from "../shared/dom.mjs";
import { embedded, notice, patiently, pause } from "../shared/page.mjs";
import { words } from "./words.mjs";

const AGAIN = 1000; // ms between two looks while the captioner works

/** Ask for descriptions of the selected pairs. */
export function askMachine(dialog, set, page) {
  if (!embedded) return notice(words.askOutside);
  const numbers = [...set.selected].sort((one, other) => one - other);
  const asks = Object.entries(words.asks).filter(([side]) => side === "target" || !set.single);
  const side = element("select", { id: "side" }, ...asks.map(([value, text]) => element("option", { value }, text)));
  const start = element("button", { class: "strong", id: "describe", onclick: () => {
    dialog.close();
    const content = { set: location.pathname.split("/").pop(), listing: set.listing, numbers: numbers.join(","), side: side.value };
    window.parent.postMessage({ kontext: "describe", ...content }, location.origin);
    page.machine = { waiting: true };
    followMachine(set, page);
  } }, words.askStart(numbers.length));
  dialog.show(words.ask, element("p", { class: "faint" }, words.askHint),
    element("div", { class: "row" }, element("label", {}, `${words.askWhat} `, side), start));
}

/** Bring what has been described into the page, until all is. */
export async function followMachine(set, page) {
  page.again = true;
  if (page.following) return;
  page.following = true;
  const line = document.getElementById("progress");
  try {
    while (page.again) {
      page.again = false; // set anew by who learns of an end while one waits here
      const found = await patiently(() => set.readAnswers(), AGAIN);
      if (found.working) page.machine = { begun: true };
      else if (!page.machine?.waiting) continue;
      line.textContent = found.working ? words.asking(found.done, found.total) : words.askWaiting;
      await pause(AGAIN);
      page.again = true;
    }
    if (page.machine?.begun) {
      notice(set.answers.size ? words.askedAll : [...set.problems.values()][0] ?? "");
      line.textContent = "";
      if (set.filter.state === "answers") set.refilter();
    }
  } catch (error) {
    notice(error.message);
  }
  page.following = false;
}

// The page around this one says how the prompt went
addEventListener("message", ({ source, data }) => {
  if (source !== window.parent || data?.kontext !== "described") return;
  const { pairs } = window;
  if (data.problem) notice(data.problem);
  pairs.machine = { begun: !data.problem };
  document.getElementById("progress").textContent = "";
  followMachine(pairs.set, pairs);
});
