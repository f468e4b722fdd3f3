"""Training Preset, called as ComfyUI calls it."""

import pytest
from kontext.dataset.pair import Pair, PairedDataset
from kontext.nodes.presets import REASONS, TrainingPreset
from kontext.nodes.train import BASIC, TrainingSettings, TrainLora
from kontext.trainer import host
from kontext.trainer.config import ConfigError, TrainConfig
from kontext.trainer.presets import PRESETS


def execute(*inputs):
    """As ComfyUI calls it, with nobody to show the text to."""
    return TrainingPreset.PREPARE_CLASS_CLONE({"hidden_inputs": {}}).execute(*inputs)


@pytest.fixture
def pairs(tmp_path) -> PairedDataset:
    """Thirty pairs to train on and five held out; no file is there, none is read."""
    path = tmp_path / "a.png"
    return PairedDataset(
        tuple(
            Pair(f"{i}", (path,), path, "polish", "holdout" if i < 5 else "train")
            for i in range(35)
        )
    )


@pytest.mark.parametrize("name", PRESETS)
def test_what_comes_out_goes_into_the_train_node(pairs, name):
    """The values are those of the settings, in the order of the outputs, and within its ranges."""
    config, steps, rank, learning_rate, save_every, advice = execute(name, 0, pairs).args
    assert isinstance(config, TrainConfig)
    assert (steps, rank, learning_rate, save_every) == (
        config.steps, config.rank, config.learning_rate, config.save_every,
    )  # fmt: skip
    outputs = {out.display_name: out for out in TrainingPreset.define_schema().outputs}
    inputs = {entry.id: entry for entry in TrainLora.define_schema().inputs}
    assert list(outputs) == ["settings", "steps", "rank", "learning_rate", "save_every", "advice"]
    for name_of, value in zip(
        list(outputs)[1:5], (steps, rank, learning_rate, save_every), strict=True
    ):
        assert outputs[name_of].io_type == inputs[name_of].io_type
        assert inputs[name_of].min <= value <= inputs[name_of].max
    assert "30 to train on" in advice and PRESETS[name].why in REASONS


def test_without_pairs_steps_are_left_automatic():
    assert execute("relight", 0).args[1] == 0


def test_the_card_is_asked_for(monkeypatch):
    monkeypatch.setattr(host, "card_bytes", lambda: 24 * 2**30)
    assert "this card of 24 GB" in execute("relight", 0).args[-1]


def test_a_resolution_too_small_is_named():
    with pytest.raises(ConfigError, match="resolution is 32"):
        execute("relight", 32)


def test_few_settings_are_shown_at_once():
    shown = {entry.id for entry in TrainingSettings.define_schema().inputs if not entry.advanced}
    assert shown == BASIC
