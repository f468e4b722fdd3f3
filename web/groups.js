// Titles of the groups in our graphs: in the language of the page, and large enough to be read while
// the whole graph is on the screen. ComfyUI draws each title at 20 px, whatever its file says.

import { app } from "../../scripts/app.js";
import { chinese } from "./shared/graph.mjs";

const SIZE = 40, STRIP = 44;

const draw = LGraphGroup.prototype.draw;
LGraphGroup.prototype.draw = function (...where) {
  const { GROUP_TEXT_SIZE, NODE_TITLE_HEIGHT } = LiteGraph;
  if (this.flags.titles)
    Object.assign(LiteGraph, { GROUP_TEXT_SIZE: SIZE, NODE_TITLE_HEIGHT: STRIP });
  draw.apply(this, where);
  Object.assign(LiteGraph, { GROUP_TEXT_SIZE, NODE_TITLE_HEIGHT });
};

app.registerExtension({
  name: "kontext.groups",
  afterConfigureGraph() {
    for (const group of app.graph.groups) {
      const titles = group.flags.titles; // English, Chinese
      if (titles?.includes(group.title)) group.title = titles[Number(chinese())];
    }
  },
});
