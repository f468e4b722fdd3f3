"""The presets hold what the guides say, in every language."""

import re

import pytest
from kontext.trainer.config import ConfigError
from kontext.trainer.presets import PRESETS, read_presets, settings_for


@pytest.mark.parametrize(
    "name, pairs, rank, steps, save_every",
    [
        ("style transfer", 30, 16, 3000, 250),
        ("product and jewellery retouching", 57, 64, 5000, 1000),
        ("texture enhancer", 40, 32, 4000, 500),
        ("relight", 40, 64, 4000, 500),
        ("relight", 5, 64, 1500, 500),
    ],
)
def test_presets_follow_the_guides(name, pairs, rank, steps, save_every):
    """Recipes of the guides: images × 100 for textures and light, 5,000 for jewellery."""
    config = settings_for(name)
    assert config.alpha == 0  # goes with another rank on the train node, too
    config = config.settled(pairs, full_model=True)
    assert (config.rank, config.steps, config.save_every) == (rank, steps, save_every)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_explained_in_every_language(name):
    for text in PRESETS[name].texts.values():
        assert text.keys() == {"title", "why", "hint"} and text["title"] and text["why"]
    english, chinese = (PRESETS[name].texts[language] for language in ("en", "zh"))
    assert english["title"] == name
    assert bool(english["hint"]) == bool(chinese["hint"])
    assert not re.search("[\u4e00-\u9fff]", "".join(english.values()))
    assert re.search("[\u4e00-\u9fff]", chinese["why"])


@pytest.mark.parametrize(
    "line, words",
    [("rnak: 16", "unknown rnak"), ("rank: 999", "rank is 999"), ("timesteps: fine", "'fine'")],
)
def test_a_wrong_setting_in_a_preset_is_named(tmp_path, line, words):
    path = tmp_path / "presets.yaml"
    path.write_text(f"mine:\n  pairs: [1, 2]\n  settings: {{{line}}}\n  en: {{}}\n  zh: {{}}\n")
    with pytest.raises(ConfigError, match=words):
        read_presets(path)


def test_another_resolution():
    config = settings_for("quick look", resolution=128)
    assert (config.resolution, config.reference_resolution) == (128, 64)
    assert settings_for("relight", resolution=768).reference_resolution == 0
