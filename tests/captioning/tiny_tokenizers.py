"""The texts that tiny captioners learn, and tokenizers trained on a few sentences."""

from __future__ import annotations

from typing import Any

import transformers as T
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

RED_TEXT, BLUE_TEXT = "a photo of a cat", "a man wearing a blue hat"
PAIR_TEXT = "turn it blue"
PROMPT = "Describe this image."

_CORPUS = [
    RED_TEXT,
    BLUE_TEXT,
    PAIR_TEXT,
    PROMPT,
    "What does the image describe?",
    "Describe with a paragraph what is shown in the image.",
    "Write a detailed description for this image.",
    "You are a helpful assistant and help users with any queries they may have",
] * 4


def byte_pairs(
    special: list[str], start: str = "", added: tuple[str, ...] = (), **names: Any
) -> T.PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on a few sentences; `start` opens every text."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    if start:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", special_tokens=[(start, tokenizer.token_to_id(start))]
        )
    tokenizer.add_tokens(list(added))
    return T.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def word_pieces() -> T.BertTokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = sorted({word.strip(".,?").lower() for text in _CORPUS for word in text.split()})
    tokens = dict.fromkeys([*special, *"abcdefghijklmnopqrstuvwxyz.,?", *words])
    return T.BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})
