import pytest
from kontext.trainer.config import ConfigError, TrainConfig


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
