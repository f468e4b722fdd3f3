"""The shipped graphs by the door that a new user takes: ComfyUI's template browser."""

import io
import json
import urllib.request

from PIL import Image

import browser
from host import PACK_FOLDER

from .test_workflows import FIRST, GRAPHS, each_graph, needs_browser

TEMPLATES = f"/api/workflow_templates/{PACK_FOLDER}"


def served(server, path: str) -> bytes:
    with urllib.request.urlopen(server.url + path, timeout=60) as reply:
        return reply.read()


def test_every_graph_is_listed(server):
    listed = server.get("/api/workflow_templates")[PACK_FOLDER]
    assert sorted(listed) == sorted(path.stem for path in GRAPHS)


@each_graph
def test_a_graph_and_its_picture_are_served(server, path):
    graph = json.loads(served(server, f"{TEMPLATES}/{path.stem}.json"))
    assert graph == json.loads(path.read_text(encoding="utf-8"))
    picture = Image.open(io.BytesIO(served(server, f"{TEMPLATES}/{path.stem}.jpg")))
    assert picture.width >= 600


@needs_browser
def test_a_click_opens_the_training_graph_and_it_runs(server):
    with browser.front_end(server.url) as page:
        page.open_template(PACK_FOLDER, FIRST)
        assert page.red_nodes() == []
        page.set_widgets({"name": "template", "steps": 4, "save_every": 2, "sampling_steps": "2"})
        page.run()
        page.page.wait_for_timeout(1000)
        while any(server.get("/queue").values()):
            page.page.wait_for_timeout(300)
    newest = max(server.get("/history").values(), key=lambda entry: entry["prompt"][0])
    assert newest["status"]["status_str"] == "success"
    assert "template_000004.safetensors" in " ".join(server.loras())
