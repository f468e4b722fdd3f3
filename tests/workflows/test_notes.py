"""The notes in the graphs: what is to be filled in, in the words that the interface shows."""

import json
import re
from pathlib import Path

import pytest

import api_form
from host import ROOT

from .test_workflows import GRAPHS, each_graph, saved

CHINESE = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
LOADERS = {"LoraLoaderModelOnly", "LoadImage", "UNETLoader"}
# What a graph may set without a word: the shipped pictures' own, or of no consequence
SILENT = {
    ("KontextCaptionStats", "count"),  # what its chart counts
    ("KontextTrainingPreset", "more"),  # its lines are quoted
}

BUTTONS = {"en": {"Open viewer", "Show advanced inputs"}, "zh": {"打开对比查看器", "显示高级输入"}}
MADE_BY = {"old_print": "train_kontext_lora", "two_inks": "train_style_lora"}


def named_in(node: dict, run: str) -> bool:
    """Whether a node opens this run, or loads a LoRA of it."""
    opens = node["type"] in ("KontextOpenRun", "LoraLoaderModelOnly")
    return opens and str(node["widgets_values"][0]).startswith(run)


def halves(path: Path) -> tuple[str, str]:
    """A graph's note in English and in Chinese."""
    (text,) = (n["widgets_values"][0] for n in saved(path)["nodes"] if n["type"] == "MarkdownNote")
    english, chinese = re.split(r"\n\n(?=#)", text)
    return english, chinese


def in_italics(text: str) -> set[str]:
    return set(re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", text))


def changed(path: Path, nodes: dict) -> set[tuple[str, str]]:
    """Types and inputs of our nodes whose value in the graph is not the default."""
    found = set()
    for node in api_form.api_form(saved(path), nodes).values():
        bare = {"": {"class_type": node["class_type"], "inputs": {}}}
        defaults = api_form.with_defaults(bare, nodes)[""]["inputs"]
        found |= {
            (node["class_type"], name)
            for name, value in node["inputs"].items()
            if node["class_type"] in CHINESE
            and not isinstance(value, list)
            and value != defaults.get(name)
        }
    return found - SILENT


@pytest.fixture(scope="module")
def nodes(server) -> dict:
    return server.get("/object_info")


@pytest.fixture(scope="module")
def stock_words() -> str:
    """Everything that ComfyUI's own page says in Chinese about nodes."""
    import comfyui_frontend_package

    assets = Path(comfyui_frontend_package.__file__).parent / "static" / "assets"
    return "".join(path.read_text(encoding="utf-8") for path in assets.glob("nodeDefs-*.js"))


@each_graph
def test_the_note_names_whatever_the_graph_sets(path, nodes):
    """A user who has filled in what the note names has replaced everything of the example."""
    english, chinese = map(in_italics, halves(path))
    for kind, name in sorted(changed(path, nodes)):
        assert nodes[kind]["display_name"] in english and name in english, (kind, name)
        words = CHINESE[kind]
        assert words["display_name"] in chinese and words["inputs"][name]["name"] in chinese


@each_graph
def test_the_note_names_every_stock_node_to_be_filled_in(path, nodes):
    english = in_italics(halves(path)[0])
    for kind in {node["type"] for node in saved(path)["nodes"]} & LOADERS:
        assert nodes[kind]["display_name"] in english


@each_graph
def test_the_note_has_the_words_of_the_interface(path, nodes, stock_words):
    """What is in italics is a node, an input, a button or a graph, called as it is there."""
    english, chinese = map(in_italics, halves(path))
    ours = {node["type"] for node in saved(path)["nodes"]} & set(CHINESE)
    graphs = {path.stem for path in GRAPHS} | {"TextEncodeQwenImageEditPlus"}
    titles = {each["display_name"] for each in nodes.values()} | {"FluxKontextImageScale"}
    inputs = {name for kind in ours for name in CHINESE[kind].get("inputs", {})}
    outputs = {name for kind in ours for name in nodes[kind]["output_name"]}
    assert english <= titles | inputs | outputs | graphs | BUTTONS["en"]

    words = {each["display_name"] for each in CHINESE.values()}
    for side in ("inputs", "outputs"):
        words |= {each["name"] for kind in ours for each in CHINESE[kind].get(side, {}).values()}
    stock = {word for word in chinese if f"display_name:`{word}`" in stock_words}
    assert chinese <= words | stock | graphs | BUTTONS["zh"]


@each_graph
def test_every_lora_is_saved_under_the_name_of_its_own_run(path):
    """A name in the graph would let each user's LoRA take the place of the one before."""
    for node in saved(path)["nodes"]:
        if node["type"] in ("KontextSaveCheckpoint", "KontextPickCheckpoint"):
            assert True not in node["widgets_values"]
            assert node["widgets_values"][1] == ""


@pytest.mark.parametrize("readme", ["README.md", "README.zh.md"])
def test_the_readme_says_what_each_graph_needs(readme):
    """The training graphs whose LoRA or run it takes, or a model that does not come with us."""
    rows = re.findall(r"^\| (`.*?) \|.*\| (.*?) \|$", (ROOT / readme).read_text("utf-8"), re.M)
    said = {name: needs for names, needs in rows for name in re.findall(r"`(\w+)`", names)}
    assert set(said) == {path.stem for path in GRAPHS}
    for path in GRAPHS:
        nodes = saved(path)["nodes"]
        types = {node["type"] for node in nodes}
        used = {run for run in MADE_BY for node in nodes if named_in(node, run)}
        assert set(re.findall(r"`(\w+)`", said[path.stem])) == {MADE_BY[run] for run in used}
        own = "UNETLoader" in types or any(name.endswith("Captioner") for name in types)
        alone = re.match("runs|直接运行|不需要模型|能运行", said[path.stem])
        assert bool(alone) == (not used and not own)
