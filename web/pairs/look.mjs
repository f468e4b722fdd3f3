// One pair, large: compared as in the viewer, with its findings and its caption.

import { element } from "../shared/dom.mjs";
import { Stage } from "../shared/stage.mjs";
import { Caption } from "./caption.mjs";
import { chip } from "./cell.mjs";
import { HELD, MASKED, OUT, SWAPPED, pictureUrl } from "./set.mjs";
import { words } from "./words.mjs";

const MODES = ["slider", "flicker", "beside"];

export class Look {
  constructor(root, set, act) {
    Object.assign(this, { root, set, act, masked: false });
    const stage = element("div");
    this.modes = element("div", { class: "segments", role: "group" },
      ...MODES.map((mode) => element("button", { "data-mode": mode, onclick: () => this.setMode(mode) }, words[mode])));
    this.title = element("h2");
    this.buttons = element("div", { class: "row" });
    this.about = element("div", { class: "about-pair" });
    root.append(
      element("header", {}, this.title, this.modes,
        element("nav", {},
          element("button", { class: "quiet", title: words.previous, onclick: () => this.step(-1) }, "‹"),
          element("button", { class: "quiet", title: words.next, onclick: () => this.step(1) }, "›"),
          element("button", { class: "quiet", title: words.close, onclick: () => this.close() }, "✕"))),
      stage, element("footer", {}, this.buttons, this.about));
    this.stage = new Stage(stage);
    for (const type of ["changed", "found"]) set.addEventListener(type, () => this.open && this.show());
    for (const type of ["read", "written", "answered"])
      set.addEventListener(type, () => this.open && this.caption?.show());
    set.addEventListener("listed", () => this.open && this.follow());
    // by the mouse, a button leaves the keys to the pictures
    root.addEventListener("click", ({ detail, target }) => detail && target.closest("button")?.blur());
  }

  get open() {
    return !this.root.hidden;
  }

  async start(number) {
    this.root.hidden = false;
    await this.put(number);
  }

  async put(number) {
    this.caption?.save();
    this.number = number;
    this.size = undefined;
    this.caption = new Caption(this.set, number);
    this.stage.home();
    this.show();
    this.act.reveal(number);
    await this.set.read([number]).catch(this.act.failed);
  }

  /** The list was read anew: the pair may have another number, or be gone. */
  follow() {
    const { field, key } = this.caption, pair = this.set.pairs.find((each) => each.key === key);
    if (!pair) {
      if (field === document.activeElement) this.act.lost();
      return this.close();
    }
    this.number = this.caption.number = pair.number;
    this.show();
    this.set.read([pair.number]).catch(this.act.failed);
  }

  show() {
    const { set, number } = this, pair = set.pairs[number], { flags, controls } = pair;
    const single = !controls;
    const mark = flags & SWAPPED ? "?swapped" : "";
    const after = pictureUrl(pair, this.masked && flags & MASKED ? "masked" : "target") + mark;
    const before = single ? after : pictureUrl(pair, 0) + mark;
    this.title.textContent = pair.stem;
    this.stage.show({ a: before, b: after, names: { a: single ? words.after : words.before, b: words.after }, size: this.size ?? [4, 3] });
    if (!this.size) this.measure(after);
    this.modes.hidden = single;
    if (single) this.stage.set({ mode: "flicker", front: "b" });
    for (const button of this.modes.children)
      button.setAttribute("aria-pressed", button.dataset.mode === this.stage.mode);
    const toggle = (name, on, text, pressed) =>
      element("button", { "data-do": name, "aria-pressed": pressed ? "true" : "false", onclick: on }, text);
    this.buttons.replaceChildren(
      toggle("excluded", () => this.act.choose([number], "excluded"), flags & OUT ? words.takeBack : words.leaveOut, flags & OUT),
      toggle("held_out", () => this.act.choose([number], "held_out"), flags & HELD ? words.train : words.holdOut, flags & HELD),
      ...(controls === 1 ? [toggle("swapped", () => this.act.choose([number], "swapped"), words.swap, flags & SWAPPED)] : []),
      ...(flags & MASKED ? [toggle("mask", () => this.mask(), words.masked, this.masked)] : []),
      element("label", {}, `${words.repeats} `, element("input", {
        type: "number", min: 1, max: 1000, value: pair.repeats,
        onchange: ({ target }) => this.act.choose([number], "repeats", Math.max(1, Math.round(+target.value) || 1)),
      })));
    const found = (set.findings[number] ?? []).map((each) =>
      element("p", {}, chip(each), ` ${each.message} `, element("span", { class: "faint" }, each.remedy)));
    if (this.caption.box.parentElement !== this.about)
      this.about.replaceChildren(this.caption.box, element("div", { class: "findings" }));
    this.about.lastElementChild.replaceChildren(...found);
    this.caption.show();
  }

  /** The stage has to know how large the picture is. */
  measure(source) {
    const image = new Image(), { number } = this;
    image.onload = () => {
      if (number !== this.number) return;
      this.size = [image.naturalWidth, image.naturalHeight];
      this.stage.size = this.size;
      this.stage.draw();
    };
    image.src = source;
  }

  setMode(mode) {
    this.stage.set({ mode });
    this.show();
  }

  mask() {
    this.masked = !this.masked;
    this.show();
  }

  /** To the next pair that is shown. This one need not be: it may have been undone out of the filter. */
  step(by) {
    const { shown } = this.set, own = this.number;
    const next = by > 0 ? shown.find((number) => number > own) : shown.findLast((number) => number < own);
    if (next !== undefined) this.put(next);
  }

  close() {
    this.caption?.save();
    this.root.hidden = true;
    document.activeElement?.blur();
    this.act.reveal(this.number);
  }

  /** True where the key meant something here. */
  key(key) {
    const moves = {
      ArrowLeft: () => this.step(-1), ArrowUp: () => this.step(-1),
      ArrowRight: () => this.step(1), ArrowDown: () => this.step(1),
      " ": () => { this.stage.flip(); this.show(); },
      s: () => this.setMode("slider"), f: () => this.setMode("flicker"), d: () => this.setMode("beside"),
      m: () => this.mask(), e: () => this.caption.field.focus(), a: () => this.caption.accept(),
      "+": () => this.stage.zoom(1.4), "=": () => this.stage.zoom(1.4), "-": () => this.stage.zoom(1 / 1.4),
      0: () => this.stage.home(),
      x: () => this.act.choose([this.number], "excluded"),
      h: () => this.act.choose([this.number], "held_out"),
      w: () => this.act.choose([this.number], "swapped"),
      Escape: () => this.close(), Enter: () => this.close(),
    };
    moves[key]?.();
    return key in moves;
  }
}
