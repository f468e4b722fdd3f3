import asyncio

import kontext


def test_every_node_is_described():
    extension = asyncio.run(kontext.comfy_entrypoint())
    for node in asyncio.run(extension.get_node_list()):
        schema = node.define_schema()
        assert schema.node_id.startswith("Kontext")
        assert schema.description and schema.search_aliases
        for entry in schema.inputs:
            assert entry.tooltip, f"{schema.node_id}.{entry.id} has no tooltip"
