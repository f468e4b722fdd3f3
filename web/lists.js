// The lists of runs and LoRAs in nodes. ComfyUI reads them when its page opens; here they are read
// again whenever one may have come: what was just trained or kept can be chosen at once.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const WRITERS = ["KontextTrainLora", "KontextSaveCheckpoint", "KontextPickCheckpoint"];
const ENDS = ["execution_success", "execution_error", "execution_interrupted"];

app.registerExtension({
  name: "kontext.lists",
  setup() {
    const reload = () => app.reloadNodeDefs();
    new BroadcastChannel("kontext.kept").onmessage = reload; // by the viewer, wherever it is open
    for (const end of ENDS)
      api.addEventListener(end, () => {
        if (app.graph.nodes.some(({ type }) => WRITERS.includes(type))) reload();
      });
  },
});
