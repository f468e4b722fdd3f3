"""Files written before settings were merged: read, and their runs continued."""

import pytest
import yaml
from kontext.trainer import host
from kontext.trainer.config import SETTINGS, ConfigError, TrainConfig
from kontext.trainer.runs.job import Job
from kontext.trainer.runs.run import Run

from ..short_runs import SHORT, assert_same, interrupt_after, last_lora

# Every key that such a file had, none at its default
OLD = """\
steps: 700
rank: 16
alpha: 8.0
learning_rate: 0.0002
batch_size: 2
accumulate: 3
save_every: 100
keep: 9
seed: 7
dtype: bf16
save_dtype: fp32
resolution: 640
reference_resolution: 320
aspect: square
targets: attention
timesteps: detail
schedule: linear
warmup_steps: 10
weight_decay: 0.02
max_grad_norm: 2.0
caption_dropout: 0.1
guidance: 2.5
checkpointing: 'on'
preview_steps: 5
validate_every: 50
tensorboard: true
optimizer: lion
beta1: 0.8
beta2: 0.99
restarts: 4
ema: 0.9
rank_stabilised: true
lora_plus: 4.0
pattern: single_blocks.*linear2
loss: huber
huber_delta: 0.2
edit_weight: 0.0
reference_dropout: 0.2
flip: true
sigma_mean: 0.5
sigma_spread: 1.5
sigma_shift: 2.0
max_vram: 16.0
adapter: dora
dropout: 0.05
lokr_factor: 4
outside_mask: 0.2
resolutions: 512, 768
preserve: 1.0
preserve_every: 2
preserve_prompts: Make it rain
matmul: int8
compile: blocks
"""
LATER = {"stop", "choose"}  # settings that files of then do not have
MERGED = {"resolution": "512, 768", "targets": "single_blocks.*linear2", "alpha": 32.0}


def test_every_setting_of_an_old_file_is_taken_over():
    """rsLoRA's scale is alpha / √rank: 8 / 4, as 32 / 16 is."""
    old = yaml.safe_load(OLD)
    config = TrainConfig.parse(old)
    job = Job.parse({"name": "a", "pairs": "p", "config": old})
    assert job.config == config
    for name in SETTINGS.keys() - LATER:
        assert getattr(config, name) == MERGED.get(name, old[name]), name
    assert config.scale == 2.0 and config.sides == (512, 768)


def test_merged_settings_that_were_not_used_say_nothing():
    old = {"resolution": 640, "resolutions": "", "targets": "all", "pattern": "", "alpha": 4.0}
    config = TrainConfig.parse({**old, "rank_stabilised": False})
    assert config == TrainConfig(resolution=640, targets="all", alpha=4.0)


@pytest.mark.parametrize("key", ["resolutions", "pattern", "rank_stabilised"])
def test_an_old_setting_that_is_wrong_is_named(key):
    with pytest.raises(ConfigError, match="resolution|targets|rank_stabilised"):
        TrainConfig.parse({key: "(("})


@pytest.mark.slow
@pytest.mark.parametrize(
    "today, before",
    [
        ({}, {"resolutions": "", "pattern": "", "rank_stabilised": False}),
        ({"resolution": "64, 96"}, {"resolution": 512, "resolutions": "64, 96"}),
        ({"targets": "linear2"}, {"targets": "blocks", "pattern": "linear2"}),
        ({"alpha": 8.0}, {"alpha": 4.0, "rank_stabilised": True}),
    ],
    ids=str,
)
def test_a_run_begun_before_is_continued(run_training, monkeypatch, today, before):
    """Each step is made once, and the LoRA is that of a run without a break."""
    config = SHORT.replace(**today)
    whole = run_training(config, name="whole")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4)
        with pytest.raises(host.Interrupted):
            run_training(config, name="begun")
    begun = Run.open("begun", whole.output)
    path = begun.folder / "run.yaml"
    content = yaml.safe_load(path.read_text("utf-8"))
    content["config"] |= before
    path.write_text(yaml.safe_dump(content), encoding="utf-8")

    run_training(config, name="begun")
    assert [entry["step"] for entry in begun.logged()] == [1, 2, 3, 4, 5, 6]
    assert_same(last_lora(begun), last_lora(whole))


def test_a_run_of_a_million_steps_ends(run_training):
    """Seven digits in file names; the first 999,998 steps are skipped here."""
    run = run_training(SHORT.replace(steps=2, schedule="constant"))
    _, tensors, rest = run.state.read()
    run.write_state(999_998, tensors, rest)
    (last,) = run.checkpoints()
    last.path.rename(last.path.with_name(f"{run.name}_999998.safetensors"))

    long = SHORT.replace(steps=1_000_000, schedule="constant")
    run = run_training(long)
    assert run.finished and run.steps_done() == 1_000_000
    assert [entry["step"] for entry in run.logged()][-2:] == [999_999, 1_000_000]
    assert run.checkpoint_at(0).path.name == f"{run.name}_1000000.safetensors"
    assert [each.step for each in run.checkpoints()] == [999_998, 1_000_000]
    before = run.checkpoint_at(0).path.stat().st_mtime_ns
    run_training(long)  # finished: used as it is
    assert run.checkpoint_at(0).path.stat().st_mtime_ns == before
