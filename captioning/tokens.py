"""How many tokens FLUX's two text encoders see of a caption. No model is loaded.

Nothing is cut off by ComfyUI, but FLUX.1 was trained on at most 512 T5 tokens, and of the text
that CLIP-L sums up in one vector only the first 75 tokens count.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .compose import limit_length, word_spans

T5_LIMIT = 512
CLIP_LIMIT = 75
_T5_UNKNOWN = 2


@dataclass(frozen=True)
class TokenCount:
    """Tokens without start, end and padding; `unknown` are letters T5 has no token for."""

    t5: int
    clip: int
    unknown: int


def count_tokens(text: str) -> TokenCount:
    """Counts as ComfyUI's own FLUX tokenizer makes them, end token of T5 included."""
    t5, clip = _tokenizers()
    t5_ids = t5(text)["input_ids"]
    return TokenCount(len(t5_ids), len(clip(text)["input_ids"]) - 2, t5_ids.count(_T5_UNKNOWN))


@lru_cache(maxsize=1)
def _tokenizers() -> tuple[Any, Any]:
    from ..trainer.host.comfy import flux_tokenizers

    return flux_tokenizers()


def limit_tokens(text: str, tokens: int) -> str:
    """Whole words from the beginning, at most `tokens` T5 tokens; 0 means no limit."""
    if not tokens or count_tokens(text).t5 <= tokens:
        return text
    low, high = 0, len(word_spans(text))
    while low < high - 1:  # `low` words fit, `high` words do not
        middle = (low + high) // 2
        if count_tokens(limit_length(text, middle)).t5 <= tokens:
            low = middle
        else:
            high = middle
    return limit_length(text, low) if low else ""
