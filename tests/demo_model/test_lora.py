"""A LoRA teaches the demo model what it does not know, and leaves it what it knows."""

import pytest

from demo_model import evaluate

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("rate", "steps"), [("1e-4", 1200), ("1e-3", 500)])
def test_a_lora_follows_a_new_instruction_and_no_other(tmp_path, monkeypatch, rate, steps):
    """Duotone, on 20 pairs, at the default rate and ten times that: covers at least 60 % of the
    way from the base to the VAE's ceiling on other photographs, and costs the trained edits at
    most 2 dB."""
    monkeypatch.setattr(evaluate, "RATES", {rate: ""})
    monkeypatch.setattr(evaluate, "TRAINING_STEPS", steps)
    bench = evaluate.Bench(tmp_path)
    images = bench.crops(("chelsea", "rocket", "grace_hopper", "flower"), 5)
    lora = evaluate.measure_loras(bench, "duotone", images)["duotone"][rate]
    assert lora["covered"] > 0.6
    assert lora["mean_drop_db"] < 2
