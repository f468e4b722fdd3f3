"""Measuring held-out pairs beside a run, which never changes the run."""

from dataclasses import replace

from kontext.dataset.pair import PairedDataset

from .short_runs import SHORT, assert_same, last_lora


def test_validating_does_not_change_training(run_training, pairs, make_pairs, tmp_path):
    """Held-out loss is logged, against the base; the LoRA is the same bit for bit."""
    more = make_pairs(tmp_path / "pairs", 6).pairs
    held = [replace(pair, split="holdout") for pair in more[4:]]
    split = PairedDataset((*more[:4], *held))
    rarely = run_training(SHORT.replace(validate_every=100), pairs=split, name="rarely")
    often = run_training(SHORT.replace(validate_every=1), pairs=split, name="often")
    assert_same(last_lora(often), last_lora(rarely))
    assert not any("holdout" in entry for entry in rarely.logged())
    first, *_, last = often.logged()
    assert len(first["holdout"]) == len(first["holdout_base"]) == 2
    assert first["holdout_base"] == last["holdout_base"] != last["holdout"]
