"""Compiled blocks do what eager ones do, and where they cannot be had, eager ones do it."""

from functools import partial

import pytest
import torch
from kontext.trainer import host
from kontext.trainer.config import TrainConfig
from kontext.trainer.families import family_of
from kontext.trainer.families.flux1 import Flux1
from kontext.trainer.loss.objective import sample_losses
from kontext.trainer.network import opaque
from kontext.trainer.network.adapters import Dora, Kronecker, measure
from kontext.trainer.network.attach import attached
from kontext.trainer.network.compile import (
    Compiler,
    Lengths,
    difference,
    lengths_of,
    random_weights,
)
from kontext.trainer.network.lora import Lora
from torch._dynamo.utils import counters

from ..short_runs import SHORT, assert_same, interrupt_after, last_lora

SIGMA = torch.tensor([0.2, 0.8])
COMPILED = SHORT.replace(compile="blocks")


@pytest.fixture(autouse=True)
def traced(monkeypatch):
    """Traced, differentiated and cut as for inductor, but run by torch's own kernels: quick."""
    monkeypatch.setattr(Compiler, "backend", "aot_eager")
    torch._dynamo.reset()
    counters.clear()


def graphs():
    return counters["stats"]["unique_graphs"]


@pytest.fixture
def small(make_flux):
    return make_flux(depth=1, depth_single_blocks=2)


def step(family, lora, compiler, batch, noise, checkpointed, **drop):
    """Loss and gradients of one step, by compiled blocks if the compiler is active."""

    def wrapped(module):
        return opaque.TracedLinear(host.FrozenLinear(module), host.FrozenLinear(module))

    def loss():
        losses = sample_losses(family, batch, SIGMA, noise, TrainConfig(), torch.float32)
        with torch.autograd.set_multithreading_enabled(False):
            losses.mean().backward()
        return losses.mean().item()

    with (
        host.differentiable(),
        compiler.compiling(),
        lora.dropping(**drop),
        attached(family.network, lora, wrapped, host.is_linear, checkpointed, compiler=compiler),
    ):
        return compiler.run(loss, lora)


def both_ways(model, lora, make_batch, blocks, checkpointed=(), rate=0.0):
    """A step by eager blocks and by compiled ones."""
    batch, cpu = make_batch(2), torch.device("cpu")
    compiler = Compiler(blocks, cpu, torch.float32, True, pytest.fail)
    noise, seeds = torch.randn(batch.target.shape), torch.tensor([3, 4])
    take = partial(
        step, family_of(model), lora, compiler, batch, noise, checkpointed, rate=rate, seeds=seeds
    )
    eager, compiler.active = take(), True
    return eager, take()


def adapted(flux, kind, **options):
    """Every linear of the blocks with an adapter that does something."""
    linears = {n: host.FrozenLinear(p) for n, p in flux.named_modules() if host.is_linear(p)}
    chosen = {name: linears[name] for name in Flux1.targeted(linears, "all")}
    lora = Lora.create(chosen, 4, 2.0, 0, partial(kind, **options))
    measure(lora, linears, torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    for weight in lora.parameters():
        weight.data.normal_(std=0.05, generator=generator)
    return lora


@pytest.mark.slow
def test_the_same_gradients_from_one_graph_for_blocks_of_a_kind(
    weights, make_flux, make_lora, make_batch
):
    """Weights in fp8, three of four blocks checkpointed, to float32's rounding. Reference: eager
    blocks, which test_attach compares with dense autograd."""
    model = make_flux(weights=weights, options={"dtype": torch.float8_e4m3fn})
    flux = model.model.diffusion_model
    blocks = family_of(model).blocks()
    eager, compiled = both_ways(model, make_lora(flux), make_batch, blocks, blocks[:3])
    assert difference(compiled, eager) < 1e-5
    assert graphs() == 3  # to the first block come pictures that need no gradient
    assert not any("forward" in part.__dict__ for part in model.model.modules())


@pytest.mark.slow
@pytest.mark.parametrize("kind, options", [(Dora, {}), (Kronecker, {"factor": 4})])
def test_the_same_gradients_of_other_adapters_with_dropout(small, make_batch, kind, options):
    flux = small.model.diffusion_model
    lora = adapted(flux, kind, **options)
    eager, compiled = both_ways(small, lora, make_batch, flux.single_blocks, rate=0.3)
    assert difference(compiled, eager) < 1e-5
    assert graphs() == 1


def notes(run):
    return " ".join(entry.get("note", "") for entry in run.logged())


def distance(one, other):
    ours, theirs = (
        torch.cat([t.flatten() for t in last_lora(run).values()]) for run in (one, other)
    )
    return ((ours - theirs).norm() / theirs.norm()).item()


def run_out_of_memory_once(monkeypatch, step):
    """In a compiled block, in the step after this one."""
    real, update, armed = opaque.low_rank_forward, host.Progress.update, []

    def low_rank_forward(*arguments):
        if armed and armed.pop():
            raise torch.OutOfMemoryError("out of memory, on purpose")
        return real(*arguments)

    def reach(self, done, *arguments, **options):
        if done == step and not options:
            armed.append(True)
        update(self, done, *arguments, **options)

    monkeypatch.setattr(opaque, "low_rank_forward", low_rank_forward)
    monkeypatch.setattr(host.Progress, "update", reach)


@pytest.mark.slow
def test_a_run_of_two_lengths_that_runs_out_of_memory(
    run_training, small, clip, vae, make_pairs, tmp_path, monkeypatch
):
    """Two graphs serve both resolutions, and checkpointed blocks as well. After 6 steps the LoRA
    is the eager one to float32's rounding, which Adam enlarges where gradients are near zero."""
    monkeypatch.setattr(Compiler, "backend", "eager")
    given = {"base": host.Base(small, clip, vae)}
    given["pairs"] = make_pairs(tmp_path / "larger", 2, (128, 128))
    changes = {"resolution": "64, 128", "caption_dropout": 0.0, "preview_steps": 1}
    eager = run_training(SHORT.replace(**changes), "eager", **given)
    run_out_of_memory_once(monkeypatch, 3)
    compiled = run_training(COMPILED.replace(**changes), "compiled", **given)
    assert graphs() == 2
    assert "3 blocks compiled in" in notes(compiled)
    assert "out of memory at step 4" in notes(compiled)
    assert distance(compiled, eager) < 1e-3


def test_the_trial_does_not_see_what_was_learnt(small):
    """So a continued run decides as the run before did; and it leaves the LoRA as it was."""
    flux, seen = small.model.diffusion_model, []
    for adapter in (Dora, Kronecker):
        lora = adapted(flux, adapter)
        for learnt in (0.1, 0.2):
            for weight in lora.parameters():
                weight.data.fill_(learnt)
            before = lora.state_dict()
            with random_weights(lora, torch.Generator().manual_seed(5)):
                seen.append(lora.state_dict())
            assert_same(lora.state_dict(), before)
    assert_same(seen[0], seen[1])
    assert_same(seen[2], seen[3])
    assert all(tensor.std() > 0.01 for tensor in seen[0].values())


@pytest.mark.slow
def test_a_continued_run_is_bit_for_bit_the_unbroken_one(run_training, monkeypatch):
    """Also with dropout: the trial at its start draws nothing that training draws."""
    config = COMPILED.replace(dropout=0.2)
    unbroken = run_training(config, "unbroken")
    with monkeypatch.context() as patch, pytest.raises(host.Interrupted):
        interrupt_after(patch, 3)
        run_training(config, "broken")
    torch._dynamo.reset()
    broken = run_training(config, "broken")
    assert notes(broken).count("blocks compiled in") == 2
    assert_same(last_lora(broken), last_lora(unbroken))


class NoCompiler(RuntimeError):
    pass


@pytest.mark.slow
def test_without_a_compiler_it_trains_as_ever(run_training, monkeypatch):
    def fails(graph, inputs):
        raise NoCompiler("no compiler was found\nand more")

    monkeypatch.setattr(Compiler, "backend", staticmethod(fails))
    run = run_training(COMPILED, "without")
    assert "training continues without: NoCompiler: no compiler was found" in notes(run)
    assert_same(last_lora(run), last_lora(run_training(SHORT, "eager")))


def test_a_mistake_of_ours_in_a_compiled_block_comes_out(run_training, monkeypatch):
    def fails(*_):
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(Compiler, "backend", "eager")
    monkeypatch.setattr(opaque, "low_rank_forward", fails)  # which only compiled blocks call there
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        run_training(COMPILED, "mistaken")


@pytest.mark.slow
def test_wrong_kernels_are_found_out(run_training, monkeypatch):
    def wrong(graph, inputs):
        return lambda *given: [1.01 * tensor for tensor in graph(*given)]

    monkeypatch.setattr(Compiler, "backend", staticmethod(wrong))
    run = run_training(COMPILED, "wrong")
    assert "training continues without: gradients would be" in notes(run)
    assert_same(last_lora(run), last_lora(run_training(SHORT, "eager")))


def test_lengths_are_those_of_all_steps():
    """By hand: 64 × 64 pixels are 16 tokens, 64 × 128 are 32."""
    small, tall, text = (1, 16, 8, 8), (1, 16, 16, 8), (1, 24, 64)
    shapes = [(small, small, text), (small, tall, text)]
    plain = lengths_of(shapes, [24, 30], TrainConfig(), Flux1.tokens)
    assert plain == Lengths((24, 30), (32, 48))
    assert plain.bounds("x") == plain.bounds("turns") == (56, 78)
    assert lengths_of(shapes, [], TrainConfig(reference_dropout=0.1), Flux1.tokens).pictures == (
        16,
        48,
    )
    assert lengths_of(shapes, [], TrainConfig(preserve=1.0), Flux1.tokens).pictures == (32, 64)
