"""Logs of runs whose truth is known, and the noise of real ones."""

from typing import Any

import numpy as np

STEPS = 1500


def make_log(
    training: np.ndarray,
    held_out: np.ndarray,
    seed: int,
    pairs: int = 5,
    step_noise: float = 0.5,
    pair_noise: float = 0.01,
    shared_noise: float = 0.0,
) -> list[dict[str, Any]]:
    """`training` [steps] is the true loss, `held_out` [tests] the true share of change from the
    base. Losses of steps scatter log-normally (0.5 as in runs of the demo model); the changes
    between pairs, and all pairs together from one measurement to the next."""
    random = np.random.default_rng(seed)
    losses = training * random.lognormal(0, step_noise, len(training))
    log: list[dict[str, Any]] = [
        dict(step=i + 1, loss=loss, learning_rate=1e-4, grad_norm=0.1, seconds=0.5 * i, memory=0)
        for i, loss in enumerate(losses.tolist())
    ]
    base = random.uniform(0.3, 0.5, pairs)
    gains = 1 + 0.3 * random.normal(size=pairs)
    for place, change in enumerate(held_out if pairs else [], start=1):
        drift = random.normal(0, shared_noise) + random.normal(0, pair_noise, pairs)
        entry = log[place * len(log) // len(held_out) - 1]
        entry["holdout"] = (base * (1 + change * gains + drift)).tolist()
        entry["holdout_base"] = base.tolist()
    return log


def known_run(kind: str, seed: int = 0, tests: int = 10, **noise: Any) -> list[dict[str, Any]]:
    """One of the kinds of curves that trainers know."""
    x, t = np.arange(1, STEPS + 1) / STEPS, np.arange(1, tests + 1) / tests
    training, held_out = {
        "nothing": (0 * x, 0 * t),
        "improving": (-0.3 * x, -0.2 * t),
        "levelled": (-0.2 * (1 - np.exp(-8 * x)), -0.15 * (1 - np.exp(-8 * t))),
        "memorising": (-0.4 * x, -0.12 * (1 - np.exp(-8 * t)) + 0.15 * np.maximum(0, t - 0.4)),
        "oscillating": (
            0.25 * np.sin(2 * np.pi * 12 * x),
            -0.05 + 0.08 * (-1) ** np.arange(tests),
        ),
    }[kind]
    return make_log(0.4 * (1 + training), held_out, seed, **noise)
