"""The groups of our graphs in ComfyUI's page: titles that can be read, and room for their nodes."""

import json

import browser
from host import ROOT

GRAPHS = sorted((ROOT / "workflows").glob("*.json"))

# What is written on the canvas for a group of ours, and for one of the user's
TITLES = """() => {
    const context = document.createElement("canvas").getContext("2d"), written = [];
    context.fillText = function (text) { written.push(`${parseInt(this.font)} px: ${text}`); };
    const own = new LiteGraph.LGraphGroup("mine 我的");
    for (const group of [app.graph.groups[0], own]) group.draw(app.canvas, context);
    return written;
}"""

# Nodes that leave their group, reach into its title, or lie on another node
CROWDED = """() => {
    const boxes = app.graph.nodes.map((node) => {
        const drawn = document.querySelector(`[data-node-id="${node.id}"]`);
        if (LiteGraph.vueNodesMode && !drawn) return [`${node.title}: not there yet`, 0, 0, 0, 0];
        const [width, height] = drawn
            ? [drawn.offsetWidth, drawn.offsetHeight] : [node.size[0], node.size[1] + 30];
        const [left, top] = [node.pos[0], node.pos[1] - 30];
        return [node.title, left, top, left + width, top + height];
    });
    const within = ([, left, top, right, bottom]) => app.graph.groups.some(
        ({ pos: [x, y], size: [width, height] }) =>
            x <= left && right <= x + width && y + 44 <= top && bottom <= y + height);
    const meet = (a, b) => a !== b && a[1] < b[3] && b[1] < a[3] && a[2] < b[4] && b[2] < a[4];
    const crowded = boxes.filter((box) => !within(box) || boxes.some((other) => meet(box, other)));
    return crowded.map(([title]) => title);
}"""


def test_titles_are_large_and_in_the_language_of_the_page(set_up):
    with browser.front_end(set_up.server.url) as opened:
        opened.open_graph(read("train_kontext_lora"))
        ours = set_up.say("Start here", "从这里开始")
        assert opened.page.evaluate(TITLES) == [f"40 px: {ours}", "20 px: mine 我的"]


def test_every_node_has_room_in_its_group(set_up):
    with browser.front_end(set_up.server.url) as opened:
        page = opened.page
        for path in GRAPHS:
            page.evaluate("graph => app.loadGraphData(graph)", read(path.stem))
            page.wait_for_function(f"() => !({CROWDED})().length", timeout=60_000)


def read(name: str) -> dict:
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
