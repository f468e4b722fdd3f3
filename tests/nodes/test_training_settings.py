"""The settings on the nodes are those of TrainConfig, in its order and its ranges."""

import json
import re
from itertools import groupby
from pathlib import Path

import kontext
import pytest
from kontext.nodes.setting_inputs import setting_input
from kontext.nodes.train import TrainLora
from kontext.nodes.training_settings import TrainingSettings
from kontext.trainer.config import SETTINGS, ConfigError, TrainConfig

ROOT = Path(kontext.__file__).parent
CHINESE = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
INPUTS = {entry.id: entry for entry in TrainingSettings.define_schema().inputs}
SHORT_LIST = {entry.id: entry for entry in TrainLora.define_schema().inputs}


def execute(**changes):
    given = {name: entry.default for name, entry in INPUTS.items()}
    (config,) = TrainingSettings.execute(**{**given, **changes}).args
    return config


def test_a_setting_is_on_one_node():
    settings = {name for name in INPUTS if name != "more"}
    run = {each.name for each in SETTINGS.values() if each.topic == "run"}
    assert settings == {each.name for each in SETTINGS.values() if each.on_node} - run
    assert run <= SHORT_LIST.keys() and not settings & SHORT_LIST.keys()
    assert len(settings) == 28


def test_basic_settings_come_first_and_topics_stay_together():
    advanced = [bool(entry.advanced) for entry in INPUTS.values()]
    assert advanced == sorted(advanced) and advanced.count(False) == 10
    topics = [topic for topic, _ in groupby(each.topic for each in SETTINGS.values())]
    assert len(topics) == len(set(topics))


def test_a_node_as_it_is_added_gives_the_defaults():
    assert execute() == TrainConfig()


@pytest.mark.parametrize("name", SETTINGS)
def test_an_input_takes_what_the_setting_takes(name):
    entry, setting = setting_input(name), SETTINGS[name]
    assert setting.read(entry.default) == setting.default
    if setting.choices:
        assert entry.options == list(setting.choices)
    elif setting.kind in (int, float) and not setting.several:
        assert (entry.min, entry.max) == (setting.low, setting.high)
    assert setting.help in entry.tooltip


def test_more_has_what_is_on_no_node():
    config = execute(more="sigma_shift: 1.5\nbeta1: 0.8\npreview_steps: 0", resolution="512, 768")
    assert (config.sigma_shift, config.beta1, config.preview_steps) == (1.5, 0.8, 0)
    assert config.sides == (512, 768)
    with pytest.raises(ConfigError, match="unknown sigma"):
        execute(more="sigma: 1.5")


@pytest.mark.parametrize("node", ["KontextTrainingSettings", "KontextTrainLora"])
def test_chinese_names_the_same_choices_and_numbers(node):
    """A tooltip that has changed in English only is found by them."""
    entries = INPUTS if node == "KontextTrainingSettings" else SHORT_LIST
    for name in entries.keys() & SETTINGS.keys():
        chinese = CHINESE[node]["inputs"][name]["tooltip"]
        english = entries[name].tooltip
        for number in re.findall(r"\d[\d,.e-]*\d|\d", english):
            assert number in chinese, f"{name}: {number}"
        for choice, meaning in SETTINGS[name].choices.items():
            shown = CHINESE[node]["inputs"][name].get("options", {}).get(choice, choice)
            assert not meaning or f"{shown}：" in chinese, f"{name}: {choice}"
        assert ("0 = " in english) == ("0 = " in chinese), name
