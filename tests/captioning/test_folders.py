"""Finding model folders, and saying which file of a broken one is the matter."""

import json
import shutil

import pytest
from kontext.captioning.captioner import CaptionError
from kontext.captioning.folders import check_complete, find_models


@pytest.fixture
def folder(tiny_captioner, tmp_path):
    return shutil.copytree(tiny_captioner("blip"), tmp_path / "LLM" / "blip-large")


def test_models_are_listed_with_their_family(folder, tmp_path):
    for name, config in {
        "MiniCPM-V": {"model_type": "minicpmv", "auto_map": {}},
        "my_bert": {"model_type": "bert"},
        "no_json": "broken",
    }.items():
        (tmp_path / "LLM" / name).mkdir()
        text = config if isinstance(config, str) else json.dumps(config)
        (tmp_path / "LLM" / name / "config.json").write_text(text, encoding="utf-8")
    found = find_models([tmp_path / "LLM", tmp_path / "LLM" / ".", tmp_path / "missing"])
    assert [model.label for model in found] == [
        "LLM/blip-large (BLIP)",
        "LLM/MiniCPM-V (minicpmv, not supported)",
    ]


def test_a_whole_folder_is_accepted(folder):
    check_complete(folder, "")


def _cut(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def _pointer(folder):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1880000000\n"
    (folder / "model.safetensors").write_text(text, encoding="utf-8")


def _shards(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": names}), encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("breakage", "problem"),
    [
        (_cut, "model.safetensors is cut off"),
        (_pointer, "model.safetensors is only a Git LFS pointer"),
        (_shards, "model-00002-of-00002.safetensors is missing"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda f: (f / "x.safetensors.part").touch(), "x.safetensors.part is a download that"),
        (lambda f: (f / "processor_config.json").unlink(), "preprocessor_config.json is missing"),
        (
            lambda f: [(f / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")],
            "tokenizer.json is missing",
        ),
    ],
)
def test_the_missing_file_and_its_place_are_named(folder, breakage, problem):
    breakage(folder)
    with pytest.raises(CaptionError, match=problem) as caught:
        check_complete(folder, "Salesforce/blip-image-captioning-large")
    assert str(folder) in str(caught.value)
    assert "Salesforce/blip-image-captioning-large" in str(caught.value)
