"""ComfyUI's page in a headless browser. Runs under ComfyUI's Python (needs playwright)."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "msedge")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    r"%ProgramFiles%\Google\Chrome\Application\chrome.exe",
    r"%ProgramFiles(x86)%\Microsoft\Edge\Application\msedge.exe",
    r"%ProgramFiles%\Microsoft\Edge\Application\msedge.exe",
)
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip

SECONDS = 90  # other tests may run beside this one
OPEN_WORKFLOW = "app.extensionManager?.workflow?.activeWorkflow"


def find_browser() -> str | None:
    """An installed Chromium, Chrome or Edge."""
    on_path = [shutil.which(command) for command in COMMANDS]
    elsewhere = [os.path.expandvars(place) for place in PLACES]
    return next((p for p in (*on_path, *elsewhere) if p and Path(p).exists()), None)


class Page:
    """The page with a graph on it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._note)

    def _note(self, message: Any) -> None:
        if message.type == "error":
            place = message.location.get("url", "")
            self.errors.append(f"{message.text} {place}".replace(self.page.url, "/"))

    def open_graph(self, workflow: dict[str, Any]) -> None:
        """What dragging the file onto the page does."""
        self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        self.settle()

    def open_template(self, pack: str, name: str) -> None:
        """Click one of a pack's graphs in the template browser."""
        self.list_templates(pack)
        self.page.evaluate(f"() => window.before = {OPEN_WORKFLOW}")
        self.page.locator(f"[data-testid^='template-workflow-'][data-testid$=' {name}']").click()
        self.page.wait_for_function(f"() => {OPEN_WORKFLOW} !== before")
        self.page.get_by_test_id("template-workflows-content").wait_for(state="detached")
        self.settle()

    def list_templates(self, pack: str) -> None:
        """Open the template browser at a pack's graphs."""
        self.page.locator(".templates-tab-button").click()
        self.page.get_by_role("button", name=pack, exact=True).click()

    def set_widgets(self, values: dict[str, Any]) -> None:
        """Set widgets by name, in whichever node has them."""
        self.page.evaluate(
            """values => {
                for (const node of app.graph.nodes) for (const widget of node.widgets ?? [])
                    if (widget.name in values) {
                        widget.value = values[widget.name];
                        widget.callback?.(widget.value);
                    }
            }""",
            values,
        )

    def run(self) -> None:
        """Press Run."""
        self.page.evaluate("() => app.queuePrompt(0)")

    def look_at(self, node_type: str) -> None:
        """Bring the first node of this type into view."""
        self.page.evaluate(
            "type => app.canvas.centerOnNode(app.graph.nodes.find(n => n.type === type))",
            node_type,
        )

    def press(self, name: str) -> None:
        """Click a button of ComfyUI's own, by its English or Chinese name."""
        self.page.get_by_role("button", name=re.compile(name)).first.click()

    def press_button(self, node_type: str, name: str) -> None:
        """Click a button of the first node of this type, which must be in view."""
        label, place = self.page.evaluate(
            """([type, name]) => {
                const node = app.graph.nodes.find(n => n.type === type);
                const button = node.widgets.find(w => w.name === name);
                if (LiteGraph.vueNodesMode) return [button.label, node.id];
                const {scale, offset} = app.canvas.ds;
                const box = app.canvas.canvas.getBoundingClientRect();
                const place = [node.pos[0] + node.size[0] / 2, node.pos[1] + button.last_y + 10];
                return ["", [0, 1].map(i => (place[i] + offset[i]) * scale + [box.x, box.y][i])];
            }""",
            [node_type, name],
        )
        if label:  # in Nodes 2.0 it is an element
            self.page.locator(f"[data-node-id='{place}'] button", has_text=label).click()
        else:
            self.page.mouse.click(*place)

    def unfold(self, node_type: str) -> None:
        """Click the button that shows or folds the advanced inputs of a node in view."""
        folds = self.page.evaluate(
            "type => LiteGraph.vueNodesMode && app.graph.nodes.find(n => n.type === type).id",
            node_type,
        )
        if folds is False:
            self.press_button(node_type, "advanced")
        else:
            button = "[data-testid=advanced-inputs-button]"
            self.page.locator(f"[data-node-id='{folds}'] {button}").click()

    def change_tab(self, direction: str) -> None:
        """Go to the `Previous` or `Next` of the graphs that are open."""
        command = f"Workspace.{direction}OpenedWorkflow"
        self.page.evaluate("id => app.extensionManager.command.execute(id)", command)
        self.settle()

    def settle(self) -> None:
        """Wait until the page has drawn what it was told and has nothing else to do."""
        self.page.evaluate(
            """() => new Promise(done =>
                requestAnimationFrame(() => requestIdleCallback(done, { timeout: 10000 })))"""
        )

    def panel(self, node_type: str, part: str = "") -> Any:
        """What a node of the pack of this type shows of its work: `status` or `chart`."""
        panel = self.page.locator(f".kontext-panel[data-type={node_type}]")
        return panel.locator(f"[data-part={part}]") if part else panel

    def wait_for_pictures(self, node_type: str, addresses: list[str]) -> None:
        """Until the canvas shows pictures from these addresses in the nodes of this type."""
        self.page.wait_for_function(
            """([type, addresses]) => app.graph.nodes.filter(n => n.type === type)
                .flatMap(n => (n.imgs ?? []).map(image => image.src.split("?")[0]))
                .join() === addresses.join()""",
            arg=[node_type, addresses],
        )

    def red_nodes(self) -> list[str]:
        """Nodes of an unknown type, and those the page marks as faulty."""
        return self.page.evaluate(
            """() => app.graph.nodes
                .filter(n => n.has_errors || !(n.type in LiteGraph.registered_node_types)
                    && !["Note", "MarkdownNote", "Reroute", "PrimitiveNode"].includes(n.type))
                .map(n => n.type)"""
        )

    def api_form(self) -> dict[str, Any]:
        """The page's own conversion of the open graph to what the queue takes."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")


@contextmanager
def front_end(url: str, width: int = 1600, height: int = 900) -> Iterator[Page]:
    """Open ComfyUI's page and wait until its graph is there."""
    with any_page("about:blank", width, height) as opened:
        page = opened.page
        # else a first visit opens the template browser
        page.request.post(f"{url}/settings/Comfy.TutorialCompleted", data="true")
        page.goto(url)
        page.wait_for_function(f"() => window.app?.graph && {OPEN_WORKFLOW}")
        opened.settle()
        yield opened


@contextmanager
def any_page(url: str, width: int = 1600, height: int = 900) -> Iterator[Page]:
    """Open a page of the server, the pack's own for example."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=list(FLAGS))
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(SECONDS * 1000)
            opened = Page(page)
            page.goto(url)
            yield opened
        finally:
            browser.close()
