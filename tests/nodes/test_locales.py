"""The nodes in Chinese, and their help pages in both languages."""

import asyncio
import json
import re
import urllib.request
from pathlib import Path

import kontext
import pytest
from comfy_api.latest import io

ROOT = Path(kontext.__file__).parent
CHINESE = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
# vue-i18n reads these as placeholders, links and plurals, and the front end drops the text
MESSAGE_SYNTAX = frozenset("{}@|")
CHINESE_LETTER = re.compile("[一-龥]")
# The same in every language
NAMES = frozenset(
    "adamw adamw8bit prodigy adafactor lion came schedulefree prodigyplus lora dora lokr loha "
    "bf16 fp16 fp32 int8 fp8 mxfp8 comfyui diffusers peft png jpg webp pdf".split()
)


async def schemas() -> list[io.Schema]:
    extension = await kontext.comfy_entrypoint()
    return [node.define_schema() for node in await extension.get_node_list()]


SCHEMAS = asyncio.run(schemas())
every_node = pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.node_id)


def needs_chinese(value: str) -> bool:
    """Neither Chinese nor a number, nor a name that is the same in every language."""
    words = re.search("[A-Za-z]{2}", value)
    return bool(words) and value not in NAMES and not CHINESE_LETTER.search(value)


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


@every_node
def test_every_value_of_a_choice_is_translated(schema):
    """And no other; in the order of the list."""
    choices = {each.id: each.options for each in schema.inputs if isinstance(each, io.Combo.Input)}
    for name, entry in CHINESE[schema.node_id].get("inputs", {}).items():
        wanted = [value for value in choices.get(name, []) if needs_chinese(value)]
        shown = entry.get("options", {})
        assert list(shown) == wanted, f"{schema.node_id}.{name}"
        assert all(map(CHINESE_LETTER.search, shown.values()))
        assert len(set(shown.values())) == len(shown)


@every_node
def test_chinese_texts_call_a_value_as_the_node_shows_it(schema):
    page = (ROOT / "web" / "docs" / schema.node_id / "zh.md").read_text(encoding="utf-8")
    for name, entry in CHINESE[schema.node_id].get("inputs", {}).items():
        for value in entry.get("options", {}):
            assert f"*{value}*" not in page
            assert not re.search(rf"(?<![\w-]){re.escape(value)}(?![\w-])", entry["tooltip"]), name


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
