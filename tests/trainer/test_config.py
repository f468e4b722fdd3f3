import math
import time

import pytest
from kontext.trainer.config import SETTINGS, ConfigError, TrainConfig
from kontext.trainer.families.flux1 import Flux1
from kontext.trainer.setting import read_lines

NUMBERS = [each.name for each in SETTINGS.values() if each.kind in (int, float)]
CHOICES = [each.name for each in SETTINGS.values() if each.choices]


def test_automatic_steps_follow_the_guides():
    """100 per pair; at least 1,500 on the full model."""
    assert TrainConfig().settled(30, full_model=True).steps == 3000
    assert TrainConfig().settled(5, full_model=True).steps == 1500
    assert TrainConfig().settled(5, full_model=False).steps == 500
    assert TrainConfig(steps=7).settled(30, full_model=True).steps == 7
    assert TrainConfig(rank=32).settled(1, full_model=False).alpha == 32


@pytest.mark.parametrize(
    "setting",
    [{"rank": 0}, {"rank": 257}, {"dtype": "fp64"}, {"dropout": 1.0}, {"caption_dropout": 1.5}],
)
def test_a_wrong_value_is_named(setting):
    (name, value), *_ = setting.items()
    with pytest.raises(ConfigError, match=f"{name} is .*{value}"):
        TrainConfig(**setting)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_keeps_to_its_range(name):
    """Both ends are taken, as numbers and as their texts; what is beyond them, or none, is not."""
    low, high = SETTINGS[name].low, SETTINGS[name].high
    assert low < high < math.inf
    for end in (low, high):
        for value in (end, str(end)):
            assert SETTINGS[name].read(value) == end
            assert type(SETTINGS[name].read(value)) is SETTINGS[name].kind
    for value in (low - 1, high * 2 + 1, math.nan, math.inf, "many", "", None, True, [], {}, 1j):
        with pytest.raises(ConfigError, match=f"{name} is "):
            TrainConfig(**{name: value})


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_one_of_its_names(name):
    for value in SETTINGS[name].choices:
        assert SETTINGS[name].read(value) == value
    for value in ("", "best", None, True, 1, ["cosine", "linear"]):
        if value is True and "on" in SETTINGS[name].choices:
            continue
        with pytest.raises(ConfigError, match=f"{name} is "):
            TrainConfig(**{name: value})


def test_on_and_off_are_what_yaml_makes_of_them():
    """YAML 1.1 reads them as booleans."""
    config = TrainConfig.parse({"checkpointing": True, "compile": False, "flip": True})
    assert (config.checkpointing, config.compile, config.flip) == ("on", "off", True)


@pytest.mark.parametrize("value", ["yes", 1, None, "", [True]])
def test_a_switch_is_true_or_false(value):
    with pytest.raises(ConfigError, match="flip is .*true or false"):
        TrainConfig(flip=value)


def test_instructions_may_be_a_list():
    prompts = TrainConfig.parse({"preserve_prompts": ["Add snow.", "Make it dark."]}).preserved
    assert prompts == ("Add snow.", "Make it dark.")


def test_settings_as_lines_of_text():
    lines = read_lines("learning_rate: 2e-4\n\n flip : true \npreserve_prompts：Add: snow")
    config = TrainConfig.parse(lines)
    assert (config.learning_rate, config.flip) == (2e-4, True)
    assert config.preserve_prompts == "Add: snow"
    with pytest.raises(ConfigError, match="'flip': .*name: value"):
        read_lines("rank: 4\nflip")


@pytest.mark.parametrize("values", [["rank"], "rank: 4", 3])
def test_settings_that_are_no_names_and_values(values):
    with pytest.raises(ConfigError, match="config is .*name: value"):
        TrainConfig.parse(values)


def test_a_misspelt_setting_is_named_with_those_that_exist():
    with pytest.raises(ConfigError, match="unknown rnak. Known: .*rank, .*weight_decay"):
        TrainConfig.parse({"rnak": 4, "steps": 3})


def test_targets_that_match_without_end_are_refused_in_seconds():
    names = [f"double_blocks.{n}.img_attn.{'a' * 20_000}" for n in range(19)]
    started = time.monotonic()
    with pytest.raises(ConfigError, match=r"targets: \(a\+\)\+\$ takes more than 1.0 s"):
        Flux1.targeted([*names, names[0] + "!"], "(a+)+$")
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("pattern", ["(", "*", "[a", "(" * 1500, "((((a|b){30}){30}){30}){30}"])
def test_targets_that_are_no_regular_expression(pattern):
    with pytest.raises(ConfigError, match="targets is "):
        TrainConfig(targets=pattern)


def test_a_learning_rate_of_0_is_refused_before_training():
    """It would end, finished, with a LoRA of zeros."""
    with pytest.raises(ConfigError, match="learning_rate is 0"):
        TrainConfig(learning_rate=0).settled(10, full_model=True)


def test_a_line_of_blanks_is_read_in_one_pass():
    started = time.monotonic()
    with pytest.raises(ConfigError, match="name: value"):
        read_lines("rank" + " " * 100_000 + "4")
    assert read_lines("rank" + " " * 100_000 + "： 4") == {"rank": "4"}
    assert time.monotonic() - started < 5


def test_schedules_warm_up_and_end():
    """Closed forms at the start, the top, the middle and the end."""
    middles = {"cosine": 0.5, "linear": 0.5, "constant": 1.0, "polynomial": 0.25}
    middles["cosine_restarts"] = 1.0  # of two cycles, the second begins there
    for schedule, middle in middles.items():
        config = TrainConfig(
            steps=1100, warmup_steps=100, learning_rate=1.0, schedule=schedule, restarts=2
        )
        assert config.learning_rate_at(0) == 0.01
        assert config.learning_rate_at(100) == 1.0
        assert config.learning_rate_at(600) == pytest.approx(middle)
        end = 1.0 if schedule == "constant" else 0.0
        assert config.learning_rate_at(1099) == pytest.approx(end, abs=2e-3)


def test_warm_up_takes_a_tenth_of_a_short_run():
    config = TrainConfig(steps=100, warmup_steps=50, learning_rate=1.0)
    assert config.learning_rate_at(10) == 1.0
