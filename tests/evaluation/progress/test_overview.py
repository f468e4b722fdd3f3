"""The list of all runs: one that is broken never hides the others."""

import pytest
from kontext.evaluation.progress.overview import summaries
from kontext.trainer.config import TrainConfig
from kontext.trainer.runs.identity import Identity
from kontext.trainer.runs.run import Run


@pytest.mark.slow
@pytest.mark.parametrize("file", ["run.yaml", "lock.json", "log.jsonl"])
@pytest.mark.parametrize(
    "content", [b"[" * 50_000, b"{" * 50_000, b"\0" * 900, b"\xff\xfe", b"3", b'{"config": 3}']
)
def test_whatever_stands_in_the_files_of_one_run(tmp_path, file, content):
    for name in ("broken", "whole"):
        Run.create(name, tmp_path, Identity(TrainConfig(steps=9, alpha=16.0), "base", "pairs"))
    (tmp_path / "kontext_runs" / "broken" / file).write_bytes(content)
    found = {each.name: each for each in summaries(tmp_path)}
    assert found["whole"].state == "stopped" and found["whole"].steps == 9
    assert found["broken"].state == ("damaged" if file == "run.yaml" else "stopped")
