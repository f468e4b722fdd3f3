"""The untrained text encoder still tells instructions apart."""

import pytest
import torch

from demo_model.edits import HELD_OUT, PRACTISED, TRAINED

CANONICAL = [edit.instructions[0] for edit in (*TRAINED, *PRACTISED, *HELD_OUT)]


@pytest.fixture(scope="module")
def encode(demo):
    def encoded(text):
        ((cond, extra),) = demo[1].encode_from_tokens_scheduled(demo[1].tokenize(text))
        return cond[0], extra["pooled_output"][0]

    return encoded


def test_an_instruction_costs_24_text_tokens_and_a_long_caption_as_many_as_it_has(encode):
    assert encode("mirror the image")[0].shape == (24, 64)
    assert encode("word " * 40)[0].shape[0] > 40


def test_different_instructions_give_clearly_different_conditioning(encode):
    pooled = torch.stack([encode(text)[1] for text in CANONICAL])
    distance = torch.cdist(pooled, pooled) + 1e9 * torch.eye(len(pooled))
    assert distance.min() > 0.2 * pooled.norm(dim=1).mean()


def test_the_words_of_an_instruction_stay_recognisable_inside_a_caption(encode):
    alone = encode("invert the colours")[0][:3]
    inside = encode("invert the colours, a cat on a table, high quality")[0][:3]
    assert torch.cosine_similarity(alone, inside).min() > 0.8
