"""Training does something: on real photographs, with the model that ships."""

from pathlib import Path

import kontext
import numpy as np
import pytest
import torch
from kontext.dataset.load import PairSource, load_pairs
from kontext.trainer.config import TrainConfig
from kontext.trainer.host import Base
from kontext.trainer.host.demo import load_demo_model
from kontext.trainer.loop import train
from kontext.trainer.request import TrainingRequest
from kontext.trainer.statistics import paired_interval

SAMPLE_PAIRS = Path(kontext.__file__).parent / "sample_pairs"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learning")
    source = PairSource("before", "after", base=SAMPLE_PAIRS, scratch=folder)
    instruction = "Restore this old print: fresh, natural colours."
    pairs = load_pairs(source, instruction, holdout=6, hashes=folder / "hashes.json").dataset
    config = TrainConfig(
        steps=150, learning_rate=1e-3, save_every=75, resolution=128, preview_steps=0
    )
    with torch.inference_mode():
        base, places = Base(*load_demo_model()), (folder / "output", folder / "cache")
        return train(TrainingRequest(base, pairs, config, "learning", *places))


@pytest.mark.slow
def test_held_out_loss_falls(run):
    """Paired over pairs that were not trained on: the 95 % interval of the change is below 0."""
    last = run.logged()[-1]
    change = paired_interval(np.array(last["holdout"]) - np.array(last["holdout_base"]))
    assert change.high < 0
    assert change.mean < -0.02 * np.mean(last["holdout_base"])
