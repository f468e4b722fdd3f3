"""The benchmark on a tiny model: its arithmetic, and that this trainer beats a plain PEFT loop."""

import json

import pytest

from benchmark import __main__ as benchmark
from benchmark.measure import FULL, Work


def test_the_floating_point_operations_of_the_full_model():
    """12.91 GFLOP a token, 700,416 · tokens² for attention; 393 and 552 TFLOP at 1024 + 1024."""
    assert FULL.flop(1, 1, 1, 0) == pytest.approx(12.91e9, rel=1e-3)
    assert FULL.flop(1, 1, 0, 1) == 700_416
    tokens = Work(FULL, side=128, steps=1).tokens
    assert tokens == 8448
    assert FULL.flop(tokens, 1, 2, 3.5) == pytest.approx(393e12, rel=1e-3)
    assert FULL.flop(tokens, 1, 3, 4.5) == pytest.approx(552e12, rel=1e-3)


@pytest.mark.slow
def test_a_step_costs_no_more_than_with_peft_and_takes_less_memory(tmp_path):
    """Same weights, latents, noise and learning curve, every block checkpointed on both sides.

    Time is the processor's in the fastest step of three rounds; memory is what torch's allocator
    hands out at once within a step, without weights and optimiser.
    """
    only = ["--only", "ours, all", "--only", "peft"]
    options = ["--small", "--no-growth", "--steps", "5", "--rounds", "3"]
    benchmark.main([*options, *only, "--out", str(tmp_path)])
    report = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    ours, peft = report["cases"]
    assert ours["losses"] == pytest.approx(peft["losses"], rel=0.02)
    assert report["ratios"]["time / peft"] <= 1.0
    assert report["ratios"]["peak / peft"] <= 0.7
    assert "| ours, all checkpointed |" in (tmp_path / "benchmark.md").read_text(encoding="utf-8")
