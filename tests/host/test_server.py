"""The pack inside the real ComfyUI server."""


def test_server_loads_every_node_of_the_pack(server):
    import asyncio

    import kontext

    async def ids():
        extension = await kontext.comfy_entrypoint()
        return {node.define_schema().node_id for node in await extension.get_node_list()}

    assert asyncio.run(ids()) <= set(server.get("/object_info"))
    assert "IMPORT FAILED" not in server.log.read_text(encoding="utf-8")
