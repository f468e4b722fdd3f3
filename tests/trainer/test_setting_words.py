"""In Chinese a setting and its value are called as the nodes call them."""

import pytest
from kontext import language
from kontext.trainer.config import ConfigError, TrainConfig
from kontext.trainer.setting_words import (
    setting_and_id,
    setting_shown,
    value_and_id,
    value_shown,
)


def test_english_needs_no_other_words():
    assert setting_shown("timesteps") == setting_and_id("timesteps") == "timesteps"
    assert value_shown("timesteps", "detail") == value_and_id("timesteps", "detail") == "detail"


@pytest.fixture
def chinese(monkeypatch):
    monkeypatch.setattr(language, "_source", lambda: "zh")


def test_chinese_has_those_of_the_nodes(chinese):
    assert (setting_shown("timesteps"), value_shown("timesteps", "detail")) == (
        "时间步分布",
        "细节",
    )
    assert setting_shown("beta1") == "beta1"  # on no node
    assert value_shown("learning_rate", 1e-4) == 1e-4
    assert value_shown("optimizer", "adamw") == "adamw"
    assert value_shown("flip", False) == value_and_id("flip", False) == "关"


def test_errors_have_the_english_name_once(chinese):
    assert setting_and_id("rank") == "秩（rank）"
    assert value_and_id("choose", "mark") == "标出（mark）"
    with pytest.raises(ConfigError, match="“结束时评选”（choose）是标出（mark）"):
        TrainConfig(choose="mark").settled(10, full_model=False, held_out=1)
