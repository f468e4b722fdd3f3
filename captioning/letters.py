"""Letters that FLUX.1's text encoder has no token for."""

from functools import lru_cache

from .tokens import count_tokens


def unreadable(text: str) -> str:
    """The different letters of a text that T5 cannot tell apart, in their order."""
    return "".join(letter for letter in dict.fromkeys(text) if unknown(letter))


@lru_cache(maxsize=50_000)
def unknown(letter: str) -> bool:
    return not letter.isascii() and not letter.isspace() and count_tokens(letter).unknown > 0
