"""Boots ComfyUI's modules on the CPU and imports the pack under the name `kontext`."""

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMFYUI = Path(os.environ.get("COMFYUI_PATH", ROOT / ".host" / "ComfyUI"))


def boot_comfyui() -> None:
    """Import ComfyUI in this process, with its folders in a temporary place."""
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
