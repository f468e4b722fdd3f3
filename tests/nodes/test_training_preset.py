"""Training Preset, called as ComfyUI calls it."""

import json
from pathlib import Path

import kontext
import pytest
from kontext.dataset.pair import Pair, PairedDataset
from kontext.nodes.training_preset import TrainingPreset
from kontext.trainer import host
from kontext.trainer.config import ConfigError
from kontext.trainer.presets import PRESETS, reasons

ROOT = Path(kontext.__file__).parent


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
def test_one_wire_carries_the_whole_preset(pairs, name):
    config, advice = execute(name, 0, pairs).args
    assert config == PRESETS[name].config
    assert "30 to train on" in advice and PRESETS[name].texts["en"]["why"] in advice
    outputs = [out.display_name for out in TrainingPreset.define_schema().outputs]
    assert outputs == ["settings", "advice"]


def test_the_advice_counts_automatic_steps(pairs):
    """100 for each of the 30 pairs; the settings stay automatic, as the train node knows better."""
    config, advice = execute("relight", 0, pairs).args
    assert config.steps == 0 and "this preset takes 3,000" in advice


def test_a_preset_may_be_changed():
    config, _ = execute("relight", 128, None, "dropout: 0.1\nrank: 8").args
    assert (config.resolution, config.dropout, config.rank) == (128, 0.1, 8)
    assert config.timesteps == "structure"


def test_the_card_is_asked_for(monkeypatch):
    monkeypatch.setattr(host, "card_bytes", lambda: 24 * 2**30)
    assert "this card of 24 GB" in execute("relight", 0).args[-1]


def test_a_resolution_too_small_is_named():
    with pytest.raises(ConfigError, match="resolution is 32"):
        execute("relight", 32)


def test_the_choice_is_explained_in_chinese_too():
    """The locale file repeats what presets.yaml says."""
    chinese = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
    shown = chinese["KontextTrainingPreset"]["inputs"]["preset"]["tooltip"]
    assert shown == reasons("zh")
