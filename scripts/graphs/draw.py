"""Write `workflows/*.json`, by building each graph in ComfyUI's own page.

    .host/venv/bin/python scripts/graphs/draw.py [name …]

Needs an installed Chromium and what `scripts/test.py` sets up. A graph is rows of titled groups, a
group a column of nodes; places and sizes follow from that. Its picture: `thumbnails.py`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
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


def draw(page: Page, groups: tuple[Group, ...]) -> dict[str, Any]:
    """Build the graph in the page and return what the page would save."""
    page.page.evaluate("groups => build(groups)", [asdict(group) for group in groups])
    page.page.wait_for_timeout(500)
    workflow = page.page.evaluate("() => app.graph.serialize()")
    workflow["id"] = "00000000-0000-0000-0000-000000000000"
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
    graphs = GRAPHS | FAMILY_GRAPHS | CAPTION_GRAPHS | CHOOSING_GRAPHS | DATASET_GRAPHS
    graphs |= STYLE_GRAPHS
    with tempfile.TemporaryDirectory() as base, Server(host, Path(base)) as server:
        for name in sys.argv[1:] or graphs:
            with front_end(server.url, 3400, 2000) as page:
                page.page.add_script_tag(path=PAGE_SIDE)
                workflow = draw(page, graphs[name])
                text = json.dumps(workflow, indent=1, ensure_ascii=False)
                (WORKFLOWS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
                print(name, *(e for e in page.errors), sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
