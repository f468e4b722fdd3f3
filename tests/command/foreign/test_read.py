"""Whose file is it, what is said of nobody's, and that nothing ends in a traceback."""

import pytest
import yaml
from kontext.command.foreign import ai_toolkit, kohya, kohya_gui
from kontext.command.foreign.read import is_ours
from kontext.trainer.config import ConfigError
from kontext.trainer.runs.identity import RunError
from kontext.trainer.runs.job import JobError

SEEDS = (
    {"config": {"name": "a", "process": [{"type": "sd_trainer", "network": {"type": "lora"},
     "datasets": [{"folder_path": "a", "control_path": "b"}], "train": {"lr": 1e-4}}]}},
    {"datasets": [{"image_directory": "a", "control_directory": "b", "subsets": [{}]}],
     "network_dim": 8, "optimizer_args": ["betas=0.9,0.99"], "network_args": "algo=lokr"},
    {"LoRA_type": "Flux1", "flux1_checkbox": True, "train_data_dir": "x", "epoch": 4,
     "lr_warmup": 10, "additional_parameters": "--a 1", "max_resolution": "512,512"},
    {"name": "a", "model": "demo", "pairs": [{"control_folder": "a", "holdout": 0.1}],
     "config": {"steps": 3}, "samples": {"every": 2}, "epochs": 2},
)  # fmt: skip
JUNK = (None, "", "ten", -1, 1e999, [], [[1]], {}, {"a": {"b": 1}}, True, "x" * 300, "\u2028")


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("a__yaml", "[1, 2]", "holds no settings"),
        ("a__yaml", "a: [", "is broken"),
        ("a__yaml", "lora: {rank: 3}", "neither ours"),
        ("a__toml", "a = ", "is broken"),
        ("a__yaml", "{name: a, pairs: p, setings: {}}", "unknown setings"),
        ("a__yaml", "{name: a, model: demo, pars: p}", "unknown pars"),
    ],
)
def test_files_of_no_kind(read, name, text, words):
    with pytest.raises(JobError, match=words):
        read(**{name: text})


def test_each_seed_is_told_by_its_keys():
    kinds = [ai_toolkit.recognise, kohya.recognise, kohya_gui.recognise, is_ours]
    told = [[bool(kind(seed)) for kind in kinds].index(True) for seed in SEEDS[:2]]
    assert told == [0, 1] and kohya_gui.recognise(SEEDS[2]) and is_ours(SEEDS[3])


def places(value: object, above: tuple = ()) -> list[tuple]:
    """Every place inside of nested settings."""
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [above] * bool(above) + [p for key, each in inside for p in places(each, (*above, key))]


def replaced(value, place: tuple, by: object):
    if not place:
        return by
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = replaced(value[place[0]], place[1:], by)
    return copy


@pytest.mark.parametrize("seed", SEEDS, ids=["ai-toolkit", "kohya", "kohya_ss", "ours"])
def test_no_value_ends_in_a_traceback(read, seed):
    """Each value of each file replaced by each junk: a job, or a sentence."""
    said = done = 0
    for place in places(seed):
        for junk in JUNK:
            try:
                read(a__yaml=yaml.safe_dump(replaced(seed, place, junk)))
                done += 1
            except (JobError, ConfigError, RunError) as error:
                assert str(error)
                said += 1
    assert said > 10 and done > 10
