"""Boots ComfyUI's modules on the CPU and imports the pack under the name `kontext`."""

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("the same examples each time", derandomize=True)
hypothesis.settings.load_profile("the same examples each time")
ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "scripts"))
COMFYUI = Path(os.environ.get("COMFYUI_PATH", ROOT / ".host" / "ComfyUI"))


def boot_comfyui() -> None:
    """Import ComfyUI in this process, with its folders in a temporary place."""
    if not (COMFYUI / "main.py").exists():
        pytest.exit(f"No ComfyUI in {COMFYUI}: run scripts/test.py, or set COMFYUI_PATH.", 4)
    base = Path(tempfile.mkdtemp(prefix="kontext-tests-"))
    for folder in ("models", "input", "output", "temp", "user", "custom_nodes"):
        (base / folder).mkdir()
    sys.path.insert(0, str(COMFYUI))
    arguments, sys.argv = sys.argv, ["main.py", "--cpu", "--base-directory", str(base)]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args  # noqa: F401  parses sys.argv once, at import

    sys.argv = arguments


def import_pack() -> None:
    """ComfyUI imports a pack by its folder; the tests give that folder a fixed name."""
    spec = importlib.util.spec_from_file_location(
        "kontext", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    pack = importlib.util.module_from_spec(spec)
    sys.modules["kontext"] = pack
    spec.loader.exec_module(pack)


boot_comfyui()
import_pack()

from .servers import ask, newest_server, server, set_up, start_server  # noqa: E402, F401


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever needs a server is slow; whatever is skipped without a browser needs one."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & {"server", "newest_server", "set_up"}:
            item.add_marker("slow")
        if "set_up" in fixtures:
            item.add_marker("browser")
        reasons = [mark.kwargs.get("reason", "") for mark in item.iter_markers("skipif")]
        if any(reason.startswith("browser: ") for reason in reasons):
            item.add_marker("browser")
    # side by side, the files that take longest must not come last
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_terminal_summary(terminalreporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if any("browser: " in str(report.longrepr) for report in skipped):
        terminalreporter.section("BROWSER TESTS WERE NOT RUN: no Chromium, Chrome or Edge found")
