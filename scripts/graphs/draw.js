// Runs inside ComfyUI's page, for draw_graphs.py.

// Lay out the groups left to right, each a column of nodes, and link them.
async function build(groups) {
  app.graph.clear();
  const made = {}, gap = 40, titleBar = 30, margin = 20;
  let x = 0;
  for (const group of groups) {
    let y = 0, width = 0;
    const members = [];
    for (const spec of group.nodes) {
      const node = LiteGraph.createNode(spec.type);
      node.pos = [x, y];
      app.graph.add(node);
      if (spec.title) node.title = spec.title;
      for (const [name, value] of Object.entries(spec.widgets)) {
        const widget = node.widgets?.find((w) => w.name === name);
        if (!widget) throw Error(`${spec.type} has no widget ${name}`);
        widget.value = value;
        widget.callback?.(value);
      }
      await new Promise((done) => setTimeout(done, 100));
      const least = node.computeSize();
      node.setSize(spec.size ?? [Math.max(least[0], 330), least[1]]);
      made[spec.key] = node;
      members.push(node);
      y += node.size[1] + titleBar + gap / 2;
      width = Math.max(width, node.size[0]);
    }
    for (const node of members) node.setSize([width, node.size[1]]);
    const frame = new LiteGraph.LGraphGroup(group.title);
    frame.color = group.colour;
    frame.pos = [x - margin, -titleBar - 45 - margin];
    frame.size = [width + 2 * margin, y + titleBar + 45 + margin];
    app.graph.add(frame);
    x += width + 2 * margin + gap;
  }
  for (const group of groups) for (const spec of group.nodes)
    for (const [input, source] of Object.entries(spec.inputs)) {
      const [key, output] = source.split(".");
      const from = made[key].outputs.findIndex((slot) => slot.name === output);
      if (from < 0) throw Error(`${made[key].type} has no output ${output}: `
          + made[key].outputs.map((slot) => slot.name));
      if (!made[key].connect(from, made[spec.key], input)) throw Error(`no link ${source} ${input}`);
    }
}

// Zoom so that everything is seen, clear of the page's own bars; the rectangle to photograph.
function frame() {
  const boxes = app.graph.groups.map((g) => [...g.pos, ...g.size]);
  const left = Math.min(...boxes.map((b) => b[0])) - 15, top = Math.min(...boxes.map((b) => b[1])) - 15;
  const right = Math.max(...boxes.map((b) => b[0] + b[2])) + 15;
  const bottom = Math.max(...boxes.map((b) => b[1] + b[3])) + 15;
  const scale = app.canvas.ds.scale = 0.8;
  app.canvas.ds.offset = [100 / scale - left, 120 / scale - top];
  app.canvas.setDirty(true, true);
  const canvas = app.canvas.canvas.getBoundingClientRect();
  return {x: canvas.x + 100, y: canvas.y + 120, width: (right - left) * scale,
          height: (bottom - top) * scale};
}
