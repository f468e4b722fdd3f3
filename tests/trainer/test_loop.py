import torch
from kontext.trainer.config import TrainConfig
from kontext.trainer.loop import train

SHORT = TrainConfig(
    steps=4, rank=4, learning_rate=1e-2, save_every=2, dtype="fp32", save_dtype="fp32"
)


def run_training(base, pairs, folder, config=SHORT, name="test", **options):
    return train(base, pairs, config, name, folder / "output", folder / "cache", **options)


def test_a_run_leaves_checkpoints_log_and_settings(base, pairs, tmp_path):
    with torch.inference_mode():
        run = run_training(base, pairs, tmp_path)
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [2, 4]
    assert [entry["step"] for entry in run.logged()] == [1, 2, 3, 4]
    assert run.config == SHORT.replace(alpha=4.0)
    assert run.finished
