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
      oninput: () => this.typed(), onblur: () => this.save(),
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
    if (!unsaved.has(this)) this.field.value = text.description;
    else if (!this.known) this.field.value = text.description + this.field.value; // typed before it came
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
    this.field.value = answer;
    this.known = true; // and what stood there is replaced
    this.typed();
    if (edit) this.field.focus();
    await this.save();
    await this.set.dropAnswers([this.number]);
  }

  typed() {
    if (!unsaved.has(this)) this.base = this.set.pairs[this.number].caption;
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

  async send(keepalive, before = this.base) {
    if (!unsaved.has(this) || this.conflicting) return;
    try {
      while (!this.known) {
        await this.set.read([this.number]);
        this.show();
      }
      const description = this.field.value;
      const { caption } = await this.set.write(this.number, this.key, description, before, keepalive);
      this.base = caption;
      if (this.field.value === description) unsaved.delete(this);
      this.say(words.saved);
    } catch (error) {
      if (error.found?.[this.number] === undefined) {
        this.say("");
        return notice(error.message);
      }
      this.conflict(error.found[this.number]);
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
          await this.set.lookAgain();
        } }, words.theirs),
        element("button", { class: "strong", "data-do": "mine", onclick: () => { end(); this.send(false, found); } }, words.mine)));
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
