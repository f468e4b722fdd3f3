"""ComfyUI's progress bar, the text on its nodes, and events for its open pages."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from PIL import Image

from .names import comfy_module, optional

comfy_utils = comfy_module("comfy.utils")
memory = comfy_module("comfy.model_management")
execution = comfy_module("comfy_execution.utils")

SECONDS_BETWEEN = 0.25  # updates; ComfyUI's page redraws its nodes at each of them
STATUS = "kontext.status"  # an event: the text that a node shows until the next one

interrupt = optional(memory, "interrupt_current_processing", lambda: None)
throw_if_interrupted = optional(memory, "throw_exception_if_processing_interrupted", lambda: None)
executing_context = optional(execution, "get_executing_context", lambda: None)


def watched(hook: Callable[..., None] | None) -> None:
    """Call `hook` at every update of ComfyUI's progress bars; None ends that."""
    comfy_utils.set_progress_bar_global_hook(hook)


class NoBar:
    """In place of ComfyUI's progress bar, where it has none."""

    def __init__(self, total: int, node_id: str | None = None) -> None:
        self.total = total

    def update_absolute(self, value: int, preview: object = None) -> None:
        pass


class Progress:
    """ComfyUI's progress bar, node text and preview for one piece of work."""

    def __init__(self, total: int, node_id: str | None = None) -> None:
        self.bar = optional(comfy_utils, "ProgressBar", NoBar)(total, node_id=node_id)
        self.node_id = node_id
        self.standing: tuple[str, ...] = ()  # lines that stay below every text on the node
        self.last_text = self.last_move = 0.0

    def end_at(self, total: int) -> None:
        """Change the total."""
        self.bar.total = total

    def update(self, step: int, text: str = "", preview: Image.Image | None = None) -> None:
        """Show `step` of the total; raises Interrupted once the user presses Cancel."""
        throw_if_interrupted()
        ended, now = step == self.bar.total, time.monotonic()
        if ended or preview is not None or now - self.last_move > SECONDS_BETWEEN:
            self.last_move = now
            shown = ("JPEG", preview, 1024) if preview is not None else None
            self.bar.update_absolute(step, preview=shown)
        if text and (ended or now - self.last_text > SECONDS_BETWEEN):
            self.say(text)

    def say(self, text: str) -> None:
        """Put a line of text on the node."""
        self.last_text = time.monotonic()
        if self.node_id is None:
            logging.getLogger("kontext.progress").info(text)
        else:
            shown = "\n".join((text, *self.standing))
            tell_pages(STATUS, {"node": self.node_id, "text": shown})


def show_error(error: Exception) -> None:
    """Show the message of `error` on the node that is running, if a server runs one."""
    node = running_node()
    if node:
        text = str(error) or type(error).__name__
        tell_pages(STATUS, {"node": node, "text": text, "error": True})


def running_node() -> str | None:
    """The id of the node that a server is running."""
    context = executing_context()
    return context.node_id if context else None


def tell_pages(event: str, content: dict[str, Any]) -> None:
    """Send an event with JSON to every open page of ComfyUI.

    Its `workflow` is the id of the running graph, so that nodes of other graphs ignore it; empty if
    the graph has none, as from a script.
    """
    from server import PromptServer  # exists only once the server has been started

    server = PromptServer.instance
    server.send_sync(event, {**content, "workflow": running_workflow(server)})


def running_workflow(server: Any) -> str:
    running, _ = server.prompt_queue.get_current_queue_volatile()
    found = running[0][3] if running else None
    for name in ("extra_pnginfo", "workflow", "id"):  # a client may send anything under these
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, str) else ""
