// The grid of all pairs, of which only what can be seen is in the page.

import { Cell } from "./cell.mjs";

const GAP = 12;
const LAYOUTS = {
  pictures: { least: 190, height: 216 },
  captions: { least: 330, height: 432 },
};
const STILL = 70; // ms without scrolling after which pictures are asked for
const MOST_WAITING = 140; // and while it goes on, at least so often
const AHEAD = 0.75; // screens
const PATIENCE = 400; // ms that texts wait for the pictures above them

export class Grid {
  constructor(root, field, set, act) {
    Object.assign(this, { root, field, set, act, cells: new Map(), layout: "captions", current: 0 });
    root.addEventListener("scroll", () => this.scrolled(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(root);
    set.addEventListener("listed", () => this.rebuild());
    set.addEventListener("read", ({ detail }) => this.refresh(detail));
    for (const type of ["changed", "written", "chosen"])
      set.addEventListener(type, ({ detail }) => this.refresh(detail));
    set.addEventListener("changed", () => this.waiting || this.fill()); // their texts are read again
    for (const type of ["found", "answered"]) set.addEventListener(type, () => this.refresh());
    field.addEventListener("focusin", ({ target }) => this.stand(Number(target.closest(".pair").dataset.number)));
  }

  /** Columns, and the height of a row, for the room there is. */
  measure() {
    const { least, height } = LAYOUTS[this.layout];
    const width = this.root.clientWidth - GAP;
    const columns = Math.max(1, Math.floor(width / (least + GAP)));
    return { columns, rowHeight: height + GAP, cellWidth: Math.floor(width / columns) - GAP };
  }

  setLayout(layout) {
    const first = this.set.shown[this.firstPlace()];
    this.layout = layout;
    this.root.dataset.layout = layout;
    this.rebuild();
    if (first !== undefined) this.reveal(first, "start");
  }

  firstPlace() {
    const { columns, rowHeight } = this.measure();
    return Math.round(this.root.scrollTop / rowHeight) * columns;
  }

  rebuild() {
    const cells = [...this.cells.values()];
    this.cells.clear();
    for (const cell of cells)
      if (this.keep(cell)) this.cells.set(cell.number, cell); // and who is typing goes on
      else {
        cell.gone();
        cell.box.remove();
      }
    this.current = Math.min(this.current, Math.max(0, this.set.shown.length - 1));
    for (const number of this.cells.keys()) this.stand(number);
    this.draw();
  }

  /** Whether somebody writes in a cell whose pair is still there. Where it is not, what is typed
   *  from now on is meant for nothing else. */
  keep(cell) {
    if (this.layout !== "captions" || cell.caption?.field !== document.activeElement) return false;
    const pair = this.set.pairs.find(({ key }) => key === cell.key);
    if (pair) cell.move(pair.number);
    else this.act.lost();
    return Boolean(pair);
  }

  /** Put what is in view, and a little more, into the page, and take everything else out. */
  draw() {
    const { columns, rowHeight, cellWidth } = this.measure();
    const { shown } = this.set;
    this.columns = columns;
    this.field.style.height = `${Math.ceil(shown.length / columns) * rowHeight + GAP}px`;
    const top = this.root.scrollTop, screen = this.root.clientHeight;
    const from = Math.max(0, Math.floor((top - screen * AHEAD) / rowHeight)) * columns;
    const to = Math.min(shown.length, Math.ceil((top + screen * (1 + AHEAD)) / rowHeight) * columns);
    const wanted = new Map();
    for (let place = from; place < to; place++) wanted.set(shown[place], place);
    for (const [number, cell] of this.cells)
      if (!wanted.has(number) && !cell.undecided) {
        cell.gone();
        cell.box.remove();
        this.cells.delete(number);
      }
    for (const [number, place] of wanted) {
      let cell = this.cells.get(number);
      if (!cell) {
        cell = new Cell(this.set, number, { writing: this.layout === "captions", act: this.act });
        this.cells.set(number, cell);
        this.field.append(cell.box);
      }
      const row = Math.floor(place / columns);
      cell.top = GAP + row * rowHeight;
      cell.box.style.width = `${cellWidth}px`;
      cell.box.style.height = `${rowHeight - GAP}px`;
      cell.box.style.transform = `translate(${GAP + (place % columns) * (cellWidth + GAP)}px, ${cell.top}px)`;
      cell.box.classList.toggle("current", place === this.current);
    }
    if (!this.waiting) this.fill();
  }

  scrolled() {
    this.waiting = true;
    this.draw();
    const now = performance.now();
    clearTimeout(this.timer);
    if (now - (this.filled ?? 0) > MOST_WAITING) this.fill(true);
    this.timer = setTimeout(() => this.fill(), STILL);
  }

  /** Ask for pictures and texts: first of what is in view, from the top. While one scrolls on, the
   *  rest may be gone before it comes. */
  fill(scrolling = false) {
    this.waiting = scrolling;
    this.filled = performance.now();
    const { rowHeight } = this.measure();
    const top = this.root.scrollTop, bottom = top + this.root.clientHeight;
    const seen = ({ top: place }) => place + rowHeight > top && place < bottom;
    const cells = [...this.cells.values()].sort((one, other) => seen(other) - seen(one) || one.top - other.top);
    for (const cell of cells) if (!cell.loaded && (!scrolling || seen(cell))) cell.load();
    if (!scrolling && this.layout === "captions") this.readTexts(cells).catch(this.act.failed);
  }

  /** After the pictures: the first count of tokens keeps the server busy for a second. */
  async readTexts(cells) {
    const pictures = Promise.all(cells.map(({ coming }) => coming));
    await Promise.race([pictures, new Promise((resolve) => setTimeout(resolve, PATIENCE))]);
    await this.set.read(cells.map(({ number }) => number).filter((number) => this.cells.has(number)));
  }

  refresh(numbers) {
    for (const number of numbers ?? this.cells.keys()) this.cells.get(number)?.show();
  }

  // ---- by keys --------------------------------------------------------------------------------

  get number() {
    return this.set.shown[this.current];
  }

  reveal(number, where = "nearest") {
    const place = this.set.shown.indexOf(number);
    if (place < 0) return;
    this.current = place;
    const { columns, rowHeight } = this.measure();
    const top = Math.floor(place / columns) * rowHeight, screen = this.root.clientHeight;
    const { scrollTop } = this.root;
    if (where === "start" || top < scrollTop) this.root.scrollTop = top;
    else if (top + rowHeight + GAP > scrollTop + screen)
      this.root.scrollTop = Math.max(0, Math.min(top, top + rowHeight + GAP - screen));
    this.draw();
  }

  /** The keys are where somebody writes. */
  stand(number) {
    const place = this.set.shown.indexOf(number);
    if (place < 0) return;
    this.current = place;
    for (const cell of this.cells.values()) cell.box.classList.toggle("current", cell.number === number);
  }

  move(by) {
    const last = this.set.shown.length - 1;
    if (last < 0) return;
    this.reveal(this.set.shown[Math.min(last, Math.max(0, this.current + by))]);
  }

  /** Begin to write the caption of the current pair. */
  write() {
    if (this.layout !== "captions") this.setLayout("captions");
    this.reveal(this.number);
    this.cells.get(this.number)?.caption.field.focus();
  }
}
