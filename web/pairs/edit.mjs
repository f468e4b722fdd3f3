// Changing many captions: every change is shown before it is saved.

import { element } from "../shared/dom.mjs";
import { notice } from "../shared/page.mjs";
import { words } from "./words.mjs";

const MOST_ROWS = 300;

export class Dialog {
  constructor(root) {
    this.root = root;
    root.addEventListener("click", ({ target }) => target === root && this.close());
  }

  show(title, ...content) {
    this.before ??= document.activeElement;
    this.sheet = element("div", { class: "sheet", role: "dialog", "aria-label": title },
      element("header", {}, element("h2", {}, title),
        element("button", { class: "quiet", title: words.close, onclick: () => this.close() }, "✕")),
      ...content);
    this.root.replaceChildren(this.sheet);
    this.root.hidden = false;
    this.sheet.querySelector("input, textarea, select, button.strong")?.focus();
  }

  close() {
    this.root.hidden = true;
    this.before?.focus?.();
    this.before = undefined;
  }
}

/** Which pairs are meant: all, those shown, those selected. */
function scopeChoice(set, preferred) {
  const names = words.scopes(set.pairs.length, set.shown.length, set.selected.size);
  const usual = preferred ?? (set.selected.size ? "selected" : set.shown.length < set.pairs.length ? "shown" : "all");
  const choice = element("select", { id: "scope" }, ...Object.entries(names)
    .filter(([name]) => name !== "selected" || set.selected.size)
    .map(([name, text]) => element("option", { value: name, selected: name === usual }, text)));
  const numbers = () => ({ all: null, shown: set.shown, selected: [...set.selected] })[choice.value];
  return { choice, numbers };
}

/** Ask the server what `change()` would do, show it, and save exactly that. */
function previewed(dialog, set, numbers, change, button) {
  const rows = element("div", { class: "changes" });
  const save = element("button", { class: "strong", id: "apply", hidden: true });
  const look = async () => {
    try {
      save.hidden = true;
      const asked = { numbers: numbers(), change: change() };
      const { changes, digest } = await set.edit(asked.numbers, asked.change);
      rows.replaceChildren();
      const show = (from) => {
        const to = from + MOST_ROWS;
        rows.append(...changes.slice(from, to).map(([number, before, after]) =>
          element("div", { class: "change" }, element("b", {}, set.pairs[number].stem), difference(before, after))));
        if (changes.length <= to) return;
        const more = element("button", { class: "quiet", onclick: () => { more.remove(); show(to); } }, words.more(changes.length - to));
        rows.append(more);
      };
      show(0);
      if (!changes.length && asked.change.kind !== "shared") return rows.replaceChildren(words.nothing);
      save.hidden = false;
      save.textContent = words.apply(changes.length);
      save.onclick = async () => {
        save.disabled = true;
        try {
          const { conflicts } = await set.edit(asked.numbers, asked.change, digest);
          const left = Object.keys(conflicts).length;
          notice(left ? words.left(left) : words.done(changes.length));
          dialog.close();
        } catch (error) {
          notice(error.message);
          look();
        }
        save.disabled = false;
      };
      save.focus();
    } catch (error) {
      rows.replaceChildren(element("p", { class: "bad" }, error.message));
    }
  };
  button?.addEventListener("click", look);
  return { rows, save, look };
}

/** Old and new text; words that they have in common at both ends are set apart from what differs. */
function difference(before, after) {
  let start = 0, end = 0;
  const most = Math.min(before.length, after.length);
  while (start < most && before[start] === after[start]) start++;
  while (end < most - start && before.at(-1 - end) === after.at(-1 - end)) end++;
  while (start && /[\p{L}\p{N}]/u.test(before[start - 1])) start--; // whole words
  while (end && /[\p{L}\p{N}]/u.test(before.at(-end))) end--;
  const middle = (text) => text.slice(start, text.length - end);
  const tail = before.slice(before.length - end);
  return element("p", {}, before.slice(0, start), element("del", {}, middle(before)), element("ins", {}, middle(after)), tail);
}

export function editMany(dialog, set) {
  let kind = "replace";
  const { choice, numbers } = scopeChoice(set);
  const field = (id, label) => element("input", { id, placeholder: label, "aria-label": label, autocomplete: "off" });
  const text = field("find", words.find), by = field("by", words.by), added = field("added", words.words);
  const regex = element("input", { type: "checkbox", id: "regex" });
  const end = element("select", { id: "place" }, element("option", { value: "" }, words.start), element("option", { value: "end" }, words.end));
  const button = element("button", { id: "preview" }, words.preview);
  const change = () => kind === "replace"
    ? { kind, text: text.value, by: by.value, regex: regex.checked }
    : { kind, text: added.value, at_end: end.value === "end" };
  const preview = previewed(dialog, set, numbers, change, button);
  const inputs = element("div", { class: "row" });
  const kinds = element("div", { class: "segments", role: "group" }, ...Object.entries(words.kinds).map(([name, label]) =>
    element("button", { "data-kind": name, onclick: () => show(name) }, label)));
  const show = (name) => {
    kind = name;
    for (const each of kinds.children) each.setAttribute("aria-pressed", each.dataset.kind === name);
    inputs.replaceChildren(...(name === "replace" ? [text, by, element("label", {}, regex, ` ${words.regex}`)]
      : name === "add" ? [added, end] : [added]));
    preview.rows.replaceChildren();
    preview.save.hidden = true;
    inputs.querySelector("input").focus();
  };
  for (const each of [text, by, added]) each.addEventListener("keydown", ({ key, isComposing }) => key === "Enter" && !isComposing && preview.look());
  dialog.show(words.edit.replace("…", ""), kinds, inputs,
    element("div", { class: "row" }, element("label", {}, `${words.where} `, choice), button, preview.save), preview.rows);
  show("replace");
}

/** Delete a tag from all captions that are shown, so that what it names binds to the LoRA. */
export function deleteTag(dialog, set, tag) {
  const { choice, numbers } = scopeChoice(set);
  const preview = previewed(dialog, set, numbers, () => ({ kind: "untag", text: tag }));
  choice.addEventListener("change", preview.look);
  dialog.show(`− ${tag}`, element("p", { class: "faint" }, words.bind),
    element("div", { class: "row" }, element("label", {}, `${words.where} `, choice), preview.save), preview.rows);
  preview.look();
}

/** Give all captions another instruction and ending. */
export function writeShared(dialog, set, instruction, ending) {
  const preview = previewed(dialog, set, () => null, () => ({ kind: "shared", instruction, ending }));
  dialog.show(words.write.replace("…", ""), element("div", { class: "row" }, preview.save), preview.rows);
  preview.look();
}
