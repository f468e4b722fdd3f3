"""The front ends in which the pack's nodes are tried, each with ComfyUI's page in one language."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import browser
import host
from driver import Server

from ..conftest import COMFYUI

NEWEST = Path(os.environ.get("FRONT_END_PATH", host.NEWEST_FRONT_END))

SET_UPS = {
    # front end, Nodes 2.0, language
    "classic": ("1.47.12", False, "en"),
    "nodes 2.0": ("1.47.12", True, "zh"),
    "1.58": ("1.58.1", True, "en"),
}
if os.environ.get("KONTEXT_ALL_WALKS"):
    SET_UPS |= {
        f"{name} {other}": (version, vue, other)
        for name, (version, vue, locale) in SET_UPS.items()
        for other in ({"en": "zh", "zh": "en"}[locale],)
    }


@dataclass(frozen=True)
class SetUp:
    name: str
    server: Server
    vue: bool
    locale: str

    @property
    def chinese(self) -> bool:
        return self.locale == "zh"


@pytest.fixture(scope="session")
def newest_server(tmp_path_factory) -> Iterator[Server]:
    """The real server with the newest front end, which `scripts/host.py` downloads."""
    if not NEWEST.exists():
        pytest.skip(f"no front end in {NEWEST}")
    here = host.Host(COMFYUI, Path(sys.executable), gpu=False)
    root = ("--front-end-root", str(NEWEST))
    with Server(here, tmp_path_factory.mktemp("newest"), arguments=root) as running:
        yield running


@pytest.fixture(params=SET_UPS)
def set_up(request) -> Iterator[SetUp]:
    """A server whose page opens in one of the three ways."""
    if browser.find_browser() is None:
        pytest.skip("browser: no Chromium, Chrome or Edge found")
    version, vue, locale = SET_UPS[request.param]
    name = "newest_server" if version == "1.58.1" else "server"
    server = request.getfixturevalue(name)
    server.post("/settings", {"Comfy.VueNodes.Enabled": vue, "Comfy.Locale": locale})
    yield SetUp(request.param, server, vue, locale)
    server.post("/settings", {"Comfy.VueNodes.Enabled": False, "Comfy.Locale": "en"})
