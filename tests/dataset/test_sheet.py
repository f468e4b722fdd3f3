"""Contact sheets: nothing is cut off without a sign, and all pages have one size."""

from hypothesis import given, settings
from hypothesis import strategies as st
from kontext.dataset.sheet import Card, contact_sheet, label_font, wrapped
from PIL import Image


@settings(deadline=None, max_examples=50)
@given(st.text("ab 戒×é", max_size=120), st.integers(60, 300), st.integers(1, 3))
def test_lines_fit_and_a_cut_is_shown(text: str, room: int, lines: int):
    font = label_font(text, 13)
    broken = wrapped(text, font, room, lines)
    assert len(broken) <= lines
    assert all(font.getlength(line) <= room for line in broken)
    kept = "".join(broken).replace(" ", "")
    whole = "".join(text.split())
    assert kept == whole or (kept.endswith("…") and whole.startswith(kept[:-1]))


def test_pages_have_one_size_and_show_the_pictures():
    red = Image.new("RGB", (50, 100), "red")
    pages = contact_sheet([Card(f"p{i}", (red, red), "text") for i in range(9)], side=64)
    assert len(pages) == 2 and pages[0].size == pages[1].size
    counts = [dict((c, n) for n, c in page.getcolors(10**6))[255, 0, 0] for page in pages]
    assert counts == [8 * 2 * 32 * 64, 2 * 32 * 64]
