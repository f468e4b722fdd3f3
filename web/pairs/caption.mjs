// The caption of one pair: its description to write in, what is saved, tokens, conflicts, answers.

import { element } from "../shared/dom.mjs";
import { notice } from "../shared/page.mjs";
import { words } from "./words.mjs";

const PAUSE = 500; // ms after the last key until it is saved
const unsaved = new Set();

/** Save what is being typed at once, as when the page is left. */
export const saveAll = (keepalive = false) => Promise.all([...unsaved].map((editor) => editor.save(keepalive)));

export class Caption {
  constructor(set, number) {
    Object.assign(this, { set, number, key: set.pairs[number].key, timer: 0, saving: Promise.resolve() });
    this.box = element("div", { class: "caption" });
    this.field = element("textarea", {
      rows: 2, placeholder: words.description, "aria-label": words.description, spellcheck: "true",
      oninput: () => this.typed(),
      onfocus: () => { set.writing = this.key; },
      onblur: () => { set.writing = undefined; this.save(); },
    });
    this.field.disabled = Boolean(set.unwritable);
    this.line = element("p", { class: "joined", title: words.joined });
    this.facts = element("p", { class: "facts" });
    this.extra = element("div", { class: "extra" });
    this.box.append(this.field, this.line, this.facts, this.extra);
    this.show();
  }

  get text() {
    return this.set.texts.get(this.number);
  }

  show() {
    const text = this.text;
    if (!text) return;
    if (!this.known) this.agree(text, text.description + (unsaved.has(this) ? this.field.value : "")); // typed before it came
    else if (!unsaved.has(this) && (text.caption !== this.base || text.description !== this.described))
      this.agree(text, text.description);
    this.known = true;
    const unknown = new Set(text.unreadable);
    this.line.replaceChildren(...marked(text.caption, unknown));
    const [t5, most, clip, clipMost] = text.tokens;
    this.facts.replaceChildren(
      element("span", { hidden: !text.caption,
        class: t5 > most ? "bad" : clip > clipMost ? "doubtful" : "",
        title: t5 > most ? words.tooLong : clip > clipMost ? words.clipLong : "",
      }, words.tokens(text.tokens)),
      ...(unknown.size ? [element("span", { class: "doubtful" }, words.unreadable([...unknown].slice(0, 12).join("")))] : []),
      this.state ?? "");
    this.showAnswer();
  }

  /** What is in the field is about this caption of the file, whatever the page learns later. */
  agree({ caption, description }, value = this.field.value) {
    Object.assign(this, { base: caption, described: description });
    if (this.field.value !== value) this.field.value = value;
  }

  showAnswer() {
    if (this.conflicting) return;
    const answer = this.set.answers.get(this.number);
    if (answer === undefined) return this.extra.replaceChildren();
    this.extra.replaceChildren(
      element("p", { class: "answer" }, element("b", {}, `${words.machine}: `), answer),
      element("div", { class: "row" },
        element("button", { class: "strong", "data-do": "accept", onclick: () => this.accept() }, words.accept),
        element("button", { "data-do": "edit", onclick: () => this.accept(true) }, words.takeOver),
        element("button", { class: "quiet", "data-do": "refuse", onclick: () => this.set.dropAnswers([this.number]) }, words.refuse)));
  }

  /** Take the machine's description, to be changed first if `edit`. */
  async accept(edit = false) {
    const answer = this.set.answers.get(this.number);
    if (answer === undefined || this.field.disabled) return;
    if (!this.known) this.base = this.set.pairs[this.number].caption;
    this.field.value = answer;
    this.known = true; // and what stood there is replaced
    this.typed();
    if (edit) this.field.focus();
    await this.save();
    await this.set.dropAnswers([this.number]);
  }

  typed() {
    unsaved.add(this);
    this.say(words.saving);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), PAUSE);
  }

  save(keepalive = false) {
    clearTimeout(this.timer);
    if (!unsaved.has(this)) return this.saving;
    this.saving = this.saving.then(() => this.send(keepalive));
    return this.saving;
  }

  async send(keepalive, { before, again = true } = {}) {
    if (!unsaved.has(this) || this.conflicting) return;
    try {
      while (!this.known) {
        await this.set.read([this.number]);
        this.show();
      }
      const description = this.field.value;
      this.agree(await this.set.write(this.number, this.key, description, before ?? this.base, keepalive));
      if (this.field.value !== description) return; // typed meanwhile, and soon saved
      unsaved.delete(this);
      this.say(words.saved);
    } catch (error) {
      const [found] = Object.values(error.found ?? {});
      if (found !== undefined) return this.conflict(found);
      // files that came or went give pairs other numbers
      if (again && (await this.set.lookAgain().catch(() => false))) return this.send(keepalive, { again: false });
      if (!this.set.pairs.some(({ key }) => key === this.key)) unsaved.delete(this); // the pair is gone
      this.say("");
      notice(error.message);
    }
  }

  /** Show what the file says by now, and let the user decide. */
  conflict(found) {
    this.conflicting = true;
    this.say("");
    const end = () => { this.conflicting = false; this.extra.replaceChildren(); };
    this.extra.replaceChildren(
      element("p", { class: "bad" }, words.conflict),
      element("p", { class: "answer" }, found || "—"),
      element("div", { class: "row" },
        element("button", { "data-do": "theirs", onclick: async () => {
          end();
          unsaved.delete(this);
          this.base = undefined; // whatever is read is shown
          await this.set.lookAgain();
          await this.set.read([this.number]);
          this.show();
        } }, words.theirs),
        element("button", { class: "strong", "data-do": "mine", onclick: () => { end(); this.send(false, { before: found }); } }, words.mine)));
  }

  say(text) {
    this.state = element("span", { class: "state" }, text);
    this.facts.querySelector(".state")?.remove();
    this.facts.append(this.state);
  }
}

/** The text with the letters in `unknown` marked. */
function marked(text, unknown) {
  if (!unknown.size) return [text];
  const parts = [];
  let plain = "";
  for (const letter of text) {
    if (unknown.has(letter)) {
      parts.push(plain, element("mark", {}, letter));
      plain = "";
    } else plain += letter;
  }
  return [...parts, plain];
}
