// Runs inside ComfyUI's page, for draw.py.

function make(spec, place) {
  const node = LiteGraph.createNode(spec.type);
  node.pos = place;
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
  return node;
}

// How high Nodes 2.0 draw each node of a graph below its title: higher than the canvas does.
async function measure(workflow) {
  await app.loadGraphData(workflow);
  await new Promise((done) => setTimeout(done, 2000));
  const height = ({ id }) => document.querySelector(`[data-node-id="${id}"]`).offsetHeight - 30;
  return app.graph.nodes.toSorted((a, b) => a.id - b.id).map(height);
}

const LANE = 20; // the height of a wire between two rows: its ends are dots of 20 px

// What is handed on from one row to the next, each in a lane of its own so that no wire crosses a title.
function crossings(groups) {
  const rows = Object.fromEntries(groups.flatMap(({ nodes, row }) => nodes.map(({ key }) => [key, row])));
  const sources = groups.flatMap(({ nodes, row }) => nodes.flatMap(({ inputs }) =>
    Object.values(inputs).filter((source) => rows[source.split(".")[0]] < row)));
  return [...new Set(sources)];
}

function titleWidth(title) {
  const context = document.createElement("canvas").getContext("2d");
  context.font = `40px ${LiteGraph.GROUP_FONT}`;
  return context.measureText(title).width + 30;
}

// Lay out the groups row by row from left to right, each of columns of nodes, and link them.
async function build(groups, heights) {
  app.graph.clear();
  const made = {}, frames = {}, gap = 14, titleBar = 30, margin = 15, heading = 62;
  const lanes = crossings(groups).map((source) => ({ source }));
  let x = 0, left = 0, top = 0, row = 0, bottom = 0;
  for (const group of groups) {
    if (group.row !== row) {
      lanes.forEach((lane, n) => { lane.y = bottom + gap + LANE * (n + 0.5); });
      [x, top, row] = [left, bottom + 2 * gap + LANE * lanes.length, group.row];
    }
    const columns = [];
    for (const spec of group.nodes) {
      if (!columns.length || spec.beside) {
        const start = columns.length ? columns.at(-1).left + columns.at(-1).width + margin : x + margin;
        columns.push({ left: start, y: top + heading + titleBar + spec.down, width: 0, members: [] });
      }
      const column = columns.at(-1);
      const node = make(spec, [column.left, column.y]);
      await new Promise((done) => setTimeout(done, 100));
      const [width, height] = node.computeSize();
      node.setSize([spec.size?.[0] ?? Math.max(width, 270), Math.max(spec.size?.[1] ?? 0, height)]);
      made[spec.key] = node;
      column.members.push(node);
      column.width = Math.max(column.width, node.size[0]);
      column.y += Math.max(node.size[1], heights.shift() ?? 0) + spec.room + titleBar + 8;
    }
    for (const { members, width } of columns) for (const node of members) node.setSize([width, node.size[1]]);
    const right = columns.at(-1).left + columns.at(-1).width;
    const titles = [group.title, group.title_zh];
    const frame = new LiteGraph.LGraphGroup(titles[0]);
    frame.flags.titles = titles; // see web/groups.js
    frame.color = group.colour;
    frame.pos = [x, top];
    frame.size = [right + margin - x, Math.max(...columns.map(({ y }) => y)) - titleBar - top];
    app.graph.add(frame);
    for (const title of titles) if (titleWidth(title) > frame.size[0]) throw Error(`too wide: ${title}`);
    for (const spec of group.nodes) frames[spec.key] = frame;
    x += frame.size[0] + gap;
    if (group.tall) left = x; // the rows begin at its right
    else bottom = Math.max(bottom, top + frame.size[1]);
  }
  for (const { tall, nodes: [{ key }] } of groups) { // the frames of a row end together
    const frame = frames[key], [width, height] = frame.size;
    const mates = groups.filter((group) => !group.tall).map((group) => frames[group.nodes[0].key])
      .filter(({ pos }) => tall || pos[1] === frame.pos[1]);
    const end = Math.max(...mates.map(({ pos, size }) => pos[1] + size[1]));
    frame.size = [width, end - frame.pos[1]];
  }
  for (const group of groups) for (const spec of group.nodes)
    for (const [input, source] of Object.entries(spec.inputs)) {
      const [key, output] = source.split(".");
      const from = made[key].outputs.findIndex((slot) => slot.name === output);
      if (from < 0) throw Error(`${made[key].type} has no output ${output}: `
          + made[key].outputs.map((slot) => slot.name));
      const [start, end] = [frames[key], frames[spec.key]];
      const lane = lanes.find((lane) => lane.source === source && start.pos[1] < lane.y && lane.y < end.pos[1]);
      const link = made[key].connect(from, made[spec.key], input, lane && (lane[end.id] ?? lane.begin));
      if (!link) throw Error(`no link ${source} ${input}`);
      if (!lane || lane[end.id]) continue;
      lane.begin ??= app.graph.createReroute([start.pos[0] + start.size[0] + gap / 2, lane.y], link).id;
      lane[end.id] = app.graph.createReroute([end.pos[0] - gap / 2, lane.y], link).id;
    }
}
