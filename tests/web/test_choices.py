"""In Chinese the values of a choice read Chinese everywhere; what is saved stays English."""

import json

import pytest

import browser
from host import ROOT

NODE, INPUT = "KontextTrainingSettings", "timesteps"
WORDS = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
CHINESE = WORDS[NODE]["inputs"][INPUT]

# A graph of this node only; on the classic canvas with this input just above its lower edge
ALONE = """async ([type, input]) => {
    app.graph.clear();
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    const {ds, canvas} = app.canvas;
    ds.scale = 1;
    ds.offset = [500, 200];
    app.canvas.draw(true, true);
    await new Promise(done => setTimeout(done, 1000));
    const widget = node.widgets.find(({name}) => name === input);
    const box = canvas.getBoundingClientRect();
    if (!LiteGraph.vueNodesMode) ds.offset[1] = box.height - 60 - node.pos[1] - widget.last_y;
    app.canvas.draw(true, true);
    return [500 + node.pos[0] + node.size[0] / 2 + box.x, box.height - 50 + box.y];
}"""
FIND = "app.graph.nodes[0].widgets.find(({name}) => name === input)"


@pytest.mark.parametrize("locale", ["zh", "en"])
def test_values_read_in_the_language_of_the_page(set_up, locale):
    set_up.server.post("/settings", {"Comfy.Locale": locale})
    shown = CHINESE["options"] if locale == "zh" else {value: value for value in CHINESE["options"]}
    name = CHINESE["name"] if locale == "zh" else INPUT
    with browser.front_end(set_up.server.url) as opened:
        page = opened.page
        page.set_default_timeout(60_000)
        place = page.evaluate(ALONE, [NODE, INPUT])
        choice = page.get_by_role("combobox", name=name, exact=True)

        def closed() -> str:
            if set_up.vue:
                return choice.inner_text()
            return page.evaluate(f"input => {FIND}._displayValue", INPUT)

        assert closed() == shown["balanced"]
        if set_up.vue:
            choice.click()
            lines = page.get_by_role("option")
        else:
            page.mouse.click(*place)
            lines = page.locator(".litecontextmenu .litemenu-entry")
        lines.last.wait_for()
        assert [line.strip() for line in lines.all_inner_texts()] == list(shown.values())
        if locale == "zh":  # in English it is ComfyUI's own list
            last = lines.last.bounding_box()
            assert last["y"] + last["height"] <= page.viewport_size["height"]
        lines.nth(list(shown).index("detail")).click()
        lines.last.wait_for(state="detached")

        assert closed() == shown["detail"]
        (node,) = opened.api_form().values()
        assert node["inputs"][INPUT] == "detail"
        assert "detail" in page.evaluate("app.graph.serialize().nodes[0].widgets_values")
