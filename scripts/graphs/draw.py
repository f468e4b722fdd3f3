"""Write `workflows/*.json`, by building each graph in ComfyUI's own page.

    .host/venv/bin/python scripts/graphs/draw.py [name …]

Needs an installed Chromium and what `scripts/test.py` sets up. A graph is rows of titled groups, a
group columns of nodes; places and sizes follow from that: a first sketch is opened in Nodes 2.0,
which draw nodes higher, and drawn again with room for these. Its picture: `thumbnails.py`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts/

import host as hosts
from browser import Page, front_end
from driver import Server
from graphs.captions import CAPTION_GRAPHS
from graphs.choosing import CHOOSING_GRAPHS
from graphs.dataset import DATASET_GRAPHS
from graphs.families import FAMILY_GRAPHS
from graphs.shipped import GRAPHS, Group
from graphs.style import STYLE_GRAPHS

WORKFLOWS = hosts.ROOT / "workflows"
PAGE_SIDE = Path(__file__).with_suffix(".js")


Graphs = dict[str, tuple[Group, ...]]


@contextmanager
def open_page(server: Server, vue: bool) -> Iterator[Page]:
    server.post("/settings", {"Comfy.VueNodes.Enabled": vue})
    with front_end(server.url, 3400, 2000) as opened:
        opened.page.add_script_tag(path=PAGE_SIDE)
        yield opened
        print(*opened.errors, sep="\n", flush=True)


def draw(server: Server, groups: tuple[Group, ...], heights: list[float]) -> dict[str, Any]:
    """Build the graph in a page of its own and return what the page would save."""
    arguments = [[asdict(group) for group in groups], heights]
    with open_page(server, vue=False) as page:
        page.page.evaluate("([groups, heights]) => build(groups, heights)", arguments)
        page.page.wait_for_timeout(500)
        workflow = page.page.evaluate("() => app.graph.serialize()")
    workflow["id"] = "00000000-0000-0000-0000-000000000000"
    workflow["extra"].pop("ds")  # where this page looked at it
    return without_nulls(workflow)


def without_nulls(value: Any) -> Any:
    """Drop the keys that the page writes without a value; links keep their nulls."""
    if isinstance(value, dict):
        kept = {k: without_nulls(v) for k, v in value.items() if v is not None or k == "link"}
        return {k: v for k, v in kept.items() if k != "localized_name"}
    if isinstance(value, list):
        return [without_nulls(v) for v in value]
    return value


def main() -> None:
    host = hosts.find_or_set_up(os.environ.get("COMFYUI_PATH"), None, tests=True)
    graphs: Graphs = GRAPHS | FAMILY_GRAPHS | CAPTION_GRAPHS | CHOOSING_GRAPHS | DATASET_GRAPHS
    graphs |= STYLE_GRAPHS
    graphs = {name: graphs[name] for name in sys.argv[1:] or graphs}
    with tempfile.TemporaryDirectory() as base, Server(host, Path(base)) as server:
        sketches = {name: draw(server, groups, []) for name, groups in graphs.items()}
        with open_page(server, vue=True) as page:
            heights = {
                name: page.page.evaluate("graph => measure(graph)", sketch)
                for name, sketch in sketches.items()
            }
        for name, groups in graphs.items():
            text = json.dumps(draw(server, groups, heights[name]), indent=1, ensure_ascii=False)
            (WORKFLOWS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
