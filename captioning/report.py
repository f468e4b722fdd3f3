"""Reports on captions: their lengths, and what FLUX would not read of them."""

from collections.abc import Mapping, Sequence
from statistics import median

from ..dataset.text import listed
from ..language import say
from .compose import word_spans
from .tokens import CLIP_LIMIT, T5_LIMIT, count_tokens

BINS = (0, 5, 10, 15, 20, 30, 50, 100)
MOST_NAMED = 5
_BAR = 24


def length_report(captions: Mapping[str, str]) -> list[str]:
    """Words per caption: extremes, median and a histogram. `captions` by stem, not empty."""
    words = {stem: len(word_spans(text)) for stem, text in captions.items()}
    shortest, longest = min(words, key=words.__getitem__), max(words, key=words.__getitem__)
    lines = [
        say(
            "Words: shortest {least} ({shortest}), median {median:g}, longest {most} ({longest})",
            least=words[shortest],
            shortest=shortest,
            median=median(words.values()),
            most=words[longest],
            longest=longest,
        )
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
    most = max(count.t5 for count in counts.values())
    lines = [say("Tokens: at most {most} of {limit} (T5)", most=most, limit=T5_LIMIT)]
    past_t5 = [stem for stem, count in counts.items() if count.t5 > T5_LIMIT]
    if past_t5:
        warning = say(
            "{count} captions have more than {limit} T5 tokens, the most FLUX.1 was trained on; "
            "the end will have little effect. Limit the length: {names}.",
            count=len(past_t5),
            limit=T5_LIMIT,
            names=listed(past_t5, MOST_NAMED),
        )
        lines.append(f"⚠ {warning}")
    past_clip = [stem for stem, count in counts.items() if count.clip > CLIP_LIMIT]
    if past_clip:
        warning = say(
            "{count} captions have more than {limit} CLIP tokens: the overall text vector is made "
            "of the beginning only. T5 reads all of it, so this matters little as long as the "
            "instruction comes first: {names}.",
            count=len(past_clip),
            limit=CLIP_LIMIT,
            names=listed(past_clip, MOST_NAMED),
        )
        lines.append(f"⚠ {warning}")
    unknown = [stem for stem, count in counts.items() if count.unknown]
    if unknown:
        warning = say(
            "{count} captions have letters that T5 does not know (Chinese, emoji): FLUX.1 cannot "
            "tell them apart, so write what the picture shows in English. FLUX.2 and Qwen-Image "
            "read them: {names}.",
            count=len(unknown),
            names=listed(unknown, MOST_NAMED),
        )
        lines.append(f"⚠ {warning}")
    return lines
