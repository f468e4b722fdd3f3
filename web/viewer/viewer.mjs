// The viewer's page: any two pictures of a comparison, compared by slider, flicker or side by side.

import { Blind } from "./blind.mjs";
import { element } from "../shared/dom.mjs";
import { ask, embedded, leave, notice, switchTheme } from "../shared/page.mjs";
import { resultsSheet } from "./results.mjs";
import { Stage } from "../shared/stage.mjs";
import { cellUrl } from "./cell.mjs";
import { words } from "./words.mjs";

const MODES = ["slider", "flicker", "beside"];
const ofRun = !decodeURIComponent(location.pathname).includes("/compare/:"); // not of loose LoRAs
const byId = (id) => document.getElementById(id);

// ---- what is shown, kept in the address so that a reload shows it again -----------------------

function nameOf(column) {
  if (column.kind !== "lora") return words[column.kind];
  const named = column.label === `step ${column.step}` ? words.step(column.step) : column.label;
  return `${named} × ${column.strength}`;
}

class Viewer {
  constructor(manifest) {
    this.manifest = manifest;
    const made = manifest.columns.length - (manifest.columns.at(-1).kind === "target" ? 2 : 1);
    const kept = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    const within = (value, count, otherwise) =>
      Number.isInteger(+value) && value !== "" && +value >= 0 && +value < count ? +value : otherwise;
    this.row = within(kept.row ?? "", manifest.rows.length, 0);
    this.sides = {
      a: within(kept.a ?? "", manifest.columns.length, 0),
      b: within(kept.b ?? "", manifest.columns.length, made),
    };
    this.active = kept.side === "a" ? "a" : "b";
    this.stage = new Stage(byId("stage"));
    this.stage.set({ mode: MODES.includes(kept.mode) ? kept.mode : "slider" });
    this.blind = new Blind(byId("blind"), manifest, (voted) => this.leaveBlind(voted));
    this.buildBars();
    this.show();
    document.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("keyup", (event) => byId("blind").hidden || this.blind.key(event));
  }

  buildBars() {
    const { manifest } = this;
    document.title = words.title(manifest.title);
    byId("title").textContent = manifest.title;
    byId("legend").textContent = byId("legend").title = manifest.legend;
    for (const mode of MODES)
      byId("modes").append(
        element("button", { "data-mode": mode, onclick: () => this.setMode(mode) }, words[mode]));
    for (const side of ["a", "b"])
      byId("side").append(
        element("button", { "data-side": side, onclick: () => this.choose(side) }, side.toUpperCase()));
    byId("side").title = words.choosing;
    byId("previous").append("‹");
    byId("next").append("›");
    byId("previous").title = words.previous;
    byId("next").title = words.next;
    byId("previous").onclick = () => this.step("row", -1);
    byId("next").onclick = () => this.step("row", 1);
    byId("actions").append(
      element("button", { class: "strong", id: "vote", onclick: () => this.startBlind() }, words.blind),
      element("button", { id: "ranking", onclick: () => this.openResults() }, words.results),
      element("button", { class: "quiet", id: "theme", title: words.theme, onclick: switchTheme }, "◐"));
    if (embedded)
      byId("actions").append(
        element("a", { class: "button quiet", href: location.href, target: "_blank", title: words.tab }, "↗"),
        element("button", { class: "quiet", id: "close", title: words.close, onclick: leave }, "✕"));
    byId("keys").append(
      ...words.keys.map(([keys, what]) =>
        element("span", {}, ...keys.split(" ").flatMap((k) => [element("kbd", {}, k), " "]), what)));
    byId("strip").append(
      ...manifest.columns.map((column, place) =>
        element("button", { class: "thumb", "data-column": place, onclick: () => this.put(place) },
          element("img", { alt: "", loading: "lazy" }),
          element("span", { class: "name" }, column.kind === "target" ? words.after : nameOf(column)))));
  }

  show() {
    const { manifest, row, sides, stage } = this;
    const about = manifest.rows[row];
    const source = (column) => (manifest.shown[row][column] ? cellUrl(row, column) : "");
    const name = (side) => {
      const column = nameOf(manifest.columns[sides[side]]);
      return source(sides[side]) ? column : `${column}: ${words.gone}`;
    };
    stage.show({
      a: source(sides.a), b: source(sides.b), names: { a: name("a"), b: name("b") }, size: about.size,
    });
    byId("place").textContent = words.place(row + 1, manifest.rows.length);
    byId("picture").textContent = about.label;
    const seen = about.details.filter((detail) => detail !== `“${about.prompt}”`);
    byId("prompt").textContent = [...seen, `“${about.prompt}”`].join(" · ");
    for (const button of byId("modes").children)
      button.setAttribute("aria-pressed", button.dataset.mode === stage.mode);
    for (const button of byId("side").children)
      button.setAttribute("aria-pressed", button.dataset.side === this.active);
    for (const [place, thumb] of [...byId("strip").children].entries()) {
      const image = thumb.querySelector("img");
      if (image.getAttribute("src") !== source(place)) image.src = source(place);
      image.hidden = !source(place);
      thumb.querySelectorAll(".badge").forEach((badge) => badge.remove());
      for (const side of ["a", "b"]) {
        thumb.classList.toggle(`is-${side}`, sides[side] === place);
        if (sides[side] === place)
          thumb.append(element("span", { class: `badge ${side}` }, side.toUpperCase()));
      }
    }
    const kept = new URLSearchParams({ row, ...sides, side: this.active, mode: stage.mode });
    history.replaceState(null, "", `#${kept}`);
  }

  // A picture on the side that is being chosen.
  put(column) {
    this.sides[this.active] = column;
    if (this.stage.mode === "flicker") this.stage.set({ front: this.active });
    this.show();
    byId("strip").children[column].scrollIntoView({ inline: "nearest", block: "nearest" });
  }

  choose(side) {
    this.active = side;
    if (this.stage.mode === "flicker") this.stage.set({ front: side });
    this.show();
  }

  step(what, by) {
    const around = (value, count) => (value + by + count) % count;
    if (what === "row") {
      this.row = around(this.row, this.manifest.rows.length);
      this.show();
    } else this.put(around(this.sides[this.active], this.manifest.columns.length));
  }

  setMode(mode) {
    this.stage.set({ mode });
    this.show();
  }

  startBlind() {
    document.activeElement?.blur(); // or the arrow keys and Space would press its button
    this.blind.start();
  }

  // Who has voted wants to know who won.
  leaveBlind(voted) {
    byId("blind").hidden = true;
    if (voted) this.openResults();
  }

  async openResults() {
    try {
      const ranking = await ask("votes");
      const select = (column) => {
        this.active = "b";
        this.put(column);
        this.closeResults();
      };
      const keep = async (column, name) => {
        const { file } = await ask("keep", { column, name });
        new BroadcastChannel("kontext.kept").postMessage(file); // see web/lists.js
        return file;
      };
      const sheet = resultsSheet(
        this.manifest, ranking, nameOf, select, () => this.closeResults(), ofRun && keep);
      byId("results").replaceChildren(sheet);
      byId("results").hidden = false;
    } catch (error) {
      notice(error.message);
    }
  }

  closeResults() {
    byId("results").hidden = true;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (this.keyed(event)) event.preventDefault();
  }

  keyed(event) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!byId("results").hidden) {
      if (key !== "Escape" && key !== "r") return false;
      this.closeResults();
      return true;
    }
    if (!byId("blind").hidden) return this.blind.key(event);
    const moves = {
      ArrowLeft: () => this.step("column", -1),
      ArrowRight: () => this.step("column", 1),
      ArrowUp: () => this.step("row", -1),
      ArrowDown: () => this.step("row", 1),
      " ": () => { this.stage.flip(); this.show(); },
      1: () => this.choose("a"),
      2: () => this.choose("b"),
      s: () => this.setMode("slider"),
      f: () => this.setMode("flicker"),
      d: () => this.setMode("beside"),
      "+": () => this.stage.zoom(1.4),
      "=": () => this.stage.zoom(1.4),
      "-": () => this.stage.zoom(1 / 1.4),
      0: () => this.stage.home(),
      v: () => this.startBlind(),
      r: () => this.openResults(),
      Escape: () => embedded && leave(),
    };
    moves[key]?.();
    return key in moves;
  }
}

try {
  window.viewer = new Viewer(await ask("manifest"));
} catch (error) {
  notice(error.message);
}
