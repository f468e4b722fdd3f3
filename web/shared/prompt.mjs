// Running a part of the graph, as an ordinary prompt.

import { api } from "../../../scripts/api.js";

/** A node of a prompt and all that it depends on. */
export function ancestors(prompt, id, found = {}) {
  if (id in found || !prompt[id]) return found;
  found[id] = prompt[id];
  for (const value of Object.values(prompt[id].inputs)) if (Array.isArray(value)) ancestors(prompt, String(value[0]), found);
  return found;
}

/** Queue a prompt; what its nodes show, by their ids, once it is done. An Error says why it is not. */
export async function runPart(prompt, workflow) {
  const shown = {};
  const early = []; // events that come before the answer that says which prompt is ours
  let ours, end;
  const ended = new Promise((done, failed) => {
    end = (type, detail) => {
      if (ours === undefined) return early.push([type, detail]);
      if (detail.prompt_id !== ours) return;
      if (type === "executed") shown[detail.node] = detail.output;
      else if (type === "execution_success") done(shown);
      else failed(Error(detail.exception_message ?? "…"));
    };
  });
  const types = ["executed", "execution_success", "execution_error", "execution_interrupted"];
  const listeners = types.map((type) => [type, ({ detail }) => end(type, detail)]);
  for (const [type, listener] of listeners) api.addEventListener(type, listener);
  try {
    const reply = await api.fetchApi("/prompt", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ client_id: api.clientId, prompt, extra_data: { extra_pnginfo: { workflow } } }),
    });
    const answer = await reply.json();
    if (!reply.ok) throw Error(reasons(answer));
    ours = answer.prompt_id;
    for (const event of early) end(...event);
    return await ended;
  } finally {
    for (const [type, listener] of listeners) api.removeEventListener(type, listener);
  }
}

/** Why the server does not take a prompt: of each node its own sentence. */
function reasons({ error, node_errors: nodes }) {
  const own = Object.values(nodes ?? {}).flatMap((node) => node.errors.map((each) => each.details || each.message));
  return own.join("\n") || error?.message || "";
}
