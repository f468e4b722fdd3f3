"""How the demo model is made: optimizer, separation of instructions, lessons, pace."""

import copy

import comfy.model_management
import numpy as np
import pytest
import torch
from kontext.trainer.host.demo import FOLDER
from safetensors.torch import load_file

from demo_model.batches import PICKS, UNKNOWN, unlike
from demo_model.edits import HELD_OUT, PRACTISED, TRAINED, composed
from demo_model.lessons import REMEMBERED, STEPS, Lessons
from demo_model.optimizer import HiddenAndRest
from demo_model.separation import Separation, gate_of, likeness, reach
from demo_model.transformer import SHAPE, at_pace, build_flux, velocity


def test_a_convolution_is_stepped_as_the_matrix_of_its_rows():
    """Reference: torch's own Muon on the matrix, its AdamW on the bias, with the same gradients."""
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(8, 8, 3)
    matrix = torch.nn.Parameter(layer.weight.detach().flatten(1).clone())
    bias = torch.nn.Parameter(layer.bias.detach().clone())
    muon = torch.optim.Muon([matrix], lr=5e-3, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([bias], lr=1e-2, betas=(0.9, 0.98), weight_decay=0.0)
    optimizer = HiddenAndRest([layer.weight], [layer.bias], (1e-2, 2e-2), (0.9, 0.98))
    for _ in range(3):
        layer.zero_grad()
        layer(torch.randn(2, 8, 6, 6)).square().mean().backward()
        matrix.grad, bias.grad = layer.weight.grad.flatten(1).clone(), layer.bias.grad.clone()
        optimizer.step(0.5)
        muon.step()
        adamw.step()
    torch.testing.assert_close(layer.weight.flatten(1), matrix)
    torch.testing.assert_close(layer.bias, bias)


@pytest.mark.parametrize("shape", [SHAPE, (128, 1, 2)])
@pytest.mark.parametrize("paces", [(1.0, 1.0), (3.0, 3.0), (5.0, 2.0)])
def test_the_pace_of_its_weights_leaves_its_answer_alone(paces, shape):
    """Reference: ComfyUI's network with the weights as they were."""
    torch.manual_seed(0)
    flux = build_flux(shape).requires_grad_(False)
    for weight in flux.parameters():
        weight.add_(0.02 * torch.randn_like(weight))
    given = (
        torch.randn(2, 16, 8, 8),
        torch.rand(2),
        (torch.randn(2, 24, 64), torch.randn(2, 32)),
        torch.full((2,), 2.5),
        torch.randn(2, 16, 8, 8),
    )
    before = velocity(flux, *given)
    weights = {name: weight.clone() for name, weight in flux.state_dict().items()}
    readings = {
        layer: 0.5 + torch.rand(shape[0])
        for layer in (
            "double_blocks.0.img_attn.qkv",
            "double_blocks.0.txt_mlp.0",
            "single_blocks.1.linear1",
        )
    }
    paced = at_pace(weights, paces, readings)
    qkv = "double_blocks.0.img_attn.qkv"
    torch.testing.assert_close(
        paced[f"{qkv}.weight"], weights[f"{qkv}.weight"] / paces[0] / readings[qkv]
    )
    projection = "single_blocks.1.linear2.weight"
    torch.testing.assert_close(paced[projection], weights[projection] / paces[1])
    flux.load_state_dict(paced)
    torch.testing.assert_close(velocity(flux, *given), before, rtol=1e-4, atol=1e-5)


def test_likeness_counts_shared_directions():
    """Closed forms: orthogonal subspaces, the same tokens, and independent ones, whose squared
    cosine is 1 / channels on average."""
    torch.manual_seed(0)
    apart, samples, tokens, channels = ~torch.eye(2, dtype=torch.bool), 2, 40, 50
    one, other = torch.randn(tokens, channels), torch.randn(tokens, channels)
    assert likeness(torch.stack([one, one]), apart) == pytest.approx(1)
    half = torch.arange(channels) < channels // 2
    assert likeness(torch.stack([one * half, other * ~half]), apart) == 0
    assert likeness(torch.stack([one, one]), apart & False) == 0
    within = 1 / tokens + (1 - 1 / tokens) / channels
    found = likeness(torch.randn(20 * samples, tokens, channels), ~torch.eye(40, dtype=torch.bool))
    assert found == pytest.approx(1 / channels / within, rel=0.02)


def test_reach_is_what_a_loras_step_on_some_samples_changes_for_others():
    """Reference: the first step of plain gradient descent on LoRAs with random `down`, with a
    random error for each token that is learnt."""
    torch.manual_seed(0)
    x = torch.randn(3, 50, 4) * torch.tensor([1.0, 1.0, 3.0])[:, None, None]
    x[0, :, :2] = 0
    learnt = torch.tensor([True, False, False])
    changes = []
    for _ in range(4000):
        down = torch.randn(3, 4)
        up = torch.einsum("to,tr->or", torch.randn(50, 8), x[0] @ down.T)
        changes.append((x @ down.T @ up.T).square().mean((1, 2)))
    learnt_change, *others = torch.stack(changes).mean(0)
    expected = sum(others) / 2 / learnt_change
    torch.testing.assert_close(reach(x, learnt, ~learnt, rank=3), expected, rtol=0.03, atol=0)


@pytest.mark.parametrize("layer", [
    "double_blocks.0.img_attn.proj", "double_blocks.0.txt_attn.proj", "double_blocks.1.img_mlp.0",
    "double_blocks.0.txt_mlp.2", "single_blocks.2.linear1", "single_blocks.3.linear2",
])  # fmt: skip
def test_what_a_layer_adds_passes_its_gate(flux, layer):
    """Reference: ComfyUI's network, in which a closed gate hides a change of the layer."""
    modulation, which = gate_of(layer)
    for gate in range(2 if "double" in layer else 1):
        closed = copy.deepcopy(flux).requires_grad_(False)
        closed.get_submodule(modulation).weight.view(-1, 3, 256, 256)[gate, 2] = 0
        before = answer(closed)
        closed.get_submodule(layer).weight *= 1.5
        assert torch.equal(answer(closed), before) == (gate == which)


def test_a_lora_reads_what_speaks_under_unknown_words(flux):
    """Closed form: energies 4 and 1 of unknown words against 1 and 1."""
    separation, name = Separation(flux), "double_blocks.0.img_attn.qkv"
    x = torch.ones(2, 5, 256)
    x[0, :, :128] = 2
    separation.inputs[name], separation.gates["double_blocks.0.img_mod.lin"] = x, torch.ones(2, 2)
    separation.compare(~torch.eye(2, dtype=torch.bool), torch.tensor([True, False]))
    reading = separation.reading(name)
    torch.testing.assert_close(reading[0], 2 * reading[200])
    torch.testing.assert_close((reading * x[0]).square().sum(), x[0].square().sum())
    assert separation.reading("double_blocks.0.img_attn.proj") == 1


@pytest.mark.slow
def test_what_two_instructions_make_the_network_compute_can_be_kept_apart(flux):
    separation = Separation(flux)
    optimizer = torch.optim.AdamW(flux.parameters(), lr=1e-3)
    picture, noise = (torch.randn(1, 16, 8, 8).expand(2, -1, -1, -1) for _ in range(2))
    text = torch.randn(2, 24, 64), torch.randn(2, 32)
    measured = []
    for _ in range(8):
        velocity(flux, noise, torch.full((2,), 0.6), text, torch.full((2,), 2.5), picture)
        assert len(separation.inputs) == 24, "4 + 4 in each double block, 2 in each single one"
        alike, _ = separation.compare(~torch.eye(2, dtype=torch.bool), torch.tensor([True, False]))
        optimizer.zero_grad()
        alike.backward()
        optimizer.step()
        measured.append(alike.item())
    assert measured[-1] < 0.8 * measured[0]


@pytest.fixture
def flux(monkeypatch) -> torch.nn.Module:
    monkeypatch.setattr(comfy.model_management, "in_training", True)
    torch.manual_seed(0)
    return build_flux()


def answer(flux: torch.nn.Module) -> torch.Tensor:
    """Of two samples that differ in picture, text and noise level; the same at each call."""
    seed = torch.Generator().manual_seed(1)
    picture, noise = (torch.randn(2, 16, 8, 8, generator=seed) for _ in range(2))
    text = tuple(torch.randn(2, *shape, generator=seed) for shape in ((24, 64), (32,)))
    return velocity(flux, noise, torch.tensor([0.3, 0.8]), text, torch.full((2,), 2.5), picture)


def test_a_lessons_lora_is_a_change_of_the_weights(flux):
    """Reference: ComfyUI's network with `pace * strength * up @ down * reading` added to its
    weights."""
    reading = torch.linspace(0.5, 2, 256)
    lessons = Lessons(
        flux.requires_grad_(False),
        pace=3.0,
        reading=lambda name: reading if name.endswith("qkv") else torch.ones(()),
    )
    lessons.begin(1e-3)
    for up in lessons.factors()[1::2]:
        torch.nn.init.normal_(up, std=0.5)
    untouched = answer(flux)
    with lessons.applied(lessons.learning, torch.tensor([0.0, 1.5])):
        with_lora = answer(flux)
    for name, (down, up) in lessons.learning.items():
        lessons.layers[name].weight.data += 4.5 * (up @ down).detach() * lessons.reading(name)
    torch.testing.assert_close(with_lora[0], untouched[0])
    torch.testing.assert_close(with_lora[1], answer(flux)[1], rtol=1e-4, atol=1e-5)
    assert (with_lora[1] - untouched[1]).abs().max() > 0.1


def test_a_lesson_trains_its_lora_alone(flux):
    lessons = Lessons(flux, pace=3.0)
    untouched, wanted = answer(flux), torch.zeros(2, 16, 8, 8)
    lessons.begin(3e-3)
    losses = []

    def loss() -> torch.Tensor:
        losses.append((answer(flux) - wanted).square().mean())
        return losses[-1]

    for _ in range(8):
        lessons.advance(loss)
    assert losses[-1] < 0.5 * losses[0]
    assert lessons.optimizer.param_groups[0]["lr"] == pytest.approx(3e-3 * (1 - 8 / STEPS))
    assert all(weight.grad is None for weight in flux.parameters())
    torch.testing.assert_close(answer(flux), untouched, rtol=0, atol=0)


def test_a_lesson_is_one_edit_after_the_other():
    """A repair keeps its planted defect in the control, and a change follows in the target."""
    edits = {edit.name: edit for edit in (*TRAINED, *PRACTISED)}
    x = torch.rand(3, 16, 24, generator=torch.Generator().manual_seed(0))
    control, target = composed(edits["mirror"], edits["invert"], x, np.random.RandomState(0))
    torch.testing.assert_close(control, x)
    torch.testing.assert_close(target, 1 - x.flip(-1))
    control, target = composed(edits["spots"], edits["mirror"], x, np.random.RandomState(0))
    torch.testing.assert_close(control, edits["spots"].make(x, np.random.RandomState(0))[0])
    torch.testing.assert_close(target, x.flip(-1))


def test_the_base_meets_the_loras_of_the_last_lessons(flux):
    lessons, rng = Lessons(flux, pace=1.0), np.random.RandomState(0)
    assert lessons.any(rng) == {}
    for i in range(REMEMBERED + 3):
        lessons.begin(1e-3)
        for up in lessons.factors()[1::2]:
            torch.nn.init.constant_(up, i)
    met = [next(iter(lessons.any(rng).values())) for _ in range(300)]
    assert {up.unique().item() for _, up in met} == set(range(2, REMEMBERED + 3))
    assert not any(factor.requires_grad for pair in met for factor in pair)


def test_words_without_meaning_are_unlike_each_other_but_not_themselves():
    unknown = PICKS.index(UNKNOWN)
    different = unlike(np.array([0, 0, 1, unknown, unknown]))
    assert different.tolist() == [
        [False, False, True, True, True], [False, False, True, True, True],
        [True, True, False, True, True], [True, True, True, False, True],
        [True, True, True, True, False],
    ]  # fmt: skip


def test_the_shipped_weights_keep_new_instructions_apart_from_those_they_know(demo, photographs):
    """At most a quarter of the squared cosine within a sample: a LoRA then acts on another
    instruction with about half of its force, on average over the layers. Sizes and all, its
    steps change these at most a third as much as what they are taken for."""
    _, clip, vae = demo
    flux = build_flux()
    flux.load_state_dict(load_file(FOLDER / "demo_kontext.safetensors"))
    separation = Separation(flux)
    edits = (*TRAINED, *HELD_OUT)
    encoded = [
        clip.encode_from_tokens_scheduled(clip.tokenize(edit.instructions[0]))[0] for edit in edits
    ]
    text = (
        torch.cat([cond for cond, _ in encoded]),
        torch.cat([extra["pooled_output"] for _, extra in encoded]),
    )
    picture = vae.encode(photographs[:1].movedim(1, -1)).expand(len(edits), -1, -1, -1)
    torch.manual_seed(0)
    noised = torch.lerp(picture, torch.randn(1, *picture.shape[1:]), 0.6)
    with torch.no_grad():
        velocity(
            flux,
            noised,
            torch.full((len(edits),), 0.6),
            text,
            torch.full((len(edits),), 2.5),
            picture,
        )
        held_out = torch.arange(len(edits)) >= len(TRAINED)
        alike, reached = separation.compare(held_out[:, None] & ~held_out, held_out)
    assert alike < 0.25
    assert reached < 1 / 9
