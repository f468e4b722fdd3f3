// Runs inside ComfyUI's page, for draw.py.

// Lay out the groups row by row from left to right, each a column of nodes, and link them.
async function build(groups) {
  app.graph.clear();
  const made = {}, gap = 30, titleBar = 30, margin = 20, heading = 40;
  let x = 0, top = 0, row = 0, bottom = 0;
  for (const group of groups) {
    if (group.row !== row) [x, top, row] = [0, bottom + gap, group.row];
    let y = top + heading + titleBar, width = 0;
    const members = [];
    for (const spec of group.nodes) {
      const node = LiteGraph.createNode(spec.type);
      node.pos = [x + margin, y];
      app.graph.add(node);
      if (spec.title) node.title = spec.title;
      if (spec.files.length) node.properties.models = spec.files.map((file) => {
        const [url, directory] = file;
        return { name: url.split("/").pop(), url, directory };
      });
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
    frame.pos = [x, top];
    frame.size = [width + 2 * margin, y - titleBar + margin / 2 - top];
    app.graph.add(frame);
    x += frame.size[0] + gap;
    bottom = Math.max(bottom, top + frame.size[1]);
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
