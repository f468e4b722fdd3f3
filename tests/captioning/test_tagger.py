"""The WD14 tagger on a tiny ONNX graph with the real one's inputs and outputs."""

import pytest
from kontext.captioning.captioner import CaptionError
from kontext.captioning.tagger import TagChoice, Tagger, chosen_tags, find_taggers

from . import tiny_models as tiny
from . import tiny_tagger


@pytest.fixture(params=["folder", "pair of files"])
def model(request, tmp_path):
    folder = tmp_path / "wd-vit-tagger-v3" if request.param == "folder" else tmp_path
    names = {
        "folder": ("model.onnx", "selected_tags.csv"),
        "pair of files": ("wd-v1-4-moat-tagger-v2.onnx", "wd-v1-4-moat-tagger-v2.csv"),
    }
    onnx, tags = names[request.param]
    tiny_tagger.build(folder / onnx, folder / tags)
    return folder / onnx


def test_tags_depend_on_the_picture(model):
    red, blue = (tiny.picture(tiny.RED, (100, 100)),), (tiny.picture(tiny.BLUE, (100, 100)),)
    assert Tagger(model, TagChoice()).describe([red, blue]) == [
        "rin \\(ring\\), red theme, 1girl, ^_^",
        "blue theme, 1girl, ^_^",
    ]


def test_pictures_are_padded_with_white(model):
    wide = (tiny.picture(tiny.RED, (448, 2)),)  # all but 2 of 448 rows are white
    assert "blue theme" in Tagger(model, TagChoice()).describe([wide])[0]


def test_both_layouts_are_found(model, tmp_path):
    assert list(find_taggers([tmp_path, tmp_path / "none"]).values()) == [model]


_LABELS = list(zip(["safe", "long_hair", "smile", ">_<", "miku_(x)"], "90004", strict=True))


@pytest.mark.parametrize(
    ("choice", "tags"),
    [
        (TagChoice(), ["long hair", ">_<"]),
        (TagChoice(general_threshold=0.2), ["long hair", ">_<", "smile"]),
        (TagChoice(character_threshold=0.7), ["miku \\(x\\)", "long hair", ">_<"]),
        (
            TagChoice(character_threshold=0.7, escape_brackets=False),
            ["miku (x)", "long hair", ">_<"],
        ),
        (TagChoice(underscores=True), ["long_hair", ">_<"]),
        (TagChoice(exclude="Long hair, >_<"), []),
        (TagChoice(rating="first"), ["safe", "long hair", ">_<"]),
        (TagChoice(rating="last"), ["long hair", ">_<", "safe"]),
    ],
)
def test_choice_of_tags(choice, tags):
    assert chosen_tags(_LABELS, [0.6, 0.9, 0.3, 0.8, 0.8], choice) == tags


def test_a_tag_list_of_another_model_is_refused(model):
    tags = next(model.parent.glob("*.csv"))
    tags.write_text("tag_id,name,category,count\n1,solo,0,1", encoding="utf-8")
    with pytest.raises(CaptionError, match="lists 1 tags.*10 outputs"):
        Tagger(model, TagChoice()).describe([(tiny.picture(tiny.RED),)])


def test_a_cut_off_model_is_named(model):
    model.write_bytes(model.read_bytes()[:200])
    with pytest.raises(CaptionError, match=f"{model.name} could not be opened.*Hugging Face"):
        Tagger(model, TagChoice()).describe([(tiny.picture(tiny.RED),)])
