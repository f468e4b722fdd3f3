import numpy as np
from kontext.evaluation.progress.curves import Course
from kontext.evaluation.progress.loss_plot import draw_loss


def test_the_smoothed_loss_is_a_mean_of_the_last_steps():
    """Of ten at least, of a twentieth of those done later."""
    values = np.random.default_rng(0).normal(size=1000)
    course = Course({"step": n, "loss": value} for n, value in enumerate(values, start=1))
    for place, start in ((0, 0), (2, 0), (9, 0), (50, 41), (199, 190), (399, 380), (999, 950)):
        np.testing.assert_allclose(course.smoothed(place), values[start : place + 1].mean())


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
