import numpy as np
from kontext.evaluation.progress.loss_plot import draw_loss, moving_average


def test_moving_average_is_numpys():
    values = np.random.default_rng(0).normal(size=50)
    ours = moving_average(values, 7)
    np.testing.assert_allclose(ours[6:], np.convolve(values, np.ones(7) / 7, "valid"))
    np.testing.assert_allclose(ours[2], values[:3].mean())


def test_the_plot_shows_what_happened():
    """A lower loss, a checkpoint mark and a held-out curve each change the picture."""
    log = [{"step": i, "loss": 1.0 / i, "learning_rate": 1e-4} for i in range(1, 101)]
    tested = [*log[:-1], {**log[-1], "holdout": [0.3] * 4, "holdout_base": [0.5, 0.4, 0.6, 0.5]}]
    pictures = [
        draw_loss(*arguments)
        for arguments in [
            (log, [100], "run"),
            (log, [50, 100], "run"),
            (tested, [100], "run"),
            (log, [100], "修图"),
            (log, [100], "no $_$ formula"),
        ]
    ]
    for first in range(5):
        for second in range(first):
            assert pictures[first] != pictures[second]
