// Choosing a ready text writes it into the field it is for, so that it can be read and changed.

import { app } from "../../scripts/app.js";

app.registerExtension({
  name: "kontext.presets",
  nodeCreated(node) {
    const inputs = node.constructor.nodeData?.input?.required ?? {};
    for (const [name, [, options]] of Object.entries(inputs)) {
      if (!options?.fills) continue;
      const choice = node.widgets.find((widget) => widget.name === name);
      const field = node.widgets.find((widget) => widget.name === options.fills);
      const chosen = choice.callback;
      choice.callback = function (value, ...rest) {
        chosen?.call(this, value, ...rest);
        if (options.texts[value]) field.value = options.texts[value];
      };
    }
  },
});
