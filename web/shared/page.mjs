// What all pages share: language, light or dark, asking the server, and being shown over ComfyUI's.

const asked = new URLSearchParams(location.search);
const language = asked.get("lang") ?? navigator.language;
export const LANGUAGE = language.toLowerCase().startsWith("zh") ? "zh" : "en";
export const chinese = LANGUAGE === "zh";

// ---- light and dark -------------------------------------------------------------------------

const system = () => (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark");
document.documentElement.dataset.theme =
  asked.get("theme") ?? localStorage.kontextTheme ?? system();
document.documentElement.lang = LANGUAGE;

export function switchTheme() {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "light" ? "dark" : "light";
  localStorage.kontextTheme = root.dataset.theme;
}

// ---- the server -----------------------------------------------------------------------------

// This page's own address, with or without what a reverse proxy puts in front of it.
export const HOME = location.pathname;

/** What the server answers at HOME/what; with a body, to a POST. An Error has the server's sentence. */
export const ask = (what, body) => askAt(`${HOME}/${what}`, body);

export async function askAt(address, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  const reply = await request(address, options);
  if (!reply.ok) throw Error(await reply.text());
  return reply.json();
}

/** The server is not there: it may answer when it is asked again. */
class Unanswered extends Error {}
const AWAY = [502, 503, 504]; // what a proxy in front of it says meanwhile

export async function request(address, options) {
  const headers = { ...options?.headers, "Kontext-Language": LANGUAGE };
  const reply = await fetch(address, { ...options, headers }).catch(() => {
    throw new Unanswered(chinese ? "ComfyUI 没有响应。" : "ComfyUI does not answer.");
  });
  if (AWAY.includes(reply.status)) throw new Unanswered(await reply.text());
  return reply;
}

export const pause = (ms) => new Promise((wait) => setTimeout(wait, ms));

/** The answer of `asked()`, sooner or later: whoever follows something goes on after a restart. */
export async function patiently(asked, ms) {
  for (;;) {
    try {
      return await asked();
    } catch (error) {
      if (!(error instanceof Unanswered)) throw error;
      notice(error.message);
    }
    await pause(ms);
  }
}

/** Another page of the pack, in the same language and theme. */
export const pageAddress = (path) =>
  `${path}?theme=${document.documentElement.dataset.theme}&lang=${LANGUAGE}`;

let fading;
export function notice(text) {
  const line = document.getElementById("notice");
  line.textContent = text;
  line.hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => (line.hidden = true), 6000);
}

// ---- over ComfyUI's page ----------------------------------------------------------------------

export const embedded = window.parent !== window;

/** Ask the page around this one to put it away (shared/overlay.mjs). */
export function leave() {
  window.parent.postMessage({ kontext: "close" }, location.origin);
}

/** Ask it to open a graph in a new tab of its own. */
export function openGraph(graph, name) {
  window.parent.postMessage({ kontext: "graph", graph, name }, location.origin);
}
