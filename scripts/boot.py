"""ComfyUI and the pack, imported into a script's own process."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def boot(comfyui: Path, base: Path, device: str = "cpu") -> None:
    """Make ComfyUI importable, its folders below `base`, and the pack as `kontext`."""
    sys.path.insert(0, str(comfyui))
    for folder in ("models", "input", "output", "temp", "user", "custom_nodes"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    arguments, sys.argv = sys.argv, ["main.py", "--base-directory", str(base)]
    if device == "cpu":
        sys.argv.append("--cpu")
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args  # noqa: F401  parses sys.argv once, at import

    sys.argv = arguments
    import_pack()


def import_pack() -> None:
    """The pack, as `kontext`; ComfyUI names a pack by its folder."""
    spec = importlib.util.spec_from_file_location(
        "kontext", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    pack = importlib.util.module_from_spec(spec)
    sys.modules["kontext"] = pack
    spec.loader.exec_module(pack)
