"""What control and target are called: endings, folder names, table columns."""

import re
from collections.abc import Sequence

from .files import composed, folded
from .pair import DatasetError

ENDINGS = (
    ("start", "end"),
    ("before", "after"),
    ("control", "target"),
    ("R", "T"),
    ("r", "g"),
    ("in", "out"),
    ("input", "output"),
    ("source", "target"),
    ("修前", "修后"),
    ("前", "后"),
)
"""Control ending, target ending: `ring_before.png` belongs to `ring_after.png`."""

CONTROL_WORDS = frozenset(
    "before control controls start source input in conditioning condition reference ref "
    "原图 修前 前 素材 参考".split()
)
TARGET_WORDS = frozenset(
    "after target targets end output out result edited image images img "
    "成品 修后 后 效果 效果图 目标".split()
)


def side_of(folder_name: str) -> str:
    """ "control", "target" or "" by the words in a folder's name; the first telling word wins.

    A word for control outweighs the vague `images`: `control_images` holds controls.
    """
    words = re.split(r"[\s_.\-\d]+", folded(folder_name))
    if any(word in CONTROL_WORDS for word in words):
        return "control"
    return "target" if any(word in TARGET_WORDS for word in words) else ""


def ending_patterns(endings: Sequence[str]) -> list[re.Pattern[str]]:
    """`(name)` + separator + ending, one pattern per side."""
    return [re.compile(rf"(?P<name>.+?)[\s_.\-]{re.escape(end)}", re.I) for end in endings]


def own_patterns(text: str) -> list[re.Pattern[str]]:
    """Patterns from a user's `{name}_old | {name}_new`; the last one is the target's."""
    sides = [side.strip() for side in text.split("|")]
    if len(sides) < 2 or any(side.count("{name}") != 1 for side in sides):
        raise DatasetError(
            f"\"{text}\" is not a naming pattern. Write the control's, then the target's, each "
            "with one {name}: {name}_old | {name}_new"
        )
    if len(set(sides)) < len(sides):
        raise DatasetError(f'"{text}" gives two sides one name; control and target must differ.')
    return [
        re.compile("(?P<name>.+)".join(map(re.escape, composed(side).split("{name}"))), re.I)
        for side in sides
    ]


def literal_length(pattern: re.Pattern[str]) -> int:
    """How specific a pattern is: `{name}_line` beats `{name}`."""
    return len(pattern.pattern)
