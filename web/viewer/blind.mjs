// Blind mode: two pictures without names; left, right or equal. The server chooses and keeps count.

import { element } from "../shared/dom.mjs";
import { ask, notice } from "../shared/page.mjs";
import { Stage } from "../shared/stage.mjs";
import { cellUrl } from "./cell.mjs";
import { words } from "./words.mjs";

export class Blind {
  constructor(root, manifest, leave) {
    Object.assign(this, { root, manifest, leave, busy: false });
    const choice = (name, key) =>
      element("button", { "data-choice": name, onclick: () => this.choose(name) },
        ...(name === "right" ? [words[name], element("kbd", {}, key)]
          : [element("kbd", {}, key), words[name]]));
    this.prompt = element("p");
    this.count = element("span");
    this.control = element("img", { alt: words.control, title: words.before });
    this.control.addEventListener("pointerdown", () => this.peek(true));
    for (const over of ["pointerup", "pointerleave"])
      this.control.addEventListener(over, () => this.peek(false));
    const pictures = element("div");
    root.append(
      element("header", {},
        element("div", { class: "about" }, element("h1", {}, words.question), this.prompt),
        element("span"),
        element("nav", {}, element("button", { id: "done", onclick: () => leave(true) }, words.leave, element("kbd", {}, "Esc")))),
      pictures,
      element("div", { class: "ballot" },
        element("div", { class: "before" }, this.control, element("span", {}, words.before)),
        element("div", { class: "choices" },
          choice("left", "←"), choice("equal", "↓"), choice("right", "→")),
        element("div", { class: "count" }, this.count,
          element("button", { class: "quiet", id: "undo", onclick: () => this.undo() },
            words.undo, element("kbd", {}, "⌫")))));
    this.stage = new Stage(pictures);
    this.stage.set({ mode: "beside" });
  }

  async start() {
    this.root.hidden = false;
    await this.next();
  }

  async next(again) {
    try {
      const pair = await ask("pair");
      this.show({ ...pair, ...again });
    } catch (error) {
      notice(error.message);
      this.leave();
    }
  }

  show(pair) {
    this.pair = pair;
    const row = this.manifest.rows[pair.row];
    this.prompt.textContent = words.instruction(row.prompt);
    this.control.src = cellUrl(pair.row, 0);
    this.control.parentElement.hidden = !this.manifest.shown[pair.row][0];
    this.count.textContent = words.count(pair.votes, Math.floor(pair.votes / pair.pairs));
    this.stage.home();
    this.peek(false);
  }

  // The picture before the edit in both places, or the two to choose from.
  peek(on) {
    if (!this.pair) return; // still being asked for
    const { row, left, right } = this.pair;
    const [a, b] = on ? [cellUrl(row, 0), cellUrl(row, 0)] : [cellUrl(row, left), cellUrl(row, right)];
    const names = on ? { a: words.control, b: words.control } : { a: words.left, b: words.right };
    this.stage.show({ a, b, names, size: this.manifest.rows[row].size });
  }

  async choose(choice) {
    if (this.busy || !this.pair) return;
    this.busy = true;
    const { row, left, right } = this.pair;
    try {
      await ask("votes", { row, left, right, choice });
      this.last = { row, left, right };
      await this.next();
    } catch (error) {
      notice(error.message);
    }
    this.busy = false;
  }

  async undo() {
    if (this.busy || !this.last) return;
    this.busy = true;
    const again = this.last;
    this.last = null;
    try {
      await ask("votes", { undo: true });
      await this.next(again);
    } catch (error) {
      notice(error.message);
    }
    this.busy = false;
  }

  key(event) {
    const choice = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "equal" }[event.key];
    if (event.type === "keyup") {
      if (event.key.toLowerCase() === "c") this.peek(false);
    } else if (event.key.toLowerCase() === "c") this.peek(true);
    else if (event.key === "Escape") this.leave();
    else if (event.key === "Backspace") this.undo();
    else if (choice && !event.repeat) this.choose(choice);
    else return false;
    return true;
  }
}
