"""A tiny Qwen3-VL inside a genuine ComfyUI CLIP object, over-fitted on two colours."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.text_encoders.qwen3vl as qwen
import torch

from . import tiny_models as tiny

NAME = "qwen3vl_4b"
_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
}
_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "depth": 1,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0],
}


def build() -> comfy.sd.CLIP:
    """The CLIP object, taught; the sizes are the only thing that is not Qwen3-VL's."""
    torch.manual_seed(0)
    config, vision = qwen.QWEN3VL_CONFIGS[NAME], qwen.QWEN3VL_VISION[NAME]
    qwen.QWEN3VL_CONFIGS[NAME] = lambda **options: config(**options, **_TEXT)
    qwen.QWEN3VL_VISION[NAME] = _VISION
    try:
        target = SimpleNamespace(
            params={},
            clip=qwen.te(dtype_llama=torch.float32, model_type=NAME),
            tokenizer=qwen.tokenizer(model_type=NAME),
        )
        clip = comfy.sd.CLIP(target)
    finally:
        qwen.QWEN3VL_CONFIGS[NAME], qwen.QWEN3VL_VISION[NAME] = config, vision
    for parameter in clip.cond_stage_model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    _teach(clip)
    return clip


def _teach(clip: comfy.sd.CLIP, limit: int = 300) -> None:
    encoder = getattr(clip.cond_stage_model, NAME)
    network = encoder.transformer
    taught = [p for n, p in network.named_parameters() if "embed_tokens" not in n]
    for parameter in taught:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(taught, 1e-2)
    lessons = [_lesson(clip, pictures, text) for pictures, text in tiny.lessons("qwen")]
    comfy.model_management.in_training = True
    try:
        for _ in range(limit):
            losses = [_loss(encoder, network, *lesson) for lesson in lessons]
            optimizer.zero_grad()
            torch.stack(losses).mean().backward()
            optimizer.step()
            if max(loss.item() for loss in losses) < 0.05:
                break
    finally:
        comfy.model_management.in_training = False
    for parameter in taught:
        parameter.requires_grad_(False)


def _lesson(clip: comfy.sd.CLIP, pictures: list, text: str) -> tuple[list[Any], list[int]]:
    from kontext.captioning.core_vlm import _batch

    tokens = clip.tokenize(tiny.PROMPT, image=_batch(tuple(pictures)), min_length=1)
    question = [token[0] for token in tokens[NAME][0]]
    answer = getattr(clip.tokenizer, NAME).tokenizer(text)["input_ids"] + [151645]  # <|im_end|>
    return question, answer


def _loss(encoder: Any, network: Any, question: list[Any], answer: list[int]) -> torch.Tensor:
    """Cross-entropy of the answer against itself and every 100th word: the whole table is slow."""
    embeds, _, _, info = encoder.process_tokens([question + answer], device="cpu")
    hidden = network(None, embeds=embeds, embeds_info=info)[0][0, -len(answer) - 1 : -1]
    table = network.model.embed_tokens.weight  # also the output layer, as in the real 4B
    words = torch.cat([table[answer], table[::100]])
    return torch.nn.functional.cross_entropy(hidden @ words.T, torch.arange(len(answer)))
