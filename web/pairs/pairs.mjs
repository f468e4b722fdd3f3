// The page of a data set: look at its pairs, decide on them, write their captions.

import { element } from "../shared/dom.mjs";
import { HOME, embedded, leave, notice, pageAddress, patiently, pause, switchTheme } from "../shared/page.mjs";
import { askMachine, followMachine } from "./ask.mjs";
import { saveAll } from "./caption.mjs";
import { Dialog, deleteTag, editMany, writeShared } from "./edit.mjs";
import { Grid } from "./grid.mjs";
import { Look } from "./look.mjs";
import { DataSet, HELD, OUT, SWAPPED } from "./set.mjs";
import { words } from "./words.mjs";

const byId = (id) => document.getElementById(id);
const FLAGS = { excluded: OUT, held_out: HELD, swapped: SWAPPED };
const SETTLED = 3000; // ms
const TAGS_AT_ONCE = 300;
const CHECK_AGAIN = 700; // ms between two looks at a check that is running

class Page {
  constructor(set) {
    this.set = set;
    this.mostTags = TAGS_AT_ONCE;
    this.failed = (error) => notice(error.message);
    this.dialog = new Dialog(byId("dialog"));
    const act = {
      look: (number) => this.look.start(number),
      pick: (number, event) => this.pick(number, event),
      choose: (numbers, what, value) => this.choose(numbers, what, value),
      reveal: (number) => this.grid.reveal(number),
      failed: this.failed,
      lost: () => { this.lost = true; },
    };
    this.grid = new Grid(byId("grid"), byId("field"), set, act);
    this.look = new Look(byId("look"), set, act);
    this.build();
    for (const type of ["listed", "changed", "chosen", "found", "written"])
      set.addEventListener(type, () => this.showCounts());
    this.grid.setLayout(localStorage.kontextPairs === "pictures" ? "pictures" : "captions");
    this.showCounts();
    document.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("pointerdown", () => { this.lost = false; });
    addEventListener("focus", () => this.lookAgain());
    addEventListener("pagehide", () => saveAll(true));
    set.readFindings().then((found) => found.running && this.followCheck()).catch(this.failed);
    followMachine(set, this);
    setTimeout(() => this.lookAgain(), SETTLED); // after the first pictures
  }

  // ---- bars -----------------------------------------------------------------------------------

  build() {
    const { set } = this;
    document.title = words.title(set.name);
    byId("title").textContent = set.name;
    this.layouts = element("div", { class: "segments", role: "group" }, ...["pictures", "captions"].map((name) =>
      element("button", { "data-layout": name, onclick: () => this.setLayout(name) }, words[name])));
    this.checkButton = element("button", { id: "check", onclick: () => this.check() }, words.check);
    this.undoButton = element("button", { id: "undo", onclick: () => this.undo() }, words.undo);
    byId("actions").append(
      this.layouts, this.undoButton, this.checkButton,
      element("button", { id: "edit", hidden: Boolean(set.unwritable), onclick: () => this.edit() }, words.edit),
      element("button", { id: "tag-list", onclick: () => this.toggleTags() }, words.tags),
      element("a", { class: "button quiet", href: pageAddress(HOME.replace(/\/[^/]*$/, "")) }, words.sets),
      element("button", { class: "quiet", title: words.help, onclick: () => this.help() }, "?"),
      element("button", { class: "quiet", title: words.theme, onclick: switchTheme }, "◐"));
    if (embedded)
      byId("actions").append(
        element("a", { class: "button quiet", href: location.href, target: "_blank", title: words.tab }, "↗"),
        element("button", { class: "quiet", title: words.close, onclick: leave }, "✕"));
    this.search = element("input", { id: "search", type: "search", placeholder: words.search, "aria-label": words.search,
      oninput: () => this.filter({ text: this.search.value.trim().toLowerCase() }) });
    this.state = element("select", { id: "state", "aria-label": words.any, onchange: () => this.filter({ state: this.state.value }) });
    this.tagShown = element("button", { class: "tag-shown", hidden: true, onclick: () => this.filter({ tag: "" }) });
    this.notes = element("button", { id: "notes", class: "quiet doubtful", onclick: () =>
      this.dialog.show(words.notes, ...set.notes.map((note) => element("p", {}, note))) }, `⚠ ${words.notes}`);
    byId("filters").append(this.search, this.state, this.tagShown, this.notes, element("span", { id: "progress", role: "status" }));
    this.buildShared();
  }

  buildShared() {
    const { set } = this;
    if (set.unwritable) return byId("shared").replaceChildren(element("p", { class: "doubtful" }, set.unwritable));
    const field = (name, label, hint) => element("textarea", {
      id: name, rows: 1, placeholder: hint, "aria-label": label, oninput: () => this.showShared() });
    this.instruction = field("instruction", words.instruction, words.instructionHint);
    this.ending = field("ending", words.ending, words.endingHint);
    this.writeButton = element("button", { class: "strong", id: "write", onclick: () => this.writeShared() }, words.write);
    byId("shared").replaceChildren(
      element("label", { class: "wide-field" }, words.instruction, this.instruction),
      element("label", {}, words.ending, this.ending), this.writeButton);
    set.addEventListener("listed", () => this.fillShared());
    this.fillShared();
  }

  /** As the server has it; what is being written there stays. */
  fillShared() {
    for (const name of ["instruction", "ending"]) {
      const field = this[name], value = this.set[name];
      if (field.value === (field.filled ?? "") || field.value.trim() === value) field.value = value;
      field.filled = value;
    }
    this.showShared();
  }

  showShared() {
    const { instruction, ending } = this.set;
    this.writeButton.hidden = this.instruction.value === instruction && this.ending.value === ending;
  }

  async writeShared() {
    await saveAll();
    writeShared(this.dialog, this.set, this.instruction.value, this.ending.value);
  }

  showCounts() {
    const { set } = this;
    byId("counts").textContent = words.counts(set.pairs.length, set.shown.length, set.count(OUT), set.count(HELD));
    this.undoButton.disabled = !set.undo;
    const kinds = new Map(Object.values(set.findings).flat().map(({ kind, name }) => [kind, name]));
    const options = [["", words.any], ...Object.entries(words.states), ...kinds];
    const key = options.join();
    if (this.optionsShown !== key)
      this.state.replaceChildren(...options.map(([value, text]) =>
        element("option", { value, selected: value === set.filter.state }, text)));
    this.optionsShown = key;
    this.notes.hidden = !set.notes.length;
    this.showChosen();
    if (!byId("tags").hidden) this.showTags();
  }

  showChosen() {
    const { set } = this, numbers = [...set.selected];
    byId("chosen").hidden = !numbers.length;
    if (!numbers.length) return;
    const button = (name, what, value, text) =>
      element("button", { "data-do": name, onclick: () => this.choose(numbers, what, value) }, text);
    byId("chosen").replaceChildren(
      element("b", {}, words.selected(numbers.length)),
      button("leave-out", "excluded", true, words.leaveOut), button("take-back", "excluded", false, words.takeBack),
      button("hold-out", "held_out", true, words.holdOut), button("train", "held_out", false, words.train),
      ...(set.single ? [] : [element("button", { "data-do": "swap", onclick: () => this.choose(numbers, "swapped") }, words.swap)]),
      ...(set.unwritable ? [] : [element("button", { "data-do": "describe", onclick: () => askMachine(this.dialog, set, this) }, words.describe)]),
      element("button", { class: "quiet", "data-do": "all", onclick: () => set.select(set.shown, true) }, words.all),
      element("button", { class: "quiet", "data-do": "none", onclick: () => set.select(numbers, false) }, words.none));
  }

  setLayout(name) {
    localStorage.kontextPairs = name;
    this.grid.setLayout(name);
    this.showLayout();
  }

  showLayout() {
    for (const each of this.layouts.children)
      each.setAttribute("aria-pressed", each.dataset.layout === this.grid.layout);
  }

  // ---- which pairs ----------------------------------------------------------------------------

  filter(changes) {
    Object.assign(this.set.filter, changes);
    const { tag } = this.set.filter;
    this.tagShown.hidden = !tag;
    this.tagShown.textContent = `${tag} ✕`;
    byId("grid").scrollTop = 0;
    this.grid.current = 0;
    this.set.refilter();
  }

  pick(number, event) {
    const { set, grid } = this, on = !set.selected.has(number);
    const from = set.shown.indexOf(this.picked ?? number), to = set.shown.indexOf(number);
    const range = event.shiftKey && from >= 0 ? set.shown.slice(Math.min(from, to), Math.max(from, to) + 1) : [number];
    this.picked = number;
    grid.current = to;
    set.select(range, on);
    grid.draw();
  }

  async choose(numbers, what, value) {
    if (!numbers.length || numbers[0] === undefined) return;
    const all = numbers.every((number) => this.set.pairs[number].flags & FLAGS[what]);
    try {
      await saveAll();
      await this.set.choose(numbers, what, value ?? !all);
    } catch (error) {
      this.failed(error);
    }
  }

  /** The selected pairs, or the one where the keys are. */
  meant = () => (this.set.selected.size ? [...this.set.selected] : [this.grid.number]);

  async undo() {
    try {
      await saveAll();
      await this.set.takeBack();
      notice(words.undone);
    } catch (error) {
      this.failed(error);
      await this.lookAgain();
    }
  }

  async lookAgain() {
    try {
      await saveAll();
      if (await this.set.lookAgain()) notice(words.changed);
    } catch (error) {
      this.failed(error);
    }
  }

  // ---- captions of many -----------------------------------------------------------------------

  async edit() {
    await saveAll();
    editMany(this.dialog, this.set);
  }

  toggleTags() {
    byId("tags").hidden = !byId("tags").hidden;
    if (!byId("tags").hidden) this.showTags();
  }

  showTags() {
    const { set } = this, counts = set.tagCounts();
    const captioned = set.shown.filter((number) => set.pairs[number].caption.trim()).length;
    byId("tags").replaceChildren(
      element("p", { class: "faint" }, words.tagsHint),
      ...counts.slice(0, this.mostTags).map(([tag, count]) => element("div", { class: "tag-row" },
        element("button", { class: "quiet name", "data-tag": tag, onclick: () => this.filter({ tag: set.filter.tag === tag ? "" : tag }) }, tag),
        element("span", { class: count === captioned && captioned > 1 ? "count bad" : "count", title: count === captioned ? words.binds : "" }, `${count}`),
        ...(set.unwritable ? [] : [element("button", { class: "quiet", title: words.bind, onclick: async () => {
          await saveAll();
          deleteTag(this.dialog, set, tag);
        } }, "×")]))),
      ...(counts.length > this.mostTags ? [element("button", { class: "quiet", "data-do": "more-tags", onclick: () => {
        this.mostTags += TAGS_AT_ONCE;
        this.showTags();
      } }, words.more(counts.length - this.mostTags))] : []));
  }

  // ---- findings -------------------------------------------------------------------------------

  async check() {
    try {
      await this.set.startCheck(this.checking);
      if (!this.checking) await this.followCheck();
    } catch (error) {
      this.failed(error);
    }
  }

  async followCheck() {
    this.checking = true;
    this.checkButton.textContent = words.stop;
    let found;
    try {
      do {
        await pause(CHECK_AGAIN);
        found = await patiently(() => this.set.readFindings(), CHECK_AGAIN);
        byId("progress").textContent = found.running ? words.checking(found.done, found.total) : "";
      } while (found.running);
    } finally {
      this.checking = false;
      this.checkButton.textContent = words.check;
    }
    if (this.set.filter.state) this.set.refilter();
    notice(words.checked(Object.keys(this.set.findings).length));
    if (found.general.length)
      this.dialog.show(words.general, ...found.general.map((each) =>
        element("p", {}, element("span", { class: `chip ${each.severity}` }, each.name), ` ${each.message} ${each.remedy}`)));
  }

  // ---- keys -----------------------------------------------------------------------------------

  help() {
    const table = (keys) => element("dl", { class: "keys" }, ...keys.map(([key, what]) =>
      element("div", {}, element("dt", {}, ...key.split(" ").flatMap((each) => [element("kbd", {}, each), " "])), element("dd", {}, what))));
    this.dialog.show(words.help, table(words.keys), element("h2", {}, words.look), table(words.lookKeys));
  }

  key(event) {
    const inField = event.target.matches("textarea, select, input:not([type=checkbox])");
    const command = event.ctrlKey || event.metaKey;
    if (event.isComposing) return; // it means the letters being put together
    if (this.lost) {
      // typed on, for a pair that is gone
      this.lost = !["Escape", "Tab"].includes(event.key);
      return;
    }
    if (!byId("dialog").hidden) {
      if (event.key === "Escape") this.dialog.close();
      return;
    }
    if (inField) {
      if (event.key === "Escape") event.target.blur();
      else if (event.key === "Enter" && command && event.target.closest(".caption")) this.nextCaption();
      else return;
      return event.preventDefault();
    }
    if (event.altKey || (event.target.closest("button, a") && ["Enter", " "].includes(event.key))) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (command ? this.command(key) : this.look.open ? this.look.key(key) : this.keyed(event, key)) event.preventDefault();
  }

  command(key) {
    if (key === "z") this.undo();
    else if (key === "a" && !this.look.open) this.set.select(this.set.shown, true);
    else return false;
    return true;
  }

  keyed(event, key) {
    const { grid, set } = this;
    const moves = {
      ArrowLeft: () => grid.move(-1), ArrowRight: () => grid.move(1),
      ArrowUp: () => grid.move(-grid.columns), ArrowDown: () => grid.move(grid.columns),
      PageDown: () => grid.move(grid.columns * 3), PageUp: () => grid.move(-grid.columns * 3),
      Home: () => grid.move(-set.pairs.length), End: () => grid.move(set.pairs.length),
      Enter: () => grid.number !== undefined && this.look.start(grid.number),
      " ": () => grid.number !== undefined && this.pick(grid.number, event),
      e: () => grid.write(),
      x: () => this.choose(this.meant(), "excluded"),
      h: () => this.choose(this.meant(), "held_out"),
      w: () => this.choose(this.meant(), "swapped"),
      a: () => grid.cells.get(grid.number)?.caption?.accept(),
      "/": () => this.search.focus(),
      "?": () => this.help(),
      Escape: () => (set.selected.size ? set.select([...set.selected], false) : embedded && leave()),
    };
    moves[key]?.();
    return key in moves;
  }

  nextCaption() {
    if (this.look.open) {
      this.look.step(1);
      return this.look.caption.field.focus();
    }
    const own = Number(document.activeElement.closest(".pair").dataset.number);
    this.grid.reveal(own);
    document.activeElement.blur();
    this.grid.move(1);
    this.grid.write();
  }
}

try {
  window.pairs = new Page(await DataSet.open());
  window.pairs.showLayout();
} catch (error) {
  notice(error.message);
}
