// All data sets that were read here, and bringing pictures in: two sets of files, paired by name.

import { element } from "../shared/dom.mjs";
import { HOME, ask, askAt, chinese, embedded, leave, notice, pageAddress, request, switchTheme } from "../shared/page.mjs";

const ENGLISH = {
  title: "Pairs of pictures", theme: "Light or dark", close: "Close",
  bring: "Bring pictures in", hint: "Drop the pictures before the edit on the left and those after it on the right: files or folders. They are paired by name and copied into ComfyUI's input folder; your own files stay as they are.",
  before: "Before", after: "After", choose: "Choose files…", folder: "Choose a folder…", files: (count) => `${count} pictures`,
  others: (count) => `${count} other files left aside`,
  paired: (count) => `${count} pairs by name`, byHand: (count) => `${count} by hand`,
  left: "Without a partner. Click one on each side to pair them; the rest is left aside.",
  name: "name of the data set", start: (count) => `Bring in ${count} pairs`, bringing: (done, all) => `${done} of ${all}`,
  clear: "Begin again", sets: "Data sets", none: "None yet. Run a Load node, or bring pictures in.", open: "Open",
  undo: "take apart", refused: (count) => `${count} pairs could not be brought in:`, failed: (name, why) => `${name}: ${why}`, more: (count) => `${count} more`,
};
const CHINESE = {
  title: "图片对", theme: "浅色或深色", close: "关闭",
  bring: "导入图片", hint: "把修改前的图片拖到左边，修改后的拖到右边，文件或文件夹都可以。按名称配对后复制到 ComfyUI 的 input 文件夹，您自己的文件不会改动。",
  before: "修改前", after: "修改后", choose: "选择文件…", folder: "选择文件夹…", files: (count) => `${count} 张图片`,
  others: (count) => `${count} 个其他文件未采用`,
  paired: (count) => `按名称配成 ${count} 对`, byHand: (count) => `手动配成 ${count} 对`,
  left: "没有配对的图片。在左右各点一张即可配对，其余不会导入。",
  name: "数据集名称", start: (count) => `导入 ${count} 对`, bringing: (done, all) => `${done}/${all}`,
  clear: "重新开始", sets: "数据集", none: "还没有。请运行加载节点，或导入图片。", open: "打开",
  undo: "拆开", refused: (count) => `${count} 对未能导入：`, failed: (name, why) => `${name}：${why}`, more: (count) => `还有 ${count} 张`,
};
const words = chinese ? CHINESE : ENGLISH;
const PICTURE = /\.(png|jpe?g|webp|bmp|tiff?|avif|gif|jfif)$/i;
const MOST_SHOWN = 60;
const SIDES = ["before", "after"];
const byId = (id) => document.getElementById(id);

// ---- files -----------------------------------------------------------------------------------

/** All files of what was dropped, those in folders too. */
async function dropped(items) {
  const entries = [...items].map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile()).filter(Boolean);
  const files = [];
  const walk = async (entry) => {
    if (entry instanceof File) return files.push(entry);
    if (entry.isFile) return files.push(await new Promise((done, failed) => entry.file(done, failed)));
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((done, failed) => reader.readEntries(done, failed)); // 100 at a time
      if (!some.length) return undefined;
      for (const each of some) await walk(each);
    }
  };
  for (const entry of entries) await walk(entry);
  return files;
}

/** What is brought in: pictures of both sides, and which belong together. */
const draft = {
  sides: { before: [], after: [] }, others: 0, pairs: [], hand: [], chosen: {}, name: "", most: MOST_SHOWN,

  async add(side, files) {
    const pictures = files.filter((file) => PICTURE.test(file.name) && !file.name.startsWith("."));
    this.others += files.length - pictures.length;
    this.sides[side].push(...pictures.sort((one, other) => (one.name < other.name ? -1 : 1)));
    this.hand = [];
    this.chosen = {};
    const [before, after] = SIDES.map((each) => this.sides[each].map(({ name }) => name));
    this.pairs = before.length && after.length ? (await askAt(`${HOME}/match`, { before, after })).pairs : [];
    if (!this.name) this.name = folderName(pictures[0]);
    show();
  },

  left(side) {
    const place = SIDES.indexOf(side), used = new Set([...this.pairs, ...this.hand].map((pair) => pair[place]));
    return this.sides[side].map((_, number) => number).filter((number) => !used.has(number));
  },

  choose(side, number) {
    this.chosen[side] = this.chosen[side] === number ? undefined : number;
    const { before, after } = this.chosen;
    if (before !== undefined && after !== undefined) {
      this.hand.push([before, after, stemOf(this.sides.after[after].name)]);
      this.chosen = {};
    }
    show();
  },

  get all() {
    return [...this.pairs, ...this.hand];
  },
};

/** As the server names pairs (dataset/drop.py): without what no file may be called everywhere. */
const stemOf = (name) => name.replace(/\.[^.]*$/, "").replace(/[<>:"/\\|?*\x00-\x1f]/g, "_").replace(/^[ .]+|[ .]+$/g, "") || "_";
const suffixOf = (name) => name.match(/\.[^.]*$/)[0].toLowerCase();
const folderName = (file) => file?.webkitRelativePath?.split("/")[0] ?? "";

// ---- the page --------------------------------------------------------------------------------

function side(name) {
  const chooser = (folder) => {
    const input = element("input", { type: "file", multiple: true, hidden: true, "data-choose": `${name}${folder ? "-folder" : ""}` });
    if (folder) input.webkitdirectory = true;
    else input.accept = "image/*";
    input.addEventListener("change", () => draft.add(name, [...input.files]).catch(failed));
    return [input, element("button", { onclick: () => input.click() }, folder ? words.folder : words.choose)];
  };
  const box = element("div", { class: "side", "data-side": name },
    element("h2", {}, words[name]),
    element("span", { class: "faint" }, words.files(draft.sides[name].length)),
    element("div", { class: "row" }, ...chooser(false), ...chooser(true)));
  box.addEventListener("dragover", (event) => {
    event.preventDefault();
    box.classList.add("over");
  });
  box.addEventListener("dragleave", () => box.classList.remove("over"));
  box.addEventListener("drop", async (event) => {
    event.preventDefault();
    box.classList.remove("over");
    try {
      await draft.add(name, await dropped(event.dataTransfer.items));
    } catch (error) {
      failed(error);
    }
  });
  if (draft.left(name).length && draft.sides.before.length && draft.sides.after.length)
    box.append(...leftovers(name));
  return box;
}

function leftovers(name) {
  const left = draft.left(name), rest = left.length - draft.most;
  const more = () => {
    draft.most += MOST_SHOWN;
    show();
  };
  return [
    element("div", { class: "left" }, ...left.slice(0, draft.most).map((number) => leftover(name, number))),
    ...(rest > 0 ? [element("button", { class: "quiet", "data-more": name, onclick: more }, words.more(rest))] : []),
  ];
}

const urls = new Map();
function leftover(name, number) {
  const file = draft.sides[name][number];
  if (!urls.has(file)) urls.set(file, URL.createObjectURL(file));
  return element("button", { "data-left": file.name, title: file.name, "aria-pressed": draft.chosen[name] === number ? "true" : "false",
    onclick: () => draft.choose(name, number) },
    element("img", { alt: "", src: urls.get(file) }), element("span", {}, file.name));
}

/** Draw all anew; the keys stay where they were, or at the first leftover of that side. */
function show() {
  const { left, more } = document.activeElement.dataset;
  const side = document.activeElement.closest(".side")?.dataset.side;
  draw();
  if (left === undefined && more === undefined) return;
  const box = byId("bring").querySelector(`[data-side=${side}]`);
  const same = [...box.querySelectorAll("[data-left]")].find((each) => each.dataset.left === left);
  (same ?? box.querySelector(more ? "[data-more]" : "[data-left]"))?.focus();
}

function draw() {
  const both = draft.sides.before.length && draft.sides.after.length;
  const name = element("input", { id: "name", placeholder: words.name, "aria-label": words.name, value: draft.name,
    oninput: ({ target }) => { draft.name = target.value; } });
  byId("bring").replaceChildren(
    element("h2", {}, words.bring), element("p", { class: "faint" }, words.hint),
    element("div", { class: "sides" }, ...SIDES.map(side)),
    ...(draft.others ? [element("p", { class: "faint" }, words.others(draft.others))] : []),
    ...(both && SIDES.some((each) => draft.left(each).length) ? [element("p", {}, words.left)] : []),
    ...(draft.hand.length ? [element("div", { class: "hand" }, ...draft.hand.map((pair, place) =>
      element("button", { title: words.undo, onclick: () => { draft.hand.splice(place, 1); show(); } },
        `${draft.sides.before[pair[0]].name} + ${draft.sides.after[pair[1]].name} ✕`)))] : []),
    ...(both ? [element("div", { class: "row" },
      element("span", { id: "paired" }, [words.paired(draft.pairs.length), draft.hand.length && words.byHand(draft.hand.length)].filter(Boolean).join(" · ")),
      name,
      element("button", { class: "strong", id: "start", disabled: !draft.all.length, onclick: () => bring().catch(failed) }, words.start(draft.all.length)),
      element("button", { class: "quiet", onclick: () => location.reload() }, words.clear),
      element("progress", { id: "progress", hidden: true, max: draft.all.length, value: 0 }))] : []));
}

/** Copy all pairs, one after the other, and open the page of the new data set. */
async function bring() {
  const pairs = draft.all, progress = byId("progress");
  byId("start").disabled = true;
  try {
    const plan = pairs.map(([before, after, stem]) =>
      [stem, suffixOf(draft.sides.before[before].name), suffixOf(draft.sides.after[after].name)]);
    const { id, plan: planned, control, target } = await askAt(`${HOME}/bring`, { name: draft.name, pairs: plan });
    progress.hidden = false;
    const refused = []; // one side is not a picture, say: the other pairs are brought in
    for (const [number, pair] of pairs.entries()) {
      for (const [place, side] of SIDES.entries()) {
        const file = draft.sides[side][pair[place]];
        const reply = await request(`${HOME}/bring/${planned}/${number}/${side}`, {
          method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file });
        if (reply.ok) continue;
        const why = words.failed(file.name, await reply.text());
        if (reply.status !== 409) throw Error(why);
        refused.push(why);
        break;
      }
      progress.value = number + 1;
    }
    if (refused.length === pairs.length) throw Error(refused[0]);
    await askAt(`${HOME}/${id}/again`, {}); // it may have been open already
    if (embedded) window.parent.postMessage({ kontext: "folders", control, target }, location.origin);
    if (refused.length) return showRefused(refused, id);
    location.href = pageAddress(`${HOME}/${id}`);
  } finally {
    if (byId("start")) byId("start").disabled = false;
  }
}

function showRefused(refused, id) {
  byId("bring").replaceChildren(
    element("h2", {}, words.refused(refused.length)), ...refused.map((line) => element("p", { class: "bad" }, line)),
    element("a", { class: "button", id: "opened", href: pageAddress(`${HOME}/${id}`) }, words.open));
  byId("opened").focus();
}

const failed = (error) => notice(error.message);

async function showSets() {
  const sets = await ask("list");
  byId("sets").replaceChildren(element("h2", {}, words.sets),
    ...(sets.length ? sets.map((set) => element("div", { class: "set" },
      element("span", {}, [set.control, set.target].filter(Boolean).join(" → ")),
      element("a", { class: "button", href: pageAddress(`${HOME}/${set.id}`) }, words.open)))
      : [element("p", { class: "faint" }, words.none)]));
}

document.title = byId("title").textContent = words.title;
byId("actions").append(
  element("button", { class: "quiet", title: words.theme, onclick: switchTheme }, "◐"),
  ...(embedded ? [element("button", { class: "quiet", title: words.close, onclick: leave }, "✕")] : []));
document.addEventListener("keydown", (event) => event.key === "Escape" && embedded && leave());
for (const type of ["dragover", "drop"]) addEventListener(type, (event) => event.preventDefault()); // a miss opens no file
show();
showSets().catch(failed);
