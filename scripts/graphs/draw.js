// Runs inside ComfyUI's page, for draw.py.

// Nodes 2.0 draw a node higher: its rows, the pack's name below, the button of advanced inputs.
function taller(node) {
  const widgets = node.widgets ?? [], folded = widgets.filter(({ options }) => options?.advanced);
  const ours = node.type.startsWith("Kontext") ? 28 + (folded.length ? 24 : 0) : 0;
  return 4 * (widgets.length - folded.length) + ours;
}

// Lay out the groups row by row from left to right, each of columns of nodes, and link them.
async function build(groups) {
  app.graph.clear();
  const made = {}, gap = 14, titleBar = 30, margin = 15, heading = 46;
  let x = 0, left = 0, top = 0, row = 0, bottom = 0;
  for (const group of groups) {
    if (group.row !== row) [x, top, row] = [left, bottom + gap, group.row];
    const columns = [];
    for (const spec of group.nodes) {
      if (!columns.length || spec.beside) {
        const start = columns.length ? columns.at(-1).left + columns.at(-1).width + margin : x + margin;
        columns.push({ left: start, y: top + heading + titleBar, width: 0, members: [] });
      }
      const column = columns.at(-1);
      const node = LiteGraph.createNode(spec.type);
      node.pos = [column.left, column.y];
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
      const [width, height] = node.computeSize();
      node.setSize([spec.size?.[0] ?? Math.max(width, 270), Math.max(spec.size?.[1] ?? 0, height)]);
      made[spec.key] = node;
      column.members.push(node);
      column.width = Math.max(column.width, node.size[0]);
      column.y += node.size[1] + taller(node) + spec.room + titleBar + 10;
    }
    for (const { members, width } of columns) for (const node of members) node.setSize([width, node.size[1]]);
    const right = columns.at(-1).left + columns.at(-1).width;
    const frame = new LiteGraph.LGraphGroup(group.title);
    frame.color = group.colour;
    frame.pos = [x, top];
    frame.size = [right + margin - x, Math.max(...columns.map(({ y }) => y)) - titleBar - top];
    app.graph.add(frame);
    x += frame.size[0] + gap;
    if (group.tall) left = x; // the rows begin at its right
    else bottom = Math.max(bottom, top + frame.size[1]);
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
