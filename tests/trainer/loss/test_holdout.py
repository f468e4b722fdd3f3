"""Measuring held-out pairs beside a run, which never changes the run."""

from dataclasses import replace

import pytest
import torch
from kontext.dataset.pair import PairedDataset

from ..short_runs import SHORT, assert_same, last_lora


@pytest.mark.slow
def test_validating_does_not_change_training(run_training, make_pairs, tmp_path):
    """Reference: the run on the same pairs with nothing to validate on; the LoRA is bit-identical,
    torch's own random stream where it was."""
    more = make_pairs(tmp_path / "pairs", 6).pairs
    held = [replace(pair, split="holdout") for pair in more[4:]]
    torch.manual_seed(5)
    never = run_training(pairs=PairedDataset(more[:4]), name="never")
    after = torch.get_rng_state()
    torch.manual_seed(5)
    often = run_training(
        SHORT.replace(validate_every=1), pairs=PairedDataset((*more[:4], *held)), name="often"
    )
    assert torch.equal(torch.get_rng_state(), after)
    assert_same(last_lora(often), last_lora(never))
    assert not any("holdout" in entry for entry in never.logged())
    first, *_, last = often.logged()
    assert len(first["holdout"]) == len(first["holdout_base"]) == 2
    assert first["holdout_base"] == last["holdout_base"] != last["holdout"]


def test_every_checkpoint_is_measured(run_training, make_pairs, tmp_path):
    """However rarely else: the best of them is to be known."""
    more = make_pairs(tmp_path / "pairs", 5).pairs
    held = PairedDataset((*more[:4], replace(more[4], split="holdout")))
    run = run_training(SHORT.replace(validate_every=5), pairs=held)
    assert [entry["step"] for entry in run.logged() if "holdout" in entry] == [2, 4, 5, 6]
