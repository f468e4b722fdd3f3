"""Tiny captioners of every family, over-fitted on two colours and saved as a user's folder is.

Each takes one to a few seconds to build and says RED_TEXT about red pictures and BLUE_TEXT about
blue ones, so a test can tell whether the picture was seen and the text came through whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from .tiny_families import BUILDERS
from .tiny_tokenizers import BLUE_TEXT, PAIR_TEXT, PROMPT, RED_TEXT

RED, BLUE = (220, 20, 20), (20, 20, 220)


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


Lesson = tuple[list[Image.Image], str]


def build(name: str, folder: Path, more: tuple[Lesson, ...] = ()) -> Path:
    """Build, teach and save one family; returns the model's folder."""
    torch.manual_seed(0)
    model, processor = BUILDERS[name]()
    teach(model, [example(name, processor, *lesson) for lesson in (*lessons(name), *more)])
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def lessons(name: str) -> list[Lesson]:
    taught = [([picture(RED)], RED_TEXT), ([picture(BLUE)], BLUE_TEXT)]
    if name.startswith("qwen"):
        taught.append(([picture(RED), picture(BLUE)], PAIR_TEXT))
    return taught


def teach(model: Any, examples: list[dict[str, torch.Tensor]], limit: int = 400) -> None:
    """Train on the examples until every one of their tokens is all but certain."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(limit):
        losses = [model(**example).loss for example in examples]
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
        if max(loss.item() for loss in losses) < 0.03:
            break
    model.eval()


def example(name: str, processor: Any, pictures: list[Image.Image], text: str) -> dict[str, Any]:
    """Model inputs with labels for one picture list and its text, as the family is trained."""
    tokenizer = processor.tokenizer
    if name in ("blip", "git"):
        inputs = processor(images=pictures[0], text=text, return_tensors="pt")
        return dict(inputs) | {"labels": inputs["input_ids"].clone()}
    answer = torch.tensor(
        [tokenizer(text, add_special_tokens=False).input_ids + [tokenizer.eos_token_id]]
    )
    if name.startswith("florence"):
        inputs = processor(images=pictures[0], text="<CAPTION>", return_tensors="pt")
        return dict(inputs) | {"labels": answer}
    return _continued(dict(_question(name, processor, pictures)), answer)


def _question(name: str, processor: Any, pictures: list[Image.Image]) -> Any:
    if name == "blip2":
        return processor(images=pictures[0], text="", return_tensors="pt")
    if name == "paligemma":
        return processor(images=pictures[0], text="<image>caption en", return_tensors="pt")
    if name == "joycaption":
        from kontext.captioning.joycaption import SYSTEM, joycaption_prompt

        messages = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": joycaption_prompt("Descriptive", "any")},
        ]
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return processor(images=pictures, text=[text], return_tensors="pt")
    content = [{"type": "image", "image": p} for p in pictures] + [{"type": "text", "text": PROMPT}]
    return processor.apply_chat_template(
        [[{"role": "user", "content": content}]],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )


def _continued(inputs: dict[str, torch.Tensor], answer: torch.Tensor) -> dict[str, torch.Tensor]:
    """The question followed by its answer; only the answer is learnt."""
    length = inputs["input_ids"].shape[1]
    if "token_type_ids" in inputs:  # PaliGemma sees all of what is marked 0 at once
        inputs["token_type_ids"] = torch.cat([inputs["token_type_ids"], torch.ones_like(answer)], 1)
    if "mm_token_type_ids" in inputs:  # Qwen: 0 is text
        marks = inputs["mm_token_type_ids"]
        inputs["mm_token_type_ids"] = torch.cat([marks, torch.zeros_like(answer)], 1)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], answer], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["labels"] = inputs["input_ids"].clone()
    inputs["labels"][:, :length] = -100
    return inputs
