"""The shipped graphs by the door that a new user takes: ComfyUI's template browser."""

import io
import json
import re
import urllib.request

from kontext.routes.files import WEB
from PIL import Image

import browser
from host import PACK_FOLDER

from .test_workflows import FIRST, GRAPHS, each_graph

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


def test_every_graph_has_its_place_in_the_browser():
    """`web/templates.js` puts them in the order of the work."""
    text = (WEB / "templates.js").read_text(encoding="utf-8")
    named = re.findall(r'"(\w+_\w+)"', text.partition("const STAGES")[2].partition("];")[0])
    assert sorted(named) == sorted(path.stem for path in GRAPHS) and named[0] == FIRST


def test_the_browser_shows_where_to_begin(set_up):
    """Titles in the order of the work; each has its picture."""
    texts = [("1 Train", "1 训练"), ("2 Choose", "2 选择"), ("3 Use", "3 使用")]
    stages = [set_up.say(english, chinese) for english, chinese in texts]
    with browser.front_end(set_up.server.url) as page:
        page.list_templates(PACK_FOLDER)
        cards = page.page.locator("[data-testid^='template-workflow-']")
        cards.first.locator("img").first.wait_for()
        titles = [card.get_attribute("data-testid") for card in cards.all()]
        assert titles[0] == f"template-workflow-{stages[0]} · {FIRST}"
        shown = [title.partition(" · ")[0].removeprefix("template-workflow-") for title in titles]
        assert list(dict.fromkeys(shown))[:3] == stages
        page.page.wait_for_function(
            """() => [...document.querySelectorAll("[data-testid^='template-workflow-'] img")]
                .every(image => image.naturalWidth >= 600)"""
        )
