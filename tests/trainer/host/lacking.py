"""In a process of its own: the pack in a ComfyUI that lacks something. Prints what happens."""

import asyncio
import json
import logging
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "scripts"))
import boot  # noqa: E402


def take_out(name: str) -> None:
    """Remove a module, or a name in one, as if this ComfyUI did not have it."""
    import importlib

    owner, _, last = name.rpartition(".")
    module = importlib.import_module(owner)
    if f"{owner}.{last}" in sys.modules or not hasattr(module, last):
        sys.modules[name] = None  # importing it raises ImportError
    if hasattr(module, last):
        delattr(module, last)


def main(comfyui: Path, missing: list[str]) -> None:
    said: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger().addHandler(handler)
    import_pack, boot.import_pack = boot.import_pack, lambda: None
    boot.boot(comfyui, Path(tempfile.mkdtemp()))
    import comfy.sd  # noqa: F401  what ComfyUI itself needs of it is loaded by now
    import comfy_api.latest  # noqa: F401

    for name in missing:
        take_out(name)
    import_pack()
    import kontext

    extension = asyncio.run(kontext.comfy_entrypoint())
    nodes = {node.define_schema().node_id: node for node in asyncio.run(extension.get_node_list())}
    from kontext.trainer import host
    from kontext.trainer.host.sharing import SHIPPED

    host.report_missing()
    try:
        host.require_names()
        stopped = ""
    except host.HostError as error:
        stopped = str(error)
    folders = {"control_folder": str(SHIPPED / "before"), "target_folder": str(SHIPPED / "after")}
    inputs = nodes["KontextLoadPairs"].define_schema().inputs
    loaded = nodes["KontextLoadPairs"].execute(
        **{each.id: each.default for each in inputs} | folders
    )
    report = {"nodes": sorted(nodes), "said": said, "stopped": stopped, "loaded": loaded.args[2]}
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
