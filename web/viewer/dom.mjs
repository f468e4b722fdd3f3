// Building elements and asking the server.

// element("button", {class: "quiet", onclick}, "text", child, …)
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// This page's own address, with or without what a reverse proxy puts in front of it.
export const HOME = location.pathname;
export const cellUrl = (row, column) => `${HOME}/cell/${row}/${column}`;

export async function ask(what, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  const reply = await fetch(`${HOME}/${what}`, options);
  if (!reply.ok) throw Error(await reply.text());
  return reply.json();
}

let fading;
export function notice(text) {
  const line = document.getElementById("notice");
  line.textContent = text;
  line.hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => (line.hidden = true), 6000);
}
