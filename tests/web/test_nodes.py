"""What the nodes show of their work, in every front end, while the demo model trains."""

import json
from pathlib import Path

import browser

GRAPH = Path(__file__).resolve().parents[2] / "workflows" / "train_kontext_lora.json"
FEW = dict(steps=30, save_every=10, more="preview_steps: 2", resolution=64, sampling_steps="2")
FEW |= dict(checkpoints="last", most_pictures=1)
TRAIN, COMPARE = "KontextTrainLora", "KontextCompareCheckpoints"

# How many points the training curve has at every change
RECORD = """() => {
    window.seen = [];
    new MutationObserver(() => {
        const curve = document.querySelector("[data-part=chart] path")?.getAttribute("d");
        if (curve) seen.push(curve.split("L").length);
    }).observe(document.body, { childList: true, subtree: true });
}"""


def wait_for_the_end(page, server) -> None:
    page.page.wait_for_timeout(1000)
    while any(server.get("/queue").values()):
        page.page.wait_for_timeout(300)
    page.page.wait_for_timeout(1000)


def test_a_node_shows_its_own_run_and_what_went_wrong(set_up):
    server, graph = set_up.server, json.loads(GRAPH.read_text(encoding="utf-8"))
    with browser.front_end(server.url) as page:
        page.open_graph(graph)
        page.set_widgets({"name": f"chart_{set_up.locale}", **FEW})
        page.look_at(TRAIN)
        page.page.evaluate(RECORD)
        page.run()
        chart = page.panel(TRAIN, "chart")
        chart.locator("svg").wait_for(state="attached", timeout=300_000)

        # another tab, with the same graph, is not about this run
        page.open_graph(graph)
        assert page.panel(TRAIN).count() == 0
        page.change_tab("Previous")
        chart.locator("svg").wait_for(state="attached", timeout=60_000)

        # a node that has finished keeps its chart, whole, and no preview in front of it
        wait_for_the_end(page, server)
        points = page.page.evaluate("seen")
        assert points == sorted(points) and points[0] < points[-1] == FEW["steps"]
        assert chart.locator("circle").count() == FEW["steps"] // FEW["save_every"]
        held_out = "验证损失 -" if set_up.chinese else "held-out -"
        assert held_out in chart.inner_text()
        assert page.pictures(TRAIN) == []
        page.look_at(COMPARE)  # the page loads the pictures of what it draws
        page.page.wait_for_timeout(2000)
        assert [source.partition("?")[0] for source in page.pictures(COMPARE)] == [
            f"{server.url}/api/view"
        ]

        # an error stands on the node it is of, and on no other tab's
        page.set_widgets({"rank": 3})
        page.run()
        wait_for_the_end(page, server)
        error = page.panel(TRAIN, "status").locator(".error").first
        assert f"chart_{set_up.locale}" in error.inner_text()
        assert "custom_nodes" not in error.inner_text()
        page.change_tab("Next")
        assert page.panel(TRAIN).count() == 0
        page.change_tab("Previous")
        assert error.is_visible()
