// One pair in the grid: before and after in one place, divided where the mouse is.

import { element } from "../shared/dom.mjs";
import { Caption } from "./caption.mjs";
import { HELD, OUT, SWAPPED, thumbUrl } from "./set.mjs";
import { words } from "./words.mjs";

export class Cell {
  constructor(set, number, { writing, act }) {
    Object.assign(this, { set, number, act, key: set.pairs[number].key });
    const single = !set.pairs[number].controls;
    this.images = single ? [element("img", { alt: words.after })]
      : [element("img", { alt: words.after, class: "right" }), element("img", { alt: words.before, class: "left" })];
    this.frame = element("div", { class: "frame" }, ...this.images.map((image) => element("div", { class: "half" }, image)));
    if (!single) this.frame.append(element("div", { class: "cut" }));
    this.view = element("div", { class: "view", onclick: (event) => this.clicked(event) }, this.frame);
    this.view.addEventListener("pointermove", (event) => this.slide(event));
    this.view.addEventListener("pointerleave", () => this.split(50));
    this.pick = element("input", { type: "checkbox", tabindex: -1, title: words.choose, "aria-label": words.choose,
      onclick: (event) => act.pick(this.number, event) });
    this.badges = element("div", { class: "badges" });
    this.name = element("span", { class: "stem" });
    this.chips = element("div", { class: "chips" });
    this.box = element("article", { class: "pair", role: "gridcell", "data-number": number },
      this.view, this.pick, this.badges, element("div", { class: "name" }, this.name, this.chips));
    if (writing) {
      this.caption = new Caption(set, number);
      this.box.append(this.caption.box);
    }
    this.split(50);
    this.show();
  }

  show() {
    const pair = this.set.pairs[this.number];
    this.name.textContent = this.name.title = pair.stem;
    this.box.classList.toggle("excluded", Boolean(pair.flags & OUT));
    this.box.classList.toggle("selected", this.set.selected.has(this.number));
    this.pick.checked = this.set.selected.has(this.number);
    const badges = [
      pair.flags & OUT && words.out, pair.flags & HELD && words.held, pair.flags & SWAPPED && words.swapped,
      pair.repeats > 1 && `× ${pair.repeats}`,
    ].filter(Boolean);
    this.badges.replaceChildren(...badges.map((text) => element("span", {}, text)));
    this.chips.replaceChildren(...chips(this.set.findings[this.number] ?? []));
    this.caption?.show();
    if (this.loaded && this.loaded !== this.source(pair)) this.load();
  }

  /** Files have come or gone, and the pair has another number. */
  move(number) {
    this.number = this.caption.number = this.box.dataset.number = number;
    this.show();
  }

  // a swapped pair has the key of its files, but another picture
  source = (pair) => `${thumbUrl(pair)}${pair.flags & SWAPPED ? "?swapped" : ""}`;

  /** Ask for the picture, once the cell stays in view. `coming` ends when it is there, or broken. */
  load() {
    const source = this.loaded = this.source(this.set.pairs[this.number]);
    const [first] = this.images;
    let end;
    this.coming = new Promise((resolve) => { end = resolve; });
    first.onload = () => {
      end();
      const width = first.naturalWidth / this.images.length, height = first.naturalHeight;
      this.frame.style.aspectRatio = `${width} / ${height}`;
      this.frame.classList.toggle("tall", width / height < this.view.clientWidth / this.view.clientHeight);
      this.view.classList.add("there");
      for (const image of this.images.slice(1)) image.src = source;
    };
    first.onerror = () => {
      end();
      this.view.replaceChildren(element("p", { class: "bad" }, words.broken));
    };
    first.src = source;
  }

  slide(event) {
    const { left, width } = this.frame.getBoundingClientRect();
    this.split(Math.min(100, Math.max(0, ((event.clientX - left) / width) * 100)));
  }

  split(percent) {
    const before = this.images[1]?.parentElement;
    if (!before) return;
    before.style.clipPath = `inset(0 ${100 - percent}% 0 0)`;
    this.frame.lastElementChild.style.left = `${percent}%`;
  }

  clicked(event) {
    if (event.shiftKey || event.ctrlKey || event.metaKey) this.act.pick(this.number, event);
    else this.act.look(this.number);
  }

  /** Whether somebody is at work in it, or has yet to say which of two captions is to stay. */
  get undecided() {
    return this.box.contains(document.activeElement) || this.caption?.conflicting;
  }

  gone() {
    this.caption?.save();
    for (const image of this.images) image.removeAttribute("src"); // what is not there yet need not come
  }
}

/** One for each kind of finding; what they say shows under the mouse, or in the large view. */
function chips(findings) {
  const kinds = new Map();
  for (const each of findings) kinds.set(each.kind, [...(kinds.get(each.kind) ?? []), each]);
  return [...kinds.values()].map((same) => {
    const made = chip(same[0]);
    if (same.length > 1) made.append(` × ${same.length}`);
    made.title = same.map(({ message, remedy }) => `${message}\n${remedy}`).join("\n");
    return made;
  });
}

export const chip = (finding) =>
  element("span", { class: `chip ${finding.severity}`, title: `${finding.message}\n${finding.remedy}` }, finding.name);
