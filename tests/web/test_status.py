"""What ComfyUI tells only behind a button stands on the node."""

import json

import browser
from host import ROOT

TRAIN = "KontextTrainLora"
BLOCKED = """type => window.comfyAPI.api.api.dispatchCustomEvent("execution_error", {
    node_id: `${app.graph.nodes.find(node => node.type === type).id}`,
    node_type: type,
    exception_type: "ExecutionBlocked",
    exception_message: "Execution Blocked: only one pair",
    traceback: [],
})"""


def test_a_node_that_another_one_stops_says_why(set_up):
    graph = (ROOT / "workflows" / "train_kontext_lora.json").read_text(encoding="utf-8")
    with browser.front_end(set_up.server.url) as opened:
        opened.open_graph(json.loads(graph))
        opened.page.evaluate(BLOCKED, TRAIN)
        said = opened.panel(TRAIN, "status").locator(".error")
        said.wait_for(state="attached")
        assert said.inner_text() == "only one pair"
