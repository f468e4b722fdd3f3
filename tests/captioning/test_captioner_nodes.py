"""The captioner nodes: which models they list, and what they say when one is missing."""

import shutil
from pathlib import Path

import folder_paths
import pytest
from kontext.captioning.captioner import CaptionError
from kontext.nodes import captioners

from . import tiny_models as tiny
from . import tiny_tagger

RUNNING = {"precision": "fp32", "batch_size": 1, "keep_loaded": False}
ASKING = {
    "question": "short description",
    "own_question": tiny.PROMPT,
    "max_tokens": 20,
    "temperature": 0.0,
    "seed": 0,
}
# node, its own widgets, the family that suits it, and the repository it names
NODES = {
    "florence": (
        captioners.FlorenceCaptioner,
        {"task": "caption", "max_tokens": 30} | RUNNING,
        "Florence-2",
    ),
    "blip": (captioners.BlipCaptioner, {"beginning": "", "beams": 1} | RUNNING, "Salesforce/blip"),
    "joycaption": (
        captioners.JoyCaptioner,
        {"caption_type": "Descriptive", "length": "any", "extra": "", "temperature": 0.0, "seed": 0}
        | RUNNING,
        "llama-joycaption",
    ),
    "qwen3_vl": (captioners.VisionCaptioner, ASKING | RUNNING, "Qwen3-VL"),
}


@pytest.fixture
def models(tmp_path, monkeypatch):
    """An empty models folder."""
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    return tmp_path / "models"


def options(node) -> list[str]:
    (model,) = [entry for entry in node.define_schema().inputs if entry.id == "model"]
    return model.options


@pytest.mark.slow
@pytest.mark.parametrize("name", NODES)
def test_a_listed_model_captions(models, tiny_captioner, name):
    node, widgets, _ = NODES[name]
    shutil.copytree(tiny_captioner(name), models / "LLM" / name)
    (label,) = options(node)
    assert label.startswith(f"LLM/{name} (")
    captioner = node.execute(model=label, **widgets).result[0]
    red = (tiny.picture(tiny.RED),)
    assert captioner.describe([red]) == [tiny.RED_TEXT]
    captioner.release()


@pytest.mark.parametrize("name", NODES)
def test_no_model_at_all(models, name):
    node, widgets, source = NODES[name]
    assert options(node) == ["(none found)"]
    with pytest.raises(CaptionError, match=source) as caught:
        node.execute(model="(none found)", **widgets)
    assert str(models / "LLM") in str(caught.value)


def test_models_in_registered_folders_are_found(models, tmp_path, tiny_captioner, monkeypatch):
    elsewhere = tmp_path / "D" / "vlm"
    shutil.copytree(tiny_captioner("blip"), elsewhere / "blip")
    registered = folder_paths.folder_names_and_paths | {"LLM": ([str(elsewhere)], set())}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", registered)
    assert options(captioners.BlipCaptioner) == ["vlm/blip (BLIP)"]


def test_a_model_that_brings_its_own_code_is_refused(models):
    folder = models / "LLM" / "MiniCPM-V"
    folder.mkdir(parents=True)
    config = '{"model_type": "minicpmv", "auto_map": {"AutoModel": "modeling.X"}}'
    (folder / "config.json").write_text(config, encoding="utf-8")
    (label,) = options(captioners.VisionCaptioner)
    assert label == "LLM/MiniCPM-V (minicpmv, not supported)"
    with pytest.raises(CaptionError, match="never run here. Choose Qwen"):
        captioners.VisionCaptioner.execute(model=label, **ASKING, **RUNNING)


def test_a_half_downloaded_model_is_refused_before_it_is_loaded(models, tiny_captioner):
    folder = shutil.copytree(tiny_captioner("blip"), models / "LLM" / "blip-large")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CaptionError, match="model.safetensors is cut off"):
        captioners.BlipCaptioner.execute(
            model="LLM/blip-large (BLIP)", beginning="", beams=1, **RUNNING
        )


def test_quantised_weights_need_bitsandbytes(models, tiny_captioner, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name)
    )
    shutil.copytree(tiny_captioner("blip"), models / "LLM" / "blip")
    widgets = RUNNING | {"precision": "4-bit"}
    captioner = captioners.BlipCaptioner.execute(
        model="LLM/blip (BLIP)", beginning="", beams=1, **widgets
    ).result[0]
    with pytest.raises(CaptionError, match="needs the package bitsandbytes"):
        captioner.describe([(tiny.picture(tiny.RED),)])


TAGGING = {
    "general_threshold": 0.35,
    "character_threshold": 0.85,
    "exclude": "^_^",
    "underscores": False,
    "rating": "leave out",
    "escape_brackets": False,
    "batch_size": 1,
    "keep_loaded": False,
}


@pytest.mark.parametrize("place", ["models/wd14_tagger", "custom_nodes/ComfyUI-WD14-Tagger/models"])
def test_taggers_are_found_where_people_have_them(models, monkeypatch, place):
    folder = models.parent / place
    custom = str(models.parent / "custom_nodes")
    monkeypatch.setattr(folder_paths, "get_folder_paths", lambda name: [custom])
    tiny_tagger.build(folder / "wd-v1-4-moat-tagger-v2.onnx", folder / "wd-v1-4-moat-tagger-v2.csv")
    (label,) = options(captioners.TagCaptioner)
    tagger = captioners.TagCaptioner.execute(model=label, **TAGGING).result[0]
    assert tagger.describe([(tiny.picture(tiny.BLUE, (40, 40)),)]) == ["blue theme, 1girl"]


def test_no_tagger_at_all(models):
    assert options(captioners.TagCaptioner) == ["(none found)"]
    with pytest.raises(CaptionError, match="selected_tags.csv.*wd14_tagger"):
        captioners.TagCaptioner.execute(model="(none found)", **TAGGING)


def test_an_empty_question_is_refused():
    widgets = ASKING | {"question": "own text", "own_question": " "}
    with pytest.raises(CaptionError, match="Write a question"):
        captioners.CoreCaptioner.execute(clip=None, keep_loaded=False, **widgets)


def test_every_input_has_a_tooltip():
    for node in captioners.NODES:
        schema = node.define_schema()
        assert schema.description and schema.search_aliases
        assert [entry.id for entry in schema.inputs if not entry.tooltip] == []
        assert Path(schema.category).name == "captioners"
