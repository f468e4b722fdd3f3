"""How quickly the page of 20,000 pairs opens and scrolls: a real server, a real browser.

    python scripts/benchmark/pairs_page.py [--pairs 20000] [--side 512]

Prints the time to the first picture, how long pairs are blank while one scrolls (median and the
worst twentieth), and what the page holds in memory before and after.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import api_form
import browser
import host as hosts
from driver import Server

DIFFERENT = 64  # pictures that are not alike; the others are copies under other names
WHEEL, PAUSE, TURNS = 240, 100, 150  # pixels, ms between two turns of the wheel, turns

# For each pair: when it came into view, and when its picture was there
WATCH = """() => {
    window.blanks = [];
    const since = new Map();
    const look = () => {
        const now = performance.now(), { top, bottom } = grid.getBoundingClientRect();
        for (const cell of document.querySelectorAll(".pair")) {
            const box = cell.getBoundingClientRect(), { number } = cell.dataset;
            if (box.bottom < top || box.top > bottom || since.get(number) === -1) continue;
            if (!since.has(number)) since.set(number, now);
            if (cell.querySelector(".there")) {
                blanks.push(now - since.get(number));
                since.set(number, -1);
            }
        }
        window.left = [...since.values()].filter((each) => each !== -1).length;
        requestAnimationFrame(look);
    };
    look();
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    hosts.add_arguments(parser)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=512, help="of the pictures, in pixels")
    asked = parser.parse_args()
    here = hosts.find_or_set_up(asked.comfyui, asked.python)
    with tempfile.TemporaryDirectory() as folder:
        write_pairs(Path(folder) / "many", asked.pairs, asked.side)
        with Server(here, Path(folder) / "server") as server:
            address = f"{server.url}/kontext/pairs/{load(server, Path(folder) / 'many')}"
            measure(address)


def write_pairs(folder: Path, count: int, side: int) -> None:
    """JPEGs with a caption each; most are copies, which a server cannot know."""
    rng = np.random.default_rng(0)
    for name, brightness in (("before", 0), ("after", 60)):
        (folder / name).mkdir(parents=True)
        contents = []
        for _ in range(min(DIFFERENT, count)):
            small = Image.fromarray(
                rng.integers(brightness, 195 + brightness, (32, 32, 3), np.uint8)
            )
            buffer = io.BytesIO()
            small.resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
            contents.append(buffer.getvalue())
        for number in range(count):
            path = folder / name / f"picture_{number:05d}.jpg"
            path.write_bytes(contents[number % DIFFERENT])
            if name == "after":
                path.with_suffix(".txt").write_text(f"Clean it. a ring, number {number}", "utf-8")


def load(server: Server, folder: Path) -> str:
    """Run the Load node; the id of its page."""
    sides = {"control_folder": str(folder / "before"), "target_folder": str(folder / "after")}
    prompt = {
        "1": {"class_type": "KontextLoadPairs", "inputs": {**sides, "holdout": 0, "preview": 0}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 2]}},
    }
    entry = server.run(api_form.with_defaults(prompt, server.get("/object_info")))
    return entry["outputs"]["1"]["kontext_pairs"][0]


def measure(address: str) -> None:
    with browser.any_page("about:blank", 1366, 768) as opened:
        page = opened.page
        began = time.perf_counter()
        page.goto(address, wait_until="commit")
        page.wait_for_selector(".pair .there", state="attached")
        print(f"first picture after {time.perf_counter() - began:.2f} s")
        page.wait_for_timeout(3000)
        for layout in ("captions", "pictures"):
            page.click(f"[data-layout={layout}]")
            page.wait_for_timeout(2000)
            before = held(page)
            page.evaluate(WATCH)
            page.mouse.move(600, 500)
            for _ in range(TURNS):
                page.mouse.wheel(0, WHEEL)
                page.wait_for_timeout(PAUSE)
            page.wait_for_timeout(1500)
            blanks = np.array(page.evaluate("blanks"))
            late = page.evaluate("window.left")
            print(
                f"{layout}: {len(blanks)} pairs came into view, blank for "
                f"{np.median(blanks):.0f} ms (median), {np.percentile(blanks, 95):.0f} ms (95 %), "
                f"{late} passed unseen; "
                f"memory {before} → {held(page)}"
            )
            page.evaluate("window.blanks = []; grid.scrollTop = 0")
        began = time.perf_counter()
        page.evaluate("grid.scrollTop = grid.scrollHeight / 2")
        page.wait_for_function(
            """() => [...document.querySelectorAll(".pair")].filter(cell => {
                const { top, bottom } = cell.getBoundingClientRect();
                return bottom > 200 && top < innerHeight;
            }).every(cell => cell.querySelector(".there"))"""
        )
        print(f"all in view {time.perf_counter() - began:.2f} s after a jump to the middle")


def held(page) -> str:
    """Scripts' memory after a collection, elements and pairs in the page."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
    return f"{metrics['JSHeapUsedSize'] / 1e6:.0f} MB, {metrics['Nodes']:.0f} nodes"


if __name__ == "__main__":
    main()
