"""What a training leaves that ends with the verdict: the LoRA to keep, marked and safe."""

from dataclasses import replace

import pytest
from kontext.dataset.pair import PairedDataset
from kontext.evaluation.pictures.loras import loras_of_run
from kontext.evaluation.progress.curves import Course
from kontext.evaluation.progress.overview import summary
from kontext.evaluation.progress.run_page import checkpoints
from kontext.evaluation.score import conclude as concluding
from kontext.trainer.config import ConfigError, TrainConfig
from kontext.trainer.request import TrainingRequest
from kontext.trainer.runs.run import Run

from ...finished import put_run
from .test_report import scores_of

UNDER_GOOD_OVER = [(0.02, 0.02), (0.10, 0.11), (0.02, 0.2)]


@pytest.fixture
def ended(tmp_path, monkeypatch):
    """conclude(choose) on a run whose checkpoints at 500, 1000, 1500 are as named above."""
    put_run(tmp_path, "rings")
    run = Run.open("rings", tmp_path)

    def known_scores(base, loras, *_):
        found = scores_of(UNDER_GOOD_OVER)
        assert [lora.step for lora in loras] == [500, 1000, 1500]
        return replace(found, loras=tuple(loras))

    monkeypatch.setattr(concluding, "score", known_scores)

    def end(choose):
        config = run.config.replace(choose=choose)
        run.file.write_identity(replace(run.identity(), config=config))
        places = tmp_path, tmp_path / "cache"
        request = TrainingRequest(None, PairedDataset(()), config, "rings", *places)
        return run, concluding.conclude(request, run)

    return end


def test_the_one_to_keep_is_marked_and_never_deleted(ended):
    run, conclusion = ended("mark")
    assert conclusion.step == 1000 and conclusion.advice.startswith("Keep step 1000")
    assert run.drop_oldest(1) == []
    assert [each.step for each in run.checkpoints()] == [1000, 1500]
    rows = {row["step"]: row for row in checkpoints(run, Course(run.lines))}
    assert rows[1000]["keep"] and not rows[1500]["keep"]
    assert (rows[1000]["verdict"], rows[1500]["verdict"]) == ("good", "over-fitted")
    assert summary(run).keep == 1000
    assert not [*run.lora_folder.glob("*_best*")]


def test_the_node_says_how_the_run_ended_and_what_to_keep(ended, caplog):
    caplog.set_level("INFO", "kontext.progress")
    ended("mark")
    assert "finished: 1500 steps, 3 checkpoints in" in caplog.messages[-1]
    assert "Keep step 1000" in caplog.messages[-1]


def test_its_name_says_so_on_request(ended):
    run, _ = ended("name")
    best = run.lora_folder / "rings_best.safetensors"
    assert best.read_bytes() == run.checkpoint_at(1000).path.read_bytes()
    assert len(loras_of_run(run)) == 3, "the copy is no checkpoint"
    ended("mark")
    assert not best.exists()


def test_nothing_is_scored_unless_asked(ended):
    run, conclusion = ended("off")
    assert conclusion is None and not run.pinned()


def test_a_verdict_that_held_out_pairs_cannot_carry_is_refused_before_training():
    config = TrainConfig(choose="mark")
    assert config.settled(20, True, 4).choose == "mark"
    with pytest.raises(ConfigError, match="at least 4 held-out pairs, but there are 3"):
        config.settled(20, True, 3)
