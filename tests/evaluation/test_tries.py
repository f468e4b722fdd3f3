"""Settings tried by successive halving: who goes on, what it costs, and that it can be resumed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from kontext.dataset.pair import Pair, PairedDataset
from kontext.evaluation.tries.axes import grid, read_axes
from kontext.evaluation.tries.halving import cost, rounds, steps_of
from kontext.evaluation.tries.report import as_json, as_table, result, write
from kontext.evaluation.tries.search import plan, price
from kontext.trainer.config import ConfigError, TrainConfig
from kontext.trainer.request import TrainingError
from kontext.trainer.runs.identity import Identity, RunError
from kontext.trainer.runs.run import DIVERGED, Run

RATES = "learning_rate: 5e-5, 1e-4, 2e-4, 4e-4"
GAINS = {5e-5: 0.5, 1e-4: 1.0, 2e-4: 1.4, 4e-4: 0.9}  # how fast each rate learns
PAIRS = 8
BASE = np.linspace(0.2, 0.9, PAIRS)


@pytest.fixture
def pairs(tmp_path):
    splits = ["train"] * 12 + ["holdout"] * PAIRS
    return PairedDataset(
        tuple(Pair(f"{i}", (), tmp_path / f"{i}.png", "", split) for i, split in enumerate(splits))
    )


class Trainer:
    """Instead of training: logs what a run of known gain measures, up to a number of calls."""

    def __init__(self, output, gains=GAINS, calls=1000):
        self.output, self.gains, self.calls, self.steps = output, gains, calls, 0

    def __call__(self, leg):
        run = Run.create(leg.name, self.output, Identity(leg.config, "base", "pairs"))
        done = len(list(run.lines))
        if done >= leg.step:
            return
        if not self.calls:
            raise KeyboardInterrupt
        self.calls -= 1
        gain = self.gains[leg.config.learning_rate]
        if gain is None:
            (run.folder / DIVERGED).write_text("diverged")
            raise TrainingError("diverged")
        self.steps += leg.step - done
        noise = np.random.default_rng(leg.step).normal(0, 0.01, PAIRS)  # the same for all
        for step in range(done + 1, leg.step + 1):
            entry = {"step": step, "loss": 0.4, "seconds": 0.5 * step}
            if step == leg.step:
                losses = BASE * (np.exp(-gain * step / 200) + noise)
                entry |= {"holdout": losses.tolist(), "holdout_base": BASE.tolist()}
            run.log(**entry)
        run.state.write(leg.step, {"weight": torch.zeros(1)})


def search_in(output, pairs, axes=RATES, steps=200, **changes):
    return plan("edit", output, pairs, TrainConfig(**changes), axes, steps, True)


@pytest.mark.parametrize(
    ("count", "found"),
    [(2, [(2, 200)]), (4, [(4, 100), (2, 200)]), (9, [(9, 25), (5, 50), (3, 100), (2, 200)])],
)
def test_half_of_them_go_on_for_twice_as_long(count, found):
    assert rounds(count, 200) == found


def test_what_it_costs_is_the_sum_of_the_rounds():
    assert cost(4, 200) == 4 * 100 + 2 * 100
    assert cost(9, 200) == 9 * 25 + 5 * 25 + 3 * 50 + 2 * 100
    assert steps_of(2000) == 200 and steps_of(100) == 80


def test_the_best_is_found_in_as_many_steps_as_said(tmp_path, pairs):
    search, train = search_in(tmp_path, pairs), Trainer(tmp_path)
    assert "4 tries of at most 200 steps: 600 training steps to do" in price(search, True)
    search.run(train)
    found = result(search)
    assert train.steps == 600
    assert found.best.changes == {"learning_rate": 2e-4}
    assert [each.step for each in found.tried] == [200, 200, 100, 100]
    assert [each.which.config.learning_rate for each in found.tried] == [2e-4, 1e-4, 4e-4, 5e-5]
    assert found.verdict == "These differ: learning_rate 0.0002 is the best."
    assert found.settings(TrainConfig(rank=8)) == TrainConfig(rank=8, learning_rate=2e-4)
    assert as_json(found)["best"] == {"learning_rate": 2e-4}
    assert as_table(found).count("worse") == 3
    write(found, tmp_path / "kontext_tries" / "edit")
    names = {path.name for path in (tmp_path / "kontext_tries" / "edit").iterdir()}
    assert names == {"tries.json", "tries.txt", "tries.png"}


def test_tries_that_hardly_differ_are_called_so(tmp_path, pairs):
    class Unsteady(Trainer):
        def __call__(self, leg):
            super().__call__(leg)
            run = Run(leg.name, self.output)
            *rest, last = run.lines
            own = np.random.default_rng(int(leg.config.learning_rate * 1e6))
            last["holdout"] = (BASE * (0.5 + own.normal(0, 0.02, PAIRS))).tolist()
            run.lines.path.unlink()
            for entry in [*rest, last]:
                run.log(**entry)

    search = search_in(tmp_path, pairs, "learning_rate: 1e-4, 2e-4")
    search.run(Unsteady(tmp_path))
    assert "do not differ clearly" in result(search).verdict


@pytest.mark.parametrize("calls", range(6))
def test_a_search_cut_off_anywhere_ends_as_if_it_had_not_been(tmp_path, pairs, calls):
    straight, cut = search_in(tmp_path / "a", pairs), search_in(tmp_path / "b", pairs)
    straight.run(Trainer(tmp_path / "a"))
    with pytest.raises(KeyboardInterrupt):
        cut.run(Trainer(tmp_path / "b", calls=calls))
    assert cut.due()
    rest = Trainer(tmp_path / "b")
    cut.run(rest)
    assert as_json(result(cut)) == as_json(result(straight))
    assert rest.steps == 600 - 100 * calls


def test_tries_may_be_trained_side_by_side_by_others(tmp_path, pairs):
    search, train = search_in(tmp_path, pairs), Trainer(tmp_path)
    legs = search.due()
    assert [leg.step for leg in legs] == [100] * 4
    for leg in reversed(legs):
        train(leg)
    assert sorted(leg.config.learning_rate for leg in search.due()) == [1e-4, 2e-4]
    for leg in search.due():
        train(leg)
    assert search.due() == [] and result(search).best.changes == {"learning_rate": 2e-4}


def test_a_try_that_diverges_is_out(tmp_path, pairs):
    search = search_in(tmp_path, pairs)
    search.run(Trainer(tmp_path, {**GAINS, 4e-4: None}))
    found = result(search)
    assert found.tried[-1].verdict == "diverged" and found.best.changes == {"learning_rate": 2e-4}


def test_runs_made_from_something_else_are_refused(tmp_path, pairs):
    search_in(tmp_path, pairs).run(Trainer(tmp_path))
    with pytest.raises(RunError, match="rank was 16, now 32"):
        search_in(tmp_path, pairs, rank=32).run(Trainer(tmp_path))


def test_every_combination_is_a_try_with_a_name_of_its_own():
    tries = grid(TrainConfig(), read_axes("rank: 8, 32\nadapter: lora, dora"))
    assert len(tries) == 4
    assert len({each.suffix for each in tries}) == 4
    assert tries[1].config == TrainConfig(rank=8, adapter="dora")
    assert tries[1].label == "rank 8, adapter dora"


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ("", "Write what to try"),
        ("steps: 10, 20", "steps cannot be tried"),
        ("learnrate: 1", "learnrate cannot be tried"),
        ("timesteps: detail, balanced", "changes what the held-out loss measures"),
        ("rank: 8", "make 1 different tries; there must be 2 to 64"),
        ("rank: 8, 8.0,", "make 1 different tries"),
        ("rank:", "make 0 different tries"),
        ("rank: 1, 2, 3, 4, 5, 6, 7, 8, 9\ndropout: 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7", "72"),
        ("rank: 8\nrank: 32", "rank is there twice"),
        ("rank: 8, much", "rank is 'much'"),
        ("max_vram: 8, 12", "max_vram cannot be tried"),
        ("rank: 8, 9999", "rank is 9999"),
    ],
)
def test_what_cannot_be_tried_is_named(axes, said):
    with pytest.raises(ConfigError, match=said):
        grid(TrainConfig(), read_axes(axes))


@pytest.mark.parametrize(
    "axes", ["rank：８、３２", "rank: 8，32,", "rank: 8; 32", "rank: 8, 8, 32"]
)
def test_values_are_read_however_a_keyboard_writes_them(axes):
    assert [each.config.rank for each in grid(TrainConfig(), read_axes(axes))] == [8, 32]


def test_long_and_odd_values_have_short_names_of_their_own():
    axes = "targets: a|b, a/b\nadapter: lora, dora\nlearning_rate: 0.00012345, 2e-4"
    suffixes = {each.suffix for each in grid(TrainConfig(), read_axes(axes))}
    assert len(suffixes) == 8 and max(map(len, suffixes)) <= 40
    assert not any(set(suffix) & set("|/") for suffix in suffixes)


def test_a_try_that_could_not_be_trained_is_refused_before_the_first(tmp_path, pairs):
    with pytest.raises(ConfigError, match="learning_rate is 0"):
        search_in(tmp_path, pairs, "learning_rate: 1e-4, 0")
    with pytest.raises(ConfigError, match="steps is -5"):
        search_in(tmp_path, pairs, steps=-5)


def test_another_plan_under_the_same_name_is_refused_in_words(tmp_path, pairs):
    search_in(tmp_path, pairs, steps=200).run(Trainer(tmp_path))
    rest = Trainer(tmp_path)
    for axes, steps in ((RATES, 400), (f"{RATES}, 8e-4, 1.6e-3, 3e-3, 6e-3, 1e-2", 200)):
        with pytest.raises(RunError, match="begun with another number of values or steps"):
            search_in(tmp_path, pairs, axes, steps).run(rest)
    assert rest.steps == 0


def test_a_try_trained_elsewhere_that_diverged_is_not_due_again(tmp_path, pairs):
    search, train = search_in(tmp_path, pairs), Trainer(tmp_path, {**GAINS, 4e-4: None})
    for leg in search.due():
        search.train(leg, train)
    assert [leg.step for leg in search.due()] == [200, 200]


def test_an_error_that_is_no_divergence_stops_the_search(tmp_path, pairs):
    def failing(leg):
        Trainer(tmp_path)(replace(leg, step=0))
        raise TrainingError("ComfyUI would ignore it")

    with pytest.raises(TrainingError, match="would ignore"):
        search_in(tmp_path, pairs).run(failing)


def test_what_diverged_with_other_settings_is_tried_again(tmp_path, pairs):
    search_in(tmp_path, pairs).run(Trainer(tmp_path, {**GAINS, 4e-4: None}))
    search = search_in(tmp_path, pairs, "learning_rate: 4e-4, 5e-4, 6e-4, 7e-4", rank=32)
    search.run(Trainer(tmp_path, dict.fromkeys((4e-4, 5e-4, 6e-4, 7e-4), 1.0)))
    assert "diverged" not in {each.verdict for each in result(search).tried}


def test_nothing_is_recommended_if_every_try_diverged(tmp_path, pairs):
    search = search_in(tmp_path, pairs)
    search.run(Trainer(tmp_path, dict.fromkeys(GAINS)))
    with pytest.raises(TrainingError, match="Every try diverged"):
        result(search)
    assert "0 training steps to do" in price(search, True)


def test_the_time_left_is_told_by_the_steps_of_others(tmp_path, pairs):
    """Steps of 0.5 s; a continued run counts its seconds from zero again."""
    search, train = search_in(tmp_path, pairs, steps=2000), Trainer(tmp_path)
    train(search.due()[0])
    run = search.run_of(0)
    entries = [*run.lines]
    run.lines.path.unlink()
    for entry in entries:
        run.log(**{**entry, "seconds": 0.5 * (entry["step"] % 980)})
    assert "5,000 training steps to do. About 42 min, at the speed" in price(search, True)


def test_too_few_held_out_pairs_are_refused(tmp_path, pairs):
    few = PairedDataset(tuple(replace(pair, split="train") for pair in pairs))
    with pytest.raises(ConfigError, match="at least 3 held-out pairs, but there are 0"):
        search_in(tmp_path, few)
