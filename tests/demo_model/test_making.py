"""How the demo model is made: optimizer, separation of instructions, pace of the weights."""

import comfy.model_management
import numpy as np
import pytest
import torch
from demo_edits import HELD_OUT, TRAINED
from demo_optimizer import HiddenAndRest
from demo_separation import Separation, likeness
from demo_transformer import PICKS, UNKNOWN, at_pace, build_flux, unlike, velocity
from kontext.nodes.demo_model import FOLDER
from safetensors.torch import load_file


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


@pytest.mark.parametrize("pace", [1.0, 3.0])
def test_the_pace_of_its_weights_leaves_its_answer_alone(pace):
    """Reference: ComfyUI's network with the weights as they were."""
    torch.manual_seed(0)
    flux = build_flux().requires_grad_(False)
    for weight in flux.parameters():
        weight.add_(0.02 * torch.randn_like(weight))
    given = (torch.randn(2, 16, 8, 8), torch.rand(2), (torch.randn(2, 24, 64), torch.randn(2, 32)),
             torch.full((2,), 2.5), torch.randn(2, 16, 8, 8))
    before = velocity(flux, *given)
    weights = {name: weight.clone() for name, weight in flux.state_dict().items()}
    paced = at_pace(weights, pace)
    qkv = "double_blocks.0.img_attn.qkv.weight"
    torch.testing.assert_close(paced[qkv], weights[qkv] / pace)
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


def test_what_two_instructions_make_the_network_compute_can_be_kept_apart(monkeypatch):
    monkeypatch.setattr(comfy.model_management, "in_training", True)
    torch.manual_seed(0)
    flux = build_flux()
    separation = Separation(flux)
    optimizer = torch.optim.AdamW(flux.parameters(), lr=1e-3)
    picture, noise = (torch.randn(1, 16, 8, 8).expand(2, -1, -1, -1) for _ in range(2))
    text = torch.randn(2, 24, 64), torch.randn(2, 32)
    measured = []
    for _ in range(8):
        velocity(flux, noise, torch.full((2,), 0.6), text, torch.full((2,), 2.5), picture)
        assert len(separation.inputs) == 24, "4 + 4 in each double block, 2 in each single one"
        alike = separation.likeness(~torch.eye(2, dtype=torch.bool))
        optimizer.zero_grad()
        alike.backward()
        optimizer.step()
        measured.append(alike.item())
    assert measured[-1] < 0.8 * measured[0]


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
    instruction with about half of its force, on average over the layers."""
    _, clip, vae = demo
    flux = build_flux()
    flux.load_state_dict(load_file(FOLDER / "demo_kontext.safetensors"))
    separation = Separation(flux)
    edits = (*TRAINED, *HELD_OUT)
    encoded = [clip.encode_from_tokens_scheduled(clip.tokenize(edit.instructions[0]))[0]
               for edit in edits]
    text = (torch.cat([cond for cond, _ in encoded]),
            torch.cat([extra["pooled_output"] for _, extra in encoded]))
    picture = vae.encode(photographs[:1].movedim(1, -1)).expand(len(edits), -1, -1, -1)
    torch.manual_seed(0)
    noised = torch.lerp(picture, torch.randn(1, *picture.shape[1:]), 0.6)
    with torch.no_grad():
        velocity(flux, noised, torch.full((len(edits),), 0.6), text,
                 torch.full((len(edits),), 2.5), picture)
        held_out = torch.arange(len(edits)) >= len(TRAINED)
        alike = separation.likeness(held_out[:, None] & ~held_out)
    assert alike < 0.25
