"""How control and target are named: folders, endings of file names, table columns."""

import re
from collections.abc import Collection, Mapping, Sequence

from ..language import say
from .files import REPEAT_FOLDER, composed, folded
from .pair import DatasetError

CONTROL, TARGET = "control", "target"
MASK, SPLIT, REPEATS, CAPTION, PICTURE = "mask", "split", "repeats", "caption", "picture"

CLEAR_WORDS = {
    CONTROL: frozenset("before control controls original originals orig".split()),
    TARGET: frozenset("after target targets tgt edited".split()),
}
"""Words that can mean one side only."""

WORDS = {
    CONTROL: CLEAR_WORDS[CONTROL]
    | frozenset(
        "start source sources src input inputs in conditioning condition cond reference "
        "references ref refs kontext".split()
    ),
    TARGET: CLEAR_WORDS[TARGET]
    | frozenset("end output outputs out result results image images img imgs".split()),
}

CHINESE = {
    CONTROL: re.compile(r".*前(?:图|图片|照片)?|.*(?:原图|原片|底图|素材|参考)"),
    TARGET: re.compile(r".*[后後](?:图|图片|照片)?|.*(?:成品|效果|效果图|目标|精修图)"),
}
"""修前, 修图前, 处理前, 前图, 原图 … and the same of the other side."""

_NO_SIDE = re.compile(r".*(?:前[后後]|[最皇王太售背幕今然][后後]|[目面眼门空]前)")
"""Chinese words that only contain those for a side, as “afterwards” contains “after”."""

ENDINGS = {
    CONTROL: WORDS[CONTROL] | {"r"},
    TARGET: (WORDS[TARGET] | {"g", "t"}) - frozenset("image images img imgs".split()),
}
"""Last words of file names: `ring_before.png` belongs to `ring_after.png`. A picture named
`…_image` may be anything."""

USUAL_ENDINGS = "_before/_after, _start/_end, _control/_target, _input/_output, _修前/_修后"

_ENDING = re.compile(r"(?P<name>.+)[\s_.\-](?P<word>[^\W\d_]+)[\s_.\-]?(?P<number>\d{0,3})")
_CHINESE_ENDING = re.compile(r"(?P<name>.+?)(?P<word>修图前|修图后|修前|修后|前|后)(?P<number>)")
_BEGINNING = re.compile(r"(?P<word>[^\W\d_]+)(?:[\s_.\-]+|(?=\d))(?P<name>.+)(?P<number>)")

PICTURE_WORDS = frozenset(
    "image images img imgs picture photo file files filename name names path paths url".split()
)
"""Words of a column that names pictures, but not their side."""

CAPTION_COLUMNS = tuple(
    "caption text prompt edit_prompt instruction edit tags 打标文本 提示词 指令 描述".split()
)
MASK_WORDS = frozenset("mask masks 遮罩 蒙版".split())


def side_of(folder_name: str, clearly: bool = False) -> str:
    """CONTROL, TARGET or "" by the words in a folder's name; `clearly`, by words of one meaning.

    Those decide, unless they name both sides (`before_after`). Of the others, a word for control
    outweighs the vague `images`: `input_images` holds controls.
    """
    words = words_of(folder_name)
    clear = {side for word in words if (side := _side(word, CLEAR_WORDS))}
    if clear or clearly:
        return clear.pop() if len(clear) == 1 else ""
    sides = [_side(word, WORDS) for word in words]
    return next((side for side in (CONTROL, TARGET) if side in sides), "")


def side_of_path(parts: Sequence[str]) -> tuple[str, int]:
    """The side that folders inside each other name, `before/10_ring`, and how surely, from 1 to 3.

    The innermost clear word decides: 3 in the folder's own name, 2 further out. Vague words count 2
    in its own name, and not further out, where `input` and `output` are ComfyUI's own folders. What
    a repeat folder belongs to is its own name too.
    """
    inside = list(reversed(parts))
    own = 2 if inside and REPEAT_FOLDER.fullmatch(inside[0]) else 1
    for depth, name in enumerate(inside):
        if side := side_of(name, clearly=True):
            return side, 3 if depth < own else 2
    return next(((side, 2) for name in inside[:own] if (side := side_of(name))), ("", 0))


def words_of(name: str) -> list[str]:
    """The words of a name in lower case, without digits: `SourceImage_2` is source, image."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", composed(name))
    return [word for word in re.split(r"[\W\d_]+", folded(apart)) if word]


def ending_of(name: str) -> tuple[str, str, str, int] | None:
    """(common name, side, word for the side, number) of `ring_start2`; None without such a word.

    A word at the beginning (`before_01`) must be unambiguous.
    """
    patterns = (_ENDING, ENDINGS), (_CHINESE_ENDING, ENDINGS), (_BEGINNING, CLEAR_WORDS)
    for pattern, known in patterns:
        match = pattern.fullmatch(composed(name))
        side = _side(folded(match["word"]), known) if match else ""
        if match and side:
            return match["name"], side, match["word"], int(match["number"] or 0)
    return None


def role_of(column: str) -> tuple[str, int]:
    """What a table's column holds, and its number: `control_2` is (CONTROL, 2).

    PICTURE is a column that names pictures of a side that only the other columns tell, "" one
    that has no meaning here.
    """
    name, words = folded(column).strip(), set(words_of(column))
    digits = re.search(r"[0-9]{1,3}$", name)
    number = int(digits[0]) if digits else 0
    telling = words - PICTURE_WORDS
    if name in CAPTION_COLUMNS:
        return CAPTION, 0
    if name in (SPLIT, REPEATS):
        return name, 0
    if telling and telling <= MASK_WORDS:
        return MASK, number
    if telling == {"edit"}:  # DiffSynth's `edit_image` is the picture that is edited
        return CONTROL, number
    sides = {_side(word, WORDS) for word in telling}
    if len(sides) == 1 and sides != {""}:
        return sides.pop(), number
    return (PICTURE, number) if words and not telling else ("", 0)


def caption_rank(column: str) -> int:
    """Of several captions the one with the lowest rank is taken."""
    return CAPTION_COLUMNS.index(folded(column).strip())


def _side(word: str, known: Mapping[str, Collection[str]]) -> str:
    sides = () if _NO_SIDE.fullmatch(word) else (CONTROL, TARGET)
    return next((s for s in sides if word in known[s] or CHINESE[s].fullmatch(word)), "")


def own_patterns(text: str) -> list[re.Pattern[str]]:
    """Patterns from a user's `{name}_old | {name}_new`; the last one is the target's."""
    sides = [side.strip() for side in text.split("|")]
    if len(sides) < 2 or any(side.count("{name}") != 1 for side in sides):
        raise DatasetError(
            say(
                "“{pattern}” is not a naming pattern. Write the control's, then the target's, each "
                "with one {{name}}: {{name}}_old | {{name}}_new",
                pattern=text,
            )
        )
    if len(set(sides)) < len(sides):
        raise DatasetError(
            say(
                "“{pattern}” gives two sides the same name; control and target must differ.",
                pattern=text,
            )
        )
    return [
        re.compile("(?P<name>.+)".join(map(re.escape, composed(side).split("{name}"))), re.I)
        for side in sides
    ]


def literal_length(pattern: re.Pattern[str]) -> int:
    """How specific a pattern is: `{name}_line` beats `{name}`."""
    return len(pattern.pattern)
