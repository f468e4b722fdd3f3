"""A new node shows its common inputs only, and is no higher than they need."""

import browser

HEADER, ROW, TEXT = 120, 36, 100  # pixels, at most; the button that unfolds is in the header's

# One new node of each type of the pack that has advanced inputs, all of them in view
CREATE = """() => {
    app.graph.clear();
    const types = Object.keys(LiteGraph.registered_node_types);
    const ours = types.filter(type => type.startsWith("Kontext"));
    ours.map(type => LiteGraph.createNode(type))
        .filter(node => node.widgets?.some(widget => widget.options?.advanced))
        .forEach((node, place) => {
            node.pos = [(place % 5) * 600, Math.floor(place / 5) * 900];
            app.graph.add(node);
        });
    Object.assign(app.canvas.ds, { scale: 0.3, offset: [400, 400] });
    app.canvas.setDirty(true, true);
}"""
# What each node shows: in Nodes 2.0 elements, else what the canvas draws
SHOWN = """() => app.graph.nodes.map(node => {
    const rows = node.widgets.filter(widget => widget.name !== "advanced");
    const common = rows.filter(widget => !widget.options?.advanced);
    const slots = [node.inputs.filter(input => !input.widget), node.outputs];
    const element = document.querySelector(`[data-node-id='${node.id}']`);
    return {
        type: node.type,
        all: rows.length,
        common: common.length,
        texts: common.filter(widget => widget.element).length,
        slots: Math.max(...slots.map(each => each.length)),
        ...(LiteGraph.vueNodesMode ? {
            shown: element?.querySelectorAll("[data-testid=node-widget]").length ?? 0,
            height: element?.offsetHeight,
        } : {
            shown: rows.filter(widget => !widget.hidden).length,
            height: node.size[1],
        }),
    };
})"""


def wait_until_shown(page: browser.Page, which: str) -> None:
    """Until every node shows `all` its inputs, or the `common` ones; with no room below them."""
    page.page.wait_for_function(f"() => ({SHOWN})().every(node => node.shown === node.{which})")
    page.settle()
    for node in page.page.evaluate(SHOWN):
        rows = node["shown"] + node["slots"]
        assert node["height"] <= HEADER + ROW * rows + TEXT * node["texts"], node


def test_new_nodes_are_folded_and_as_high_as_their_rows(set_up):
    with browser.front_end(set_up.server.url) as page:
        page.page.evaluate(CREATE)
        types = page.page.evaluate("() => app.graph.nodes.map(node => node.type)")
        assert {"KontextTrainingSettings", "KontextLoadPairs"} <= set(types)
        wait_until_shown(page, "common")
        for which in ("all", "common"):
            for node_type in types:
                page.unfold(node_type)
            wait_until_shown(page, which)
