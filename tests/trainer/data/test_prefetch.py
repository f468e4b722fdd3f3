"""Steps read ahead: the same tensors, while the step before is computed, errors in their place."""

import dataclasses
import threading

import pytest
import torch
from kontext.trainer.batch import EncodedPair
from kontext.trainer.config import TrainConfig
from kontext.trainer.data import prefetch
from kontext.trainer.data.batches import Batches
from kontext.trainer.data.prefetch import Prefetch, read_step
from kontext.trainer.families.flux1 import Flux1
from safetensors.torch import save_file

CPU = torch.device("cpu")
CONFIG = TrainConfig(steps=6, accumulate=2, caption_dropout=0.5, reference_dropout=0.5, seed=3)


@pytest.fixture
def given(tmp_path):
    """Five pairs on disk, in batches of two, and FLUX.1, of which only the shift is asked for."""
    generator = torch.Generator().manual_seed(0)

    def write(name, **tensors):
        save_file(tensors, tmp_path / f"{name}.safetensors")
        return tmp_path / f"{name}.safetensors"

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    blank = write("blank", cond=torch.zeros(1, 3, 8), pooled=torch.zeros(1, 5))
    pairs = [
        EncodedPair(
            stem,
            write(f"{stem}_target", latent=draw(1, 16, 4, 4)),
            (write(f"{stem}_reference", latent=draw(1, 16, 4, 4)),),
            write(f"{stem}_text", cond=draw(1, 3, 8), pooled=draw(1, 5)),
            ((1, 16, 4, 4), (1, 16, 4, 4), (1, 3, 8)),
            texts={
                ("", False): blank,
                ("", True): blank,
                (None, True): tmp_path / f"{stem}_text.safetensors",
            },
        )
        for stem in "abcde"
    ]
    return Batches(pairs, [1] * 5, 2, CONFIG.seed), object.__new__(Flux1)


def test_a_step_is_the_same_whether_read_ahead_or_asked_for_after_a_roll_back(given):
    with Prefetch(*given, CONFIG, CPU) as coming:
        for step in (0, 1, 2, 1, 2, 3, 4, 5):
            ready, expected = coming.at(step), read_step(*given, CONFIG, CPU, step)
            assert ready.samples == expected.samples
            for one, other in zip(ready.shares, expected.shares, strict=True):
                assert one.plan.pairs == other.plan.pairs
                for mine, theirs in zip(one.tensors(), other.tensors(), strict=True):
                    assert torch.equal(mine, theirs) and not mine.is_inference()


def test_the_next_step_is_read_while_this_one_is_computed_and_none_after_the_last(
    given, monkeypatch
):
    read, begun = [], {step: threading.Event() for step in range(CONFIG.steps)}
    real = prefetch.read_step

    def watched(*arguments):
        step = arguments[-1]
        read.append((step, threading.current_thread().name))
        begun[step].set()
        return real(*arguments)

    monkeypatch.setattr(prefetch, "read_step", watched)
    with Prefetch(*given, CONFIG, CPU) as coming:
        coming.at(0)
        assert begun[1].wait(10)  # nobody has asked for it
        for step in range(1, CONFIG.steps):
            coming.at(step)
    assert [step for step, _ in read] == list(range(CONFIG.steps))
    assert all(name.startswith("kontext-prefetch") for _, name in read)


def test_what_cannot_be_read_is_an_error_of_its_own_step(given):
    batches, family = given
    config = dataclasses.replace(CONFIG, accumulate=1, caption_dropout=0.0)
    stems = [{pair.stem for pair in batches.at(step)} for step in range(2)]
    (pair, *_) = batches.at(1)
    assert pair.stem not in stems[0]
    pair.target.unlink()
    with Prefetch(batches, family, config, CPU) as coming:
        coming.at(0)
        with pytest.raises(FileNotFoundError):
            coming.at(1)


def test_no_thread_is_left_behind(given):
    with Prefetch(*given, CONFIG, CPU) as coming:
        coming.at(0)
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("kontext-prefetch") for name in names)
