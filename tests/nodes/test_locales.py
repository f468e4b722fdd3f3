"""The nodes in Chinese, and their help pages in both languages."""

import asyncio
import json
import urllib.request
from pathlib import Path

import kontext
import pytest
from comfy_api.latest import io

ROOT = Path(kontext.__file__).parent
CHINESE = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
# vue-i18n reads these as placeholders, links and plurals, and the front end drops the text
MESSAGE_SYNTAX = frozenset("{}@|")


async def schemas() -> list[io.Schema]:
    extension = await kontext.comfy_entrypoint()
    return [node.define_schema() for node in await extension.get_node_list()]


SCHEMAS = asyncio.run(schemas())
every_node = pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.node_id)


def texts(entry: dict | str) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    return [text for inner in entry.values() for text in texts(inner)]


@every_node
def test_every_word_of_a_node_is_translated(schema):
    """Name, description, each input's name and tooltip, each output's name, and no other entry."""
    chinese = CHINESE[schema.node_id]
    assert chinese["display_name"] and chinese["description"]
    inputs = chinese.get("inputs", {})
    assert list(inputs) == [entry.id for entry in schema.inputs]
    for name, entry in inputs.items():
        assert entry["name"] and entry["tooltip"], f"{schema.node_id}.{name}"
    outputs = chinese["outputs"]
    assert list(outputs) == [str(place) for place in range(len(schema.outputs))]
    for place, output in enumerate(schema.outputs):
        assert outputs[str(place)]["name"]
        assert bool(outputs[str(place)].get("tooltip")) == bool(output.tooltip)


def test_no_translation_is_left_of_a_node_that_is_gone():
    assert set(CHINESE) <= {schema.node_id for schema in SCHEMAS}


@every_node
def test_the_front_end_shows_a_translation_as_it_is_written(schema):
    for text in texts(CHINESE[schema.node_id]):
        assert not MESSAGE_SYNTAX & set(text), text


@every_node
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_node_has_a_help_page(schema, language):
    """Titled as the node is in that language, so that a renamed node renames its page."""
    page = ROOT / "web" / "docs" / schema.node_id / f"{language}.md"
    title = page.read_text(encoding="utf-8").splitlines()[0]
    name = schema.display_name if language == "en" else CHINESE[schema.node_id]["display_name"]
    assert title == f"# {name}"


def test_the_server_hands_out_translations_and_help(server):
    assert CHINESE.items() <= server.get("/i18n")["zh"]["nodeDefs"].items()
    page = "extensions/kontext-lora-trainer/docs/KontextTrainLora/zh.md"
    with urllib.request.urlopen(f"{server.url}/{page}") as reply:
        assert reply.read() == (ROOT / "web" / "docs" / "KontextTrainLora" / "zh.md").read_bytes()
