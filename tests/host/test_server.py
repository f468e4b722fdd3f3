"""The pack inside the real ComfyUI server."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

import driver
import host

OLDEST = Path(os.environ.get("COMFYUI_OLDEST_PATH", host.OLDEST_COMFYUI.folder))


def node_ids() -> set[str]:
    import kontext

    async def ids() -> set[str]:
        extension = await kontext.comfy_entrypoint()
        return {node.define_schema().node_id for node in await extension.get_node_list()}

    return asyncio.run(ids())


def test_every_node_is_there(server):
    assert node_ids() <= set(server.get("/object_info"))


@pytest.mark.skipif(not OLDEST.exists(), reason=f"no ComfyUI {host.OLDEST_COMFYUI.version} here")
def test_every_node_is_there_in_the_oldest_comfyui(tmp_path):
    old = host.Host(OLDEST, Path(sys.executable), gpu=False)
    with driver.Server(old, tmp_path) as server:
        assert node_ids() <= set(server.get("/object_info"))


def test_a_busy_port_is_named(server, tmp_path):
    with pytest.raises(host.SetupError, match=f"Port {server.port} is in use"):
        driver.Server(server.host, tmp_path, port=server.port).__enter__()
