// Two pictures in one place or side by side; zoom and position are always the same for both.

import { element } from "./dom.mjs";

const MOST = 32; // zoom, as a multiple of the size that fits
const MARGIN = 16;
const PIXELS_SHOW = 6; // from so many screen pixels a pixel, edges stay sharp

export class Stage {
  constructor(root) {
    this.root = root;
    root.classList.add("stage");
    this.panes = ["a", "b"].map((side) => {
      const layers = { a: this.layer(), b: this.layer() };
      const tag = { a: element("span", { class: "tag a" }), b: element("span", { class: "tag b" }) };
      const pane = element("div", { class: "pane", "data-pane": side }, layers.b.box, layers.a.box);
      pane.append(tag.a, tag.b);
      root.append(pane);
      this.listen(pane);
      return { pane, layers, tag };
    });
    this.divider = element("div", {
      class: "divider", role: "slider", tabindex: "0", "aria-valuemin": 0, "aria-valuemax": 100,
    });
    this.panes[0].pane.append(this.divider);
    this.divider.addEventListener("pointerdown", (event) => this.drag(event, this.slide));
    this.zoomShown = element("span", { class: "zoom" });
    root.append(this.zoomShown);
    Object.assign(this, { mode: "slider", front: "b", split: 50, size: [1, 1] });
    this.home();
    new ResizeObserver(() => this.draw()).observe(root);
  }

  layer() {
    const image = element("img", { draggable: "false", alt: "" });
    return { box: element("div", { class: "layer" }, image), image };
  }

  // What to show: addresses and names of both, and the pictures' size in pixels.
  show({ a, b, names, size }) {
    this.size = size;
    for (const { layers, tag } of this.panes)
      for (const [side, source] of [["a", a], ["b", b]]) {
        const { image } = layers[side];
        if (image.getAttribute("src") !== source) {
          if (source) image.src = source;
          else image.removeAttribute("src");
        }
        image.alt = tag[side].textContent = names[side];
      }
    this.draw();
  }

  set(changes) {
    Object.assign(this, changes);
    this.draw();
  }

  home() {
    Object.assign(this, { scale: 1, x: 0, y: 0 });
    if (this.panes) this.draw();
  }

  // The size that fits, and where it stands when nothing is zoomed.
  fit() {
    const { width, height } = this.panes[0].pane.getBoundingClientRect();
    const ratio = Math.min(
      (width - 2 * MARGIN) / this.size[0], (height - 2 * MARGIN) / this.size[1]);
    const shown = [this.size[0] * ratio, this.size[1] * ratio];
    return { width, height, ratio, shown };
  }

  draw() {
    const beside = this.mode === "beside";
    this.root.classList.toggle("beside", beside);
    this.panes[1].pane.hidden = !beside;
    const { width, height, ratio, shown } = this.fit();
    const left = (width - shown[0] * this.scale) / 2 + this.x;
    const top = (height - shown[1] * this.scale) / 2 + this.y;
    for (const { layers } of this.panes)
      for (const { image } of Object.values(layers)) {
        image.style.width = `${shown[0]}px`;
        image.style.height = `${shown[1]}px`;
        image.style.transform = `translate(${left}px, ${top}px) scale(${this.scale})`;
        image.classList.toggle("pixels", ratio * this.scale >= PIXELS_SHOW && this.scale > 1);
      }
    this.panes.forEach((pane, place) => {
      const only = beside ? "ab"[place] : this.mode === "flicker" ? this.front : null;
      for (const side of "ab") {
        pane.layers[side].box.hidden = pane.tag[side].hidden = Boolean(only) && only !== side;
        pane.tag[side].classList.toggle("alone", only === side);
      }
      const cut = this.mode === "slider" ? 100 - this.split : 0;
      pane.layers.a.box.style.clipPath = `inset(0 ${cut}% 0 0)`;
    });
    this.divider.hidden = this.mode !== "slider";
    this.divider.style.left = `${this.split}%`;
    this.divider.setAttribute("aria-valuenow", Math.round(this.split));
    this.zoomShown.textContent = `${Math.round(ratio * this.scale * 100)} %`;
  }

  // Zoom by a factor; the point of the pane under (x, y) stays where it is.
  zoom(factor, x, y) {
    const { width, height } = this.fit();
    const scale = Math.min(MOST, Math.max(1, this.scale * factor));
    const grown = scale / this.scale;
    const from = [(x ?? width / 2) - width / 2, (y ?? height / 2) - height / 2];
    this.x = scale === 1 ? 0 : from[0] - (from[0] - this.x) * grown;
    this.y = scale === 1 ? 0 : from[1] - (from[1] - this.y) * grown;
    this.scale = scale;
    this.draw();
  }

  slide = (event) => {
    const box = this.panes[0].pane.getBoundingClientRect();
    this.set({ split: Math.min(100, Math.max(0, ((event.clientX - box.left) / box.width) * 100)) });
  };

  pan = (event) => this.set({ x: this.x + event.movementX, y: this.y + event.movementY });

  drag(event, move) {
    if (event.button !== 0) return;
    event.stopPropagation();
    event.preventDefault();
    const held = event.currentTarget;
    held.setPointerCapture(event.pointerId);
    held.classList.add("dragging");
    held.addEventListener("pointermove", move);
    held.addEventListener("lostpointercapture", () => {
      held.removeEventListener("pointermove", move);
      held.classList.remove("dragging");
    }, { once: true });
    if (move === this.slide) move(event);
  }

  listen(pane) {
    pane.addEventListener("pointerdown", (event) => {
      if (this.mode === "slider" && this.scale === 1) return this.drag(event, this.slide);
      if (this.mode === "flicker" && this.scale === 1 && event.button === 0) return this.flip();
      this.drag(event, this.pan);
    });
    pane.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = pane.getBoundingClientRect();
      const turned = event.deltaY * (event.deltaMode === 1 ? 20 : 1);
      this.zoom(Math.exp(-turned / 500), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    pane.addEventListener("dblclick", () => this.home());
  }

  flip() {
    this.set({ mode: "flicker", front: this.front === "a" ? "b" : "a" });
  }
}
