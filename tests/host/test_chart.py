"""The chart of a run in its node, in the real front end, while the demo model trains."""

import json
from pathlib import Path

import pytest

import browser

GRAPH = Path(__file__).resolve().parents[2] / "workflows" / "train_kontext_lora.json"
FEW = dict(steps=30, save_every=10, preview_steps=0, resolution=64, sampling_steps="2")

pytestmark = pytest.mark.skipif(
    browser.find_browser() is None, reason="browser: no Chromium, Chrome or Edge found"
)

# How many points the training curve has, and what is written beside it, at every change
RECORD = """() => {
    window.seen = [];
    new MutationObserver(() => {
        const chart = document.querySelector(".kontext-chart");
        const curve = chart?.querySelector("path")?.getAttribute("d");
        if (curve) seen.push([curve.split("L").length, chart.innerText]);
    }).observe(document.body, { childList: true, subtree: true });
}"""


@pytest.mark.parametrize("nodes", ["classic", "vue"])
def test_the_chart_grows_while_training_and_makes_room_for_the_plot(nodes, server):
    server.post("/settings", {"Comfy.VueNodes.Enabled": nodes == "vue"})
    with browser.front_end(server.url) as page:
        page.open_graph(json.loads(GRAPH.read_text(encoding="utf-8")))
        page.set_widgets({"name": f"chart_{nodes}", **FEW})
        page.look_at("KontextTrainLora")
        page.page.evaluate(RECORD)
        page.run()
        page.page.wait_for_selector(".kontext-chart svg", state="attached", timeout=300_000)
        page.page.wait_for_selector(".kontext-chart", state="detached", timeout=300_000)
        server.interrupt()
        seen = page.page.evaluate("seen")
        widgets = page.page.evaluate(
            "app.graph.nodes.find(n => n.type === 'KontextTrainLora').widgets.map(w => w.name)"
        )
    server.post("/settings", {"Comfy.VueNodes.Enabled": False})
    points = [count for count, _ in seen]
    assert points == sorted(points) and points[0] < points[-1] == 30
    assert "held-out -" in seen[-1][1] and "Too early to say: 30 steps" in seen[-1][1]
    assert "kontext_chart" not in widgets
