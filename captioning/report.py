"""What a captioning run tells the user: counts, failures, lengths, and what FLUX would not see."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from .compose import word_spans
from .tokens import CLIP_LIMIT, T5_LIMIT, TokenCount, count_tokens

BINS = (0, 5, 10, 15, 20, 30, 50, 100)
_BAR = 24


def length_report(captions: Mapping[str, str]) -> list[str]:
    """Words per caption: extremes, median and a histogram. `captions` by stem, not empty."""
    words = {stem: len(word_spans(text)) for stem, text in captions.items()}
    shortest, longest = min(words, key=words.__getitem__), max(words, key=words.__getitem__)
    lines = [
        f"Words: shortest {words[shortest]} ({shortest}), median {median(words.values()):g}, "
        f"longest {words[longest]} ({longest})"
    ]
    return lines + histogram(list(words.values()))


def histogram(counts: Sequence[int]) -> list[str]:
    """One line of text per range of BINS, from the first used to the last."""
    edges = [*BINS, max(max(counts) + 1, BINS[-1] + 1)]
    ranges = list(zip(edges, edges[1:], strict=False))
    inside = [sum(low <= count < high for count in counts) for low, high in ranges]
    used = [index for index, amount in enumerate(inside) if amount]
    return [
        f"{f'{low}–{high - 1}':>8} {'█' * max(amount * _BAR // max(inside), amount > 0)} {amount}"
        for (low, high), amount in list(zip(ranges, inside, strict=True))[used[0] : used[-1] + 1]
    ]


def token_report(captions: Mapping[str, str]) -> list[str]:
    """How the captions fit FLUX's text encoders, with a warning for each kind of misfit."""
    counts = {stem: count_tokens(text) for stem, text in captions.items()}
    most = max(counts.values(), key=lambda count: count.t5)
    lines = [f"Tokens: at most {most.t5} of {T5_LIMIT} (T5)"]
    lines += _warning(counts, lambda count: count.t5 > T5_LIMIT, _TOO_LONG)
    lines += _warning(counts, lambda count: count.clip > CLIP_LIMIT, _PAST_CLIP)
    lines += _warning(counts, lambda count: count.unknown > 0, _UNKNOWN)
    return lines


_TOO_LONG = (
    f"have more than {T5_LIMIT} T5 tokens, the most FLUX.1 was trained on; the end will have "
    "little effect. Limit the length"
)
_PAST_CLIP = (
    f"have more than {CLIP_LIMIT} CLIP tokens: the overall text vector is made of the beginning "
    "only. T5 reads all of it, so this matters little as long as the instruction comes first"
)
_UNKNOWN = (
    "have letters that T5 does not know (Chinese, emoji): FLUX reads each run of them as one and "
    "the same unknown sign. Write what the picture shows in English. 含有 T5 不认识的文字"
    "（中文、表情），FLUX 无法区分它们，请用英文描述"
)


def _warning(
    counts: Mapping[str, TokenCount], misfit: Callable[[TokenCount], bool], words: str
) -> list[str]:
    stems = [stem for stem, count in counts.items() if misfit(count)]
    shown = ", ".join(stems[:5]) + (" …" if len(stems) > 5 else "")
    return [f"⚠ {len(stems)} captions {words}: {shown}."] if stems else []
