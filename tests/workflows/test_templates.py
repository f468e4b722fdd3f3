"""The shipped graphs by the door that a new user takes: ComfyUI's template browser."""

import io
import json
import re
import urllib.request

from kontext.routes.files import WEB
from PIL import Image

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
    named = re.findall(r'"(\w+)"', text.partition("const ORDER")[2].partition("]")[0])
    assert {path.stem for path in GRAPHS} <= set(named) and named[0] == FIRST
