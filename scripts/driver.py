"""Start, drive and stop a real ComfyUI server. Runs under ComfyUI's Python (needs aiohttp)."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp

import host as hosts

START_SECONDS = 300
STATUS = "kontext.status"  # trainer/host/progress.py
FOLDERS = ("custom_nodes", "models", "input", "output", "temp", "user")


class PromptError(hosts.Failure):
    """The server refused a graph, or a node of it failed."""


@dataclass(frozen=True)
class Event:
    """What the server tells its page while it works: `progress_state`, `executed`, …

    `text` is what a node of the pack says of its work.
    """

    kind: str
    content: dict[str, Any]


class Server:
    """A ComfyUI process with the pack in it, all of its folders under `base`."""

    def __init__(
        self, host: hosts.Host, base: Path, port: int | None = None, arguments: tuple[str, ...] = ()
    ) -> None:
        self.host, self.base, self.arguments = host, base, arguments
        self.port = free_port() if port is None else port
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = base / "comfyui.log"

    def __enter__(self) -> Server:
        for folder in FOLDERS:
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        example = self.host.comfyui / "input" / "example.png"  # what Load Image shows at first
        if example.exists():
            shutil.copy2(example, self.base / "input")
        hosts.copy_pack(self.base / "custom_nodes")
        if not is_free(self.port):
            raise hosts.SetupError(
                f"Port {self.port} is in use (another ComfyUI?): name another with --port, or "
                "leave it out to take any free one."
            )
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=60) as reply:
            return json.load(reply)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                text = reply.read()
        except urllib.error.HTTPError as error:
            raise PromptError(refusal(json.loads(error.read()))) from None
        return json.loads(text) if text else None

    def interrupt(self) -> None:
        """What the Cancel button does."""
        self.post("/interrupt", {})

    def loras(self) -> list[str]:
        """The names the stock LoRA loader offers now."""
        loader = self.get("/object_info/LoraLoaderModelOnly")["LoraLoaderModelOnly"]
        return loader["input"]["required"]["lora_name"][0]

    def run(
        self, prompt: dict[str, Any], watch: Callable[[Event], None] = lambda event: None
    ) -> dict[str, Any]:
        """Queue an API-form graph, pass its events to `watch`, return its history entry.

        Raises PromptError when a node fails. A cancelled graph returns, with
        `status.status_str == "error"` and an `execution_interrupted` message.
        """
        entry = asyncio.run(self._run(prompt, watch))
        for kind, message in entry["status"]["messages"]:
            if kind == "execution_error":
                raise PromptError(f"{message['node_type']}: {message['exception_message'].strip()}")
        return entry

    async def _run(self, prompt: dict[str, Any], watch: Callable[[Event], None]) -> dict[str, Any]:
        client = uuid4().hex
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{self.url}/ws?clientId={client}", max_msg_size=0) as page,
        ):
            queued = self.post("/prompt", {"prompt": prompt, "client_id": client})
            if queued["node_errors"]:  # the server would run the rest without these
                self.post("/queue", {"clear": True})
                self.interrupt()
                raise PromptError(refusal(queued))
            async for message in page:
                event = read_event(message)
                watch(event)
                ours = event.content.get("prompt_id") == queued["prompt_id"]
                if event.kind == "executing" and ours and event.content["node"] is None:
                    return self.get(f"/history/{queued['prompt_id']}")[queued["prompt_id"]]
        raise PromptError(f"ComfyUI stopped while it worked; its log is {self.log}.\n{self.tail()}")

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])

    def _start(self) -> None:
        command = [
            str(self.host.python), "-u", str(self.host.comfyui / "main.py"),
            "--listen", "127.0.0.1", "--port", str(self.port),
            "--base-directory", str(self.base), "--database-url", "sqlite:///:memory:",
            "--disable-api-nodes", *([] if self.host.gpu else ["--cpu"]), *self.arguments,
        ]  # fmt: skip
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                command, cwd=self.host.comfyui, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise hosts.SetupError(f"ComfyUI did not start ({self.log}):\n{self.tail()}")
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.3)
        raise hosts.SetupError(f"ComfyUI was not ready after {START_SECONDS} s; see {self.log}.")


def read_event(message: aiohttp.WSMessage) -> Event:
    """JSON messages as they are; of the binary ones, the fact of a preview."""
    if message.type == aiohttp.WSMsgType.TEXT:
        content = json.loads(message.data)
        kind = "text" if content["type"] == STATUS else content["type"]
        return Event(kind, content["data"])
    return Event("preview", {"bytes": len(message.data)})


def refusal(reply: dict[str, Any]) -> str:
    """The server's reasons for not queueing a graph, one line each."""
    lines = [reply.get("error", {}).get("message", "ComfyUI refused a part of the graph")]
    for node in reply.get("node_errors", {}).values():
        for error in node["errors"]:
            lines.append(f"{node['class_type']}: {error['message']}: {error['details']}")
    return "\n".join(lines)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
