"""DoRA, LoKr, LoHa and dropout: PEFT's mathematics, ComfyUI's files, and whole runs."""

from dataclasses import replace

import comfy.ops
import peft
import pytest
import torch
from kontext.dataset.pair import PairedDataset
from kontext.trainer import host
from kontext.trainer.batch import Batch, Text
from kontext.trainer.config import ConfigError, TrainConfig
from kontext.trainer.families import family_of
from kontext.trainer.families.flux1 import Flux1
from kontext.trainer.loss.objective import sample_losses
from kontext.trainer.memory import Footprint
from kontext.trainer.network.adapters import adapter_kind, adapter_units, factors, measure
from kontext.trainer.network.attach import attached
from kontext.trainer.network.lora import Dropout, Lora
from kontext.trainer.runs.export import comfyui_tensors, export_lora, read_lora
from safetensors.torch import load_file
from torch import nn

from ...allocator import peak_of
from ..predictions import in_training, predict
from ..short_runs import SHORT, last_lora

KINDS = {
    "lora": TrainConfig(rank=4, alpha=8.0),
    "dora": TrainConfig(rank=4, alpha=8.0, adapter="dora"),
    "lokr": TrainConfig(rank=4, alpha=8.0, adapter="lokr"),
    "lokr in part full": TrainConfig(rank=8, alpha=8.0, adapter="lokr"),
    "loha": TrainConfig(rank=4, alpha=8.0, adapter="loha"),
}
OTHERS = [kind for kind in KINDS if kind != "lora"]


def adapters_of(linears, config) -> Lora:
    """Adapters that change something: no parameter is zero."""
    lora = Lora.create(linears, config.rank, config.scale, 0, adapter_kind(config))
    measure(lora, linears, torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    for parameter in lora.parameters():
        if not parameter.any():
            parameter.data.normal_(std=0.05, generator=generator)
    return lora


def adapters_on(flux, config, targets="all") -> Lora:
    linears = {n: host.FrozenLinear(p) for n, p in flux.named_modules() if host.is_linear(p)}
    return adapters_of({name: linears[name] for name in Flux1.targeted(linears, targets)}, config)


def frozen_linear(inside: int, outside: int) -> nn.Linear:
    linear = comfy.ops.manual_cast.Linear(inside, outside)
    generator = torch.Generator().manual_seed(2)
    for parameter in linear.parameters():
        parameter.data.normal_(std=inside**-0.5, generator=generator)
        parameter.requires_grad_(False)
    return linear


# ---- one layer, against PEFT ---------------------------------------------------------------


def in_peft(config, weight):
    """PEFT's layer around this weight, without a bias."""
    rank, alpha, modules = config.rank, config.alpha, ["0"]
    configs = {
        "lora": lambda: peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules),
        "dora": lambda: peft.LoraConfig(
            r=rank, lora_alpha=alpha, target_modules=modules, use_dora=True
        ),
        "lokr": lambda: peft.LoKrConfig(
            r=rank, alpha=alpha, target_modules=modules, decompose_factor=config.lokr_factor
        ),
        "loha": lambda: peft.LoHaConfig(r=rank, alpha=alpha, target_modules=modules),
    }
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data.copy_(weight)
    return peft.get_peft_model(nn.Sequential(linear), configs[config.adapter]()).base_model.model[0]


def peft_result(config, linear, layer, x, dropped):
    """Output and gradients of PEFT's layer with our layer's weights."""
    weight, parts = linear.weight, dict(layer.named_parameters())
    if config.adapter == "dora":
        # PEFT measures rows: on the transposed weight those are our columns
        theirs = in_peft(config, weight.T)
        values = {
            "down": (theirs.lora_B["default"].weight, parts["down"].T),
            "up": (theirs.lora_A["default"].weight, parts["up"].T),
            "magnitude": (
                theirs.lora_magnitude_vector["default"].weight,
                (1 + parts["magnitude"]) * weight.norm(dim=0),
            ),
        }
    elif config.adapter == "lora":
        theirs = in_peft(config, weight)
        values = {
            "down": (theirs.lora_A["default"].weight, parts["down"]),
            "up": (theirs.lora_B["default"].weight, parts["up"]),
        }
    else:
        theirs = in_peft(config, weight)
        values = {name: (getattr(theirs, name)["default"], parts[name]) for name in parts}
    for parameter, value in values.values():
        assert parameter.shape == value.shape
        parameter.data.copy_(value)
    if config.adapter == "dora":
        changed = theirs(torch.eye(len(weight)))  # the adapted weight, by PEFT's own forward
        y = linear(x) + nn.functional.linear(dropped, changed - weight)
    else:
        y = linear(x) + theirs(dropped) - nn.functional.linear(dropped, weight)
    y.square().mean().backward()
    gradients = {name: parameter.grad for name, (parameter, _) in values.items()}
    if config.adapter == "dora":
        gradients = {
            "down": gradients["down"].T,
            "up": gradients["up"].T,
            "magnitude": gradients["magnitude"] * weight.norm(dim=0),
        }
    return y.detach(), gradients


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_pefts(kind, rate):
    """Forward, and the gradients of every parameter and of the input.

    Dropout is that of PEFT's lora_dropout: the frozen weight sees the whole input.
    """
    config, linear = KINDS[kind], frozen_linear(64, 96)
    base = host.FrozenLinear(linear)
    (layer,) = adapters_of({"": base}, config).layers.values()
    x = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(3))
    seeds = torch.tensor([7, 8])

    def drop(value):
        return Dropout.apply(value, rate, seeds)

    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    y = layer(inputs[0], base, 1.0, drop if rate else None)
    y.square().mean().backward()
    dropped = drop(inputs[1]) if rate else inputs[1]
    theirs, gradients = peft_result(config, linear, layer, inputs[1], dropped)
    torch.testing.assert_close(y.detach(), theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-4, atol=1e-7)
    ours = {name: parameter.grad for name, parameter in layer.named_parameters()}
    assert ours.keys() == gradients.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], gradients[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_no_dense_weight_is_kept_for_backward(kind):
    base = host.FrozenLinear(frozen_linear(96, 160))
    (layer,) = adapters_of({"": base}, KINDS[kind]).layers.values()
    x, kept = torch.randn(1, 3, 96, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(x, base)
    assert kept and max(tensor.numel() for tensor in kept) < 96 * 160 / 2


def test_factors_are_those_of_lycoris():
    """Reference: ComfyUI's copy of its factorization, for all of FLUX.1's sizes."""
    from comfy.weight_adapter.base import factorization

    for size in (128, 896, 3072, 9216, 12288, 15360, 18432, 21504):
        for factor in (4, 8, 16):
            assert factors(size, factor) == factorization(size, factor)
        assert factors(size, 0) == factorization(size, -1)
    assert factors(127, 8) == (1, 127)


def test_dropout_is_bernoulli_and_follows_the_sample():
    """A share of zeros, the mean kept; a sample's mask is the same in whatever batch it comes."""
    x, seeds = torch.ones(3, 200, 100), torch.tensor([5, 6, 7])
    y = Dropout.apply(x, 0.3, seeds)
    zeros = (y == 0).float().mean(dim=(1, 2))
    deviation = (0.3 * 0.7 / 20_000) ** 0.5
    assert ((zeros - 0.3).abs() < 4 * deviation).all()
    assert torch.equal(y[y != 0].unique(), torch.tensor([1 / 0.7]))
    assert not torch.equal(y[0], y[1])
    assert torch.equal(Dropout.apply(x[1:], 0.3, seeds[1:]), y[1:])


# ---- the whole model, against ComfyUI ------------------------------------------------------


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("kind", KINDS)
def test_comfyui_does_with_the_file_what_training_did(base, question, tmp_path, kind, strength):
    """Reference: the model with the saved file loaded as LoraLoaderModelOnly loads it."""
    config = KINDS[kind]
    lora = adapters_on(base.network, config)
    named = comfyui_tensors(lora.file_tensors(), config.scale * config.rank, torch.float32)
    path = export_lora(named, {}, tmp_path / "edit.safetensors", "comfyui")
    tensors = host.load_lora_file(path)
    assert host.unmapped_keys(base.model, tensors) == []
    before = in_training(base, Lora({}), question)
    lora.strength = strength
    trained = in_training(base, lora, question)
    with torch.inference_mode():
        model = host.with_lora(base.model, tensors, strength)
        host.device.memory.load_models_gpu([model])
        loaded = predict(model, question)
        model.unpatch_model()
    assert (loaded - before).abs().max() > 0.05
    torch.testing.assert_close(loaded, trained, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_computing_twice_meets_the_same_masks(base, make_batch, lora_gradients, kind):
    batch, lora = make_batch(2), adapters_on(base.network, KINDS[kind])
    noise, sigma = torch.randn(batch.target.shape), torch.tensor([0.2, 0.8])
    sides = []
    for rate, checkpointing in [(0.2, False), (0.2, True), (0.0, False)]:
        with lora.dropping(rate, torch.tensor([1, 2])):
            sides.append(lora_gradients(base.model, lora, batch, noise, sigma, checkpointing))
    kept, again, whole = sides
    assert all(torch.equal(one, other) for one, other in zip(kept, again, strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(kept, whole, strict=True))


@pytest.mark.parametrize("kind, rate", [("lora", 0.1), ("dora", 0.0), ("lokr", 0.1), ("loha", 0.1)])
def test_the_memory_plan_counts_them(make_flux, kind, rate):
    """The peak of torch's allocator in a step with every block checkpointed is not above it."""
    dtype, hidden, shape = torch.bfloat16, 256, dict(depth=1, depth_single_blocks=2)
    family = family_of(
        make_flux(options={"dtype": dtype}, hidden_size=hidden, num_heads=2, **shape)
    )
    flux = family.network
    config = KINDS[kind].replace(rank=2, dropout=rate)
    lora = adapters_on(flux, config, "blocks")
    for weight in lora.parameters():
        weight.grad = torch.zeros_like(weight)
    text = Text(torch.randn(1, 128, 64), torch.randn(1, 32))
    batch = Batch(torch.randn(1, 16, 40, 40), (torch.randn(1, 16, 40, 40),), text)
    question = (batch, torch.tensor([0.5]), torch.randn(batch.target.shape), config, dtype)

    def step():
        parts = (flux, lora, host.FrozenLinear, host.is_linear, family.blocks())
        with host.differentiable(), attached(*parts), lora.dropping(rate, torch.tensor([3])):
            sample_losses(family, *question).mean().backward()

    step()  # what is allocated once only
    unit = (2 * 20 * 20 + 128) * hidden * dtype.itemsize
    transient = family.transient + family.ends + adapter_units(config)
    of = Footprint(family.block_memory(), unit, 0, 0, 0, 0, 0, 1, transient)
    assert 0.9 * of.activations(3) < peak_of(step) < of.activations(3)


# ---- files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OTHERS)
def test_files_are_read_back_and_refused_where_they_do_not_fit(base, tmp_path, kind):
    config = KINDS[kind]
    tensors = adapters_on(base.network, config).file_tensors()
    named = comfyui_tensors(tensors, 8.0, torch.bfloat16)
    again, alpha = read_lora(named)
    assert alpha == 8.0 and again.keys() == tensors.keys()
    path = export_lora(named, {}, tmp_path / "edit.safetensors", "comfyui")
    saved = load_file(path)
    assert all(torch.equal(saved[name], named[name]) for name in named)
    for name, tensor in saved.items():
        whole = name.endswith((".alpha", ".dora_scale"))
        assert tensor.dtype == (torch.float32 if whole else torch.bfloat16)
    for form in ("diffusers", "peft"):
        with pytest.raises(ValueError, match=f"{kind[:4].title()[:2]}.*cannot be saved as {form}"):
            export_lora(named, {}, tmp_path / "other.safetensors", form)


def test_an_unknown_part_is_named(base):
    tensors = adapters_on(base.network, KINDS["loha"]).file_tensors()
    named = comfyui_tensors(tensors, 8.0, torch.float32)
    key = "lora_unet_single_blocks_0_linear1.hada_t1"
    with pytest.raises(ValueError, match=key):
        read_lora({**named, key: torch.zeros(1)})


def test_a_high_loha_rank_is_refused():
    with pytest.raises(ConfigError, match="rank is 64"):
        TrainConfig(adapter="loha", rank=64)


# ---- whole runs ----------------------------------------------------------------------------


@pytest.mark.slow
def test_every_kind_learns(run_training):
    """The mean loss of the last steps is below that of the first, at one learning rate for all."""
    for kind, settings in KINDS.items():
        config = SHORT.replace(
            adapter=settings.adapter, rank=settings.rank, steps=60, save_every=60, dropout=0.05,
            learning_rate=5e-3, schedule="constant", timesteps="structure",
        )  # fmt: skip
        losses = [entry["loss"] for entry in run_training(config, name=kind).logged()]
        assert sum(losses[-20:]) < 0.95 * sum(losses[:20]), kind


@pytest.mark.parametrize("kind", OTHERS)
def test_a_run_starts_from_a_file_of_its_kind(run_training, kind):
    """With no learning rate it ends as it began, whatever its own scale; others are refused."""
    config = SHORT.replace(adapter=KINDS[kind].adapter, rank=KINDS[kind].rank, keep=1)
    first = last_lora(run_training(config.replace(alpha=2.0 * config.rank), name="first"))
    still = config.replace(learning_rate=1e-30, weight_decay=0.0, steps=2)
    second = last_lora(run_training(still, name="second", start=first))
    assert first.keys() == second.keys()
    last = {"dora": ".lora_up.weight", "lokr": ".lokr_w2_a", "loha": ".hada_w2_a"}[config.adapter]
    for name in first:
        prefix = name.rsplit(".", 1)[0].removesuffix(".lora_up")
        scaled = [t[name] * t[f"{prefix}.alpha"] if name.endswith(last) else t[name]
                  for t in (first, second)]  # fmt: skip
        if not name.endswith(".alpha"):
            torch.testing.assert_close(*scaled, rtol=1e-5, atol=1e-9)
    with pytest.raises(ValueError, match="of another kind.*adapter"):
        run_training(SHORT.replace(rank=KINDS[kind].rank), name="third", start=first)


@pytest.mark.slow
def test_held_out_pairs_see_no_dropout(base, run_training, make_pairs, tmp_path):
    """A LoRA that does not learn measures the same with and without."""
    start = comfyui_tensors(adapters_on(base.network, KINDS["lora"], "blocks").file_tensors(), 8.0,
                            torch.float32)  # fmt: skip
    more = make_pairs(tmp_path / "pairs", 3).pairs
    split = PairedDataset((*more[:2], replace(more[2], split="holdout")))
    config = SHORT.replace(learning_rate=1e-30, weight_decay=0.0, steps=2, validate_every=1)
    plain, dropped = (
        run_training(config.replace(dropout=rate), name=f"{rate}", pairs=split, start=start)
        for rate in (0.0, 0.5)
    )
    for one, other in zip(plain.logged(), dropped.logged(), strict=True):
        assert one["holdout"] == other["holdout"] != one["holdout_base"]
        assert one["loss"] != other["loss"]


def test_the_metadata_name_the_kind(run_training):
    config = SHORT.replace(steps=2, adapter="lokr", lokr_factor=4)
    run = run_training(config)
    metadata = run.checkpoints()[-1].metadata()
    assert last_lora(run)["lora_unet_single_blocks_0_linear1.lokr_w1"].shape == (4, 4)
    assert metadata["ss_network_module"] == "lycoris.kohya"
    assert '"factor": "4"' in metadata["ss_network_args"]
