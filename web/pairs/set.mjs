// The data set that the page shows: its pairs, which of them are shown and selected, what is saved.

import { HOME, ask, request } from "../shared/page.mjs";

const MOST_TEXTS = 200; // that the server gives at once

export const OUT = 1, HELD = 2, SWAPPED = 4, MASKED = 8;

/** An answer that is no success: its sentence, and for a conflict what the files say. */
export class Refused extends Error {
  constructor(message, found) {
    super(message);
    this.found = found;
  }
}

async function send(what, body, keepalive = false) {
  const reply = await request(`${HOME}/${what}`, {
    method: "POST", keepalive,
    headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  if (reply.ok) return reply.json();
  const text = await reply.text();
  const conflict = text.startsWith("{") && JSON.parse(text);
  throw new Refused(conflict?.message ?? text, conflict?.found);
}

export class DataSet extends EventTarget {
  constructor(index) {
    super();
    this.selected = new Set();
    this.texts = new Map(); // number → description, tokens and letters, of what has been in view
    this.findings = {};
    this.general = [];
    this.answers = new Map();
    this.filter = { text: "", state: "", tag: "" };
    this.writing = undefined; // key of the pair in which somebody writes: it stays in view
    this.take(index);
  }

  static open = async () => new DataSet(await ask("index"));

  /** All that the server lists. */
  take(index) {
    const { pairs, ...about } = index;
    const other = index.listing !== this.listing;
    Object.assign(this, about);
    this.pairs = pairs.map((row, number) => this.pair(number, row));
    this.texts.clear();
    this.reading = new Map(); // number → the answer with its text, while that is on its way
    if (other) {
      this.selected.clear();
      this.findings = {};
      this.answers = new Map();
    }
    this.refilter();
  }

  /** All that the server lists, and with it what is known of single pairs. */
  async takeAll(index) {
    const known = [Object.keys(this.findings).length && this.readFindings, this.answers.size && this.readAnswers];
    this.take(index);
    await Promise.all(known.map((read) => read && read.call(this)));
  }

  /** The server's state after an answer; where another page wrote in between, lookAgain sees it. */
  agree({ known, stamp, undo }) {
    if (known === this.stamp) this.stamp = stamp;
    this.undo = undo;
  }

  pair = (number, [key, stem, caption, flags, repeats, controls]) =>
    ({ number, key, stem, caption, flags, repeats, controls });

  refilter() {
    this.shown = this.pairs.filter((pair) => this.matches(pair)).map((pair) => pair.number);
    this.tell("listed");
  }

  matches(pair) {
    if (pair.key === this.writing) return true;
    const { text, state, tag } = this.filter;
    if (text && !`${pair.stem}\n${pair.caption}`.toLowerCase().includes(text)) return false;
    if (tag && !this.tagsOf(pair).includes(tag)) return false;
    const found = this.findings[pair.number] ?? [];
    const states = {
      excluded: () => pair.flags & OUT,
      held: () => pair.flags & HELD,
      swapped: () => pair.flags & SWAPPED,
      empty: () => !pair.caption.trim(),
      selected: () => this.selected.has(pair.number),
      answers: () => this.answers.has(pair.number),
      found: () => found.length,
    };
    return !state || Boolean(states[state] ? states[state]() : found.some(({ kind }) => kind === state));
  }

  /** The tags of a description: what stands between commas, or ends with a full stop. */
  tagsOf(pair) {
    let text = pair.caption;
    if (this.instruction && text.startsWith(this.instruction)) text = text.slice(this.instruction.length);
    if (this.ending && text.endsWith(this.ending)) text = text.slice(0, -this.ending.length);
    return text.split(/[,，、。；！？]|(?<=[\p{L}\p{N}])[.!?](?=\s|$)/u)
      .map((tag) => tag.trim().toLowerCase().replace(/[.!?]+$/, "")).filter(Boolean);
  }

  /** Tags by how many of the shown captions have them, the commonest first. */
  tagCounts() {
    const counts = new Map();
    for (const number of this.shown)
      for (const tag of new Set(this.tagsOf(this.pairs[number]))) counts.set(tag, (counts.get(tag) ?? 0) + 1);
    return [...counts].sort((one, other) => other[1] - one[1] || (one[0] < other[0] ? -1 : 1));
  }

  count = (flag) => this.pairs.reduce((sum, { flags }) => sum + Boolean(flags & flag), 0);

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  select(numbers, on) {
    for (const number of numbers) this.selected[on ? "add" : "delete"](number);
    this.tell("chosen", numbers);
  }

  // ---- decisions ------------------------------------------------------------------------------

  async choose(numbers, what, value) {
    const answer = await send("choose", { listing: this.listing, numbers, what, value });
    for (const [number, row] of Object.entries(answer.rows)) this.pairs[number] = this.pair(+number, row);
    for (const number of numbers) this.texts.delete(number);
    this.agree(answer);
    this.tell("changed", numbers);
  }

  async takeBack() {
    await this.takeAll(await send("undo", {}));
  }

  // ---- captions -------------------------------------------------------------------------------

  /** Descriptions and tokens of pairs that come into view. */
  async read(numbers) {
    const missing = numbers.filter((number) => !this.texts.has(number) && !this.reading.has(number));
    for (let from = 0; from < missing.length; from += MOST_TEXTS) {
      const some = missing.slice(from, from + MOST_TEXTS), coming = this.fetchTexts(some);
      for (const number of some) this.reading.set(number, coming);
    }
    await Promise.all(numbers.map((number) => this.reading.get(number)));
  }

  async fetchTexts(numbers) {
    const { reading, listing } = this;
    try {
      const { texts } = await send("texts", { listing, numbers });
      if (reading !== this.reading) return; // listed anew since
      for (const [number, text] of Object.entries(texts)) this.texts.set(+number, text);
    } finally {
      for (const number of numbers) reading.delete(number);
    }
    this.tell("read", numbers);
  }

  /** Save the description of the pair with this key, which may have moved to another place.
   *  `before` is what the file is to say still. */
  async write(place, key, description, before, keepalive = false) {
    const moved = this.pairs[place]?.key !== key && this.pairs.find((pair) => pair.key === key);
    const number = moved ? moved.number : place;
    const answer = await send("caption", { number, key, before, description }, keepalive);
    const { also, stamp, undo, known, ...text } = answer;
    this.agree(answer);
    for (const each of also) {
      this.pairs[each].caption = text.caption;
      this.texts.set(each, text);
      if (this.findings[each]) this.findings[each] = this.findings[each].filter((found) => !found.caption);
    }
    this.tell("written", also);
    return text;
  }

  /** What an edit of many captions would change; with the digest of that, it is saved. */
  async edit(numbers, change, agreed = "") {
    const answer = await send("edit", { listing: this.listing, numbers, ...change, agreed });
    if (agreed) await this.takeAll(answer);
    return answer;
  }

  // ---- what else may happen -------------------------------------------------------------------

  /** Whether anything on disk has changed since; then all of it is taken over. */
  async lookAgain() {
    const { stamp } = await send("again", {});
    if (stamp === this.stamp) return false;
    await this.takeAll(await ask("index"));
    return true;
  }

  async readFindings() {
    const answer = await ask("findings");
    this.findings = answer.listing === this.listing ? answer.pairs : {}; // else of pairs by other numbers
    this.general = answer.general;
    this.checked = answer.checked;
    this.tell("found", answer);
    return answer;
  }

  startCheck = (stop = false) => send("check", { stop });

  async readAnswers() {
    const answer = await ask("answers"), same = answer.listing === this.listing;
    const numbered = (texts) => new Map(Object.entries(same ? texts : {}).map(([number, text]) => [+number, text]));
    this.answers = numbered(answer.texts);
    this.problems = numbered(answer.problems);
    this.tell("answered", answer);
    return answer;
  }

  async dropAnswers(numbers) {
    await send("answers", { listing: this.listing, numbers });
    for (const number of numbers) this.answers.delete(number);
    this.tell("changed", numbers);
  }
}

export const thumbUrl = ({ number, key }) => `${HOME}/thumb/${number}/${key}`;
export const pictureUrl = ({ number, key }, side) => `${HOME}/picture/${number}/${key}/${side}`;
