// The ranking by eye beside what was measured: votes, scores, and what switching costs.

import { drawn, element } from "../shared/dom.mjs";
import { words } from "./words.mjs";

const COLOURS = {
  "no effect": "#9aa0a6",
  "under-fitted": "#5b8def",
  good: "#2e9e5b",
  "over-fitted": "#e2711d",
  diverged: "#c62839",
  "still improving": "#17a2a2",
};
const WIDTH = 180, HEIGHT = 18;

const chance = (score) => 1 / (1 + Math.exp(-score));
const percent = (share) => `${Math.round(share * 100)}%`;

/** `keep(column, name)` gives the name of the file that the LoRA was kept as. */
export function resultsSheet(manifest, ranking, nameOf, select, close, keep) {
  const scored = Object.keys(manifest.scores).length > 0;
  const costed = manifest.columns.some((column) => column.cost);
  const heads = [
    ["", "number"], [words.picture], [words.byEye], [words.record],
    ...(scored ? [[words.measured], [words.verdict]] : []),
    ...(costed ? [[words.load, "number"], [words.each, "number"], [words.memory, "number"]] : []),
    ...(keep ? [[""]] : []),
  ];
  const keeping = keepForm(manifest.title, nameOf, keep);
  const votes = (standing) => standing.wins + standing.equal + standing.losses;
  const seenFirst = [...ranking.standings].sort((one, other) => !votes(one) - !votes(other));
  const body = seenFirst.map((standing, place) => {
    const at = manifest.columns.findIndex((column) => column.item === standing.item);
    const column = manifest.columns[at];
    const voted = votes(standing) > 0;
    return element("tr", { "data-item": standing.item, onclick: () => select(at) },
      element("td", { class: "number" }, voted ? `${place + 1}` : ""),
      element("td", {}, nameOf(column)),
      element("td", { title: `${percent(chance(standing.low))} – ${percent(chance(standing.high))}` },
        interval(standing, voted)),
      element("td", {}, voted ? `${standing.wins} · ${standing.equal} · ${standing.losses}` : "–"),
      ...(scored ? measured(manifest.scores[column.file]) : []),
      ...(costed ? costs(column.cost) : []),
      ...(keep ? [element("td", {}, ...keepButton(column, at, keeping))] : []));
  });
  const table = element("table", {},
    element("thead", {}, element("tr", {},
      ...heads.map(([text, kind]) => element("th", kind ? { class: kind } : {}, text)))),
    element("tbody", {}, ...body));
  return element("div", { class: "sheet", role: "dialog" },
    element("header", {}, element("h2", {}, words.ranking(ranking.votes)),
      element("button", { onclick: close }, words.close, element("kbd", {}, "Esc"))),
    element("div", { class: "wide" }, table),
    keeping.form,
    element("p", {}, words.explained),
    element("p", {}, scored ? words.scored : words.unscored),
    ...(costed ? [element("p", {}, words.switching)] : []));
}

// ---- keeping ---------------------------------------------------------------------------------

function keepButton(column, at, keeping) {
  if (column.kind !== "lora") return [];
  const ask = (event) => {
    event.stopPropagation(); // the row would show its picture
    keeping.ask(column, at);
  };
  return [element("button", { class: "strong", "data-action": "keep", onclick: ask }, words.keep)];
}

/** Asks under which name a LoRA shall be kept, says what became of it. */
function keepForm(title, nameOf, keep) {
  const label = element("label"), result = element("span");
  const name = element("input", { value: title, maxlength: "80", "aria-label": words.name });
  const form = element("form", { class: "keep", hidden: true }, label, name,
    element("button", { class: "strong" }, words.save), result);
  let at = -1, taken = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      result.textContent = words.kept(await keep(at, name.value));
      taken = true;
    } catch (error) {
      result.textContent = error.message;
    }
  });
  for (const kind of ["keydown", "keyup"])
    form.addEventListener(kind, (event) => event.key !== "Escape" && event.stopPropagation());
  const ask = (column, place) => {
    at = place;
    label.textContent = words.keepAs(nameOf(column));
    result.textContent = "";
    name.value = taken ? `${title} ${nameOf(column)}` : title;
    form.hidden = false;
    name.focus();
  };
  return { form, ask };
}

// A score with its interval, as the chance to be preferred to an average one: 0 to 100 %.
function interval({ score, low, high }, voted) {
  const x = (value) => 4 + chance(value) * (WIDTH - 50);
  const middle = HEIGHT / 2;
  const picture = drawn("svg", {
    class: voted ? "interval" : "interval unknown", width: WIDTH, height: HEIGHT,
  });
  picture.append(
    drawn("line", { x1: x(-99), x2: x(99), y1: middle, y2: middle }),
    drawn("line", { x1: x(0), x2: x(0), y1: 2, y2: HEIGHT - 2 }));
  if (voted) {
    const text = drawn("text", { x: WIDTH - 2, y: middle + 4, "text-anchor": "end", "font-size": 12,
      fill: "currentColor" });
    text.textContent = percent(chance(score));
    picture.append(
      drawn("line", { class: "reach", x1: x(low), x2: x(high), y1: middle, y2: middle }),
      drawn("circle", { cx: x(score), cy: middle, r: 5 }), text);
  }
  return picture;
}

function measured(score) {
  if (!score || score.gain === null) return [element("td"), element("td")];
  const bounds = score.gain_low === null ? []
    : [" ", element("small", {}, `${percent(score.gain_low)} – ${percent(score.gain_high)}`)];
  const dot = element("span", { class: "dot" });
  dot.style.background = COLOURS[score.verdict] ?? "#9aa0a6";
  return [
    element("td", {}, percent(score.gain), ...bounds),
    element("td", {}, dot, words.verdicts[score.verdict] ?? score.verdict)];
}

function costs(cost) {
  const texts = cost
    ? [words.seconds(cost.read + cost.apply), words.seconds(cost.picture),
       words.gigabytes(cost.memory)]
    : ["–", "–", "–"];
  return texts.map((text) => element("td", { class: "number" }, text));
}
