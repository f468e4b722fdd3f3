"""The servers of the tests, and the front ends in which ComfyUI's own page is tried.

Whatever looks at that page takes `set_up`. The pack's pages under /kontext are the same in every
front end: their tests take `server`, once.
"""

import http.client
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

import browser
import host
from driver import Server

NEWEST = Path(os.environ.get("FRONT_END_PATH", host.NEWEST_FRONT_END))

SET_UPS = {
    # front end, Nodes 2.0, language
    "classic": ("1.47.12", False, "en"),
    "nodes 2.0": ("1.47.12", True, "zh"),
    "1.58": ("1.58.1", True, "en"),
}
ALL_SET_UPS = SET_UPS | {
    f"{name} {other}": (version, vue, other)
    for name, (version, vue, locale) in SET_UPS.items()
    for other in ({"en": "zh", "zh": "en"}[locale],)
}
in_both_languages = pytest.mark.parametrize("set_up", ALL_SET_UPS, indirect=True)


@dataclass(frozen=True)
class SetUp:
    """A server whose page opens in one front end, one mode and one language."""

    name: str
    server: Server
    vue: bool
    locale: str

    def say(self, english: str, chinese: str) -> str:
        """What stands on the page of two texts."""
        return chinese if self.locale == "zh" else english


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """A function: the real ComfyUI with the pack in it, on the CPU, until the tests are done."""
    from .conftest import COMFYUI
    from .families.miniatures import put_sizes

    with ExitStack() as running:

        def start(name: str, *arguments: str) -> Server:
            here = host.Host(COMFYUI, Path(sys.executable), gpu=False)
            base = tmp_path_factory.mktemp(name)
            put_sizes(base / "custom_nodes")
            return running.enter_context(Server(here, base, arguments=arguments))

        yield start


@pytest.fixture(scope="session")
def server(start_server) -> Server:
    """One server for all tests, with the front end that this ComfyUI brings."""
    return start_server("comfyui")


@pytest.fixture(scope="session")
def newest_server(start_server) -> Server:
    """Another one with the newest front end, which `scripts/host.py` downloads."""
    if not NEWEST.exists():
        pytest.skip(f"no front end in {NEWEST}")
    return start_server("newest", "--front-end-root", str(NEWEST))


@pytest.fixture(params=SET_UPS)
def set_up(request: pytest.FixtureRequest) -> Iterator[SetUp]:
    """A server whose page opens in one of the three ways."""
    if browser.find_browser() is None:
        pytest.skip("browser: no Chromium, Chrome or Edge found")
    version, vue, locale = ALL_SET_UPS[request.param]
    name = "newest_server" if version == "1.58.1" else "server"
    server = request.getfixturevalue(name)
    server.post("/settings", {"Comfy.VueNodes.Enabled": vue, "Comfy.Locale": locale})
    yield SetUp(request.param, server, vue, locale)
    server.post("/settings", {"Comfy.VueNodes.Enabled": False, "Comfy.Locale": "en"})


@pytest.fixture
def ask(server):
    """A function: status, headers and body of a request whose address is sent as it is."""

    def send(path, method="GET", body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        reply = connection.getresponse()
        found = reply.status, reply.headers, reply.read()
        connection.close()
        return found

    return send
