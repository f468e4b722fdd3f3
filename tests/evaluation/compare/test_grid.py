"""Pages of a grid: every cell in its place, legible at any size, within the page."""

import numpy as np
import pytest
from kontext.evaluation.compare.grid import PAGE_HEIGHT, PAGE_WIDTH, Column, Grid, Row, save_pages
from PIL import Image


def colour(row, column):
    return (20 + 8 * row, 10 + 7 * column, 200)


def grid_of(rows, loras, strengths=1, size=(64, 64)):
    columns = [Column("control", "before", True), Column("base model", "no LoRA", True)]
    columns += [Column(f"step {lora}", f"× {s}") for lora in range(loras) for s in range(strengths)]
    columns += [Column("target", "after", True)]
    cells = tuple(
        tuple(Image.new("RGB", size, colour(r, c)) for c in range(len(columns)))
        for r in range(rows)
    )
    names = tuple(Row(f"picture {r}", ("让她的珠宝更加闪亮，清理所有表面。",)) for r in range(rows))
    return Grid("my run", "seed 1", tuple(columns), names, cells)


def places(page, row, column):
    """Top, left, bottom, right of the area in a cell's colour; None where it is not on the page."""
    packed = np.asarray(page).astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)
    inside = packed == np.dot(colour(row, column), [1, 256, 65536])
    if not inside.any():
        return None
    down, across = np.nonzero(inside)
    return down.min(), across.min(), down.max() + 1, across.max() + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "rows, loras, size", [(1, 1, (64, 64)), (3, 8, (64, 64)), (3, 4, (96, 64))]
)
def test_cells_stand_in_rows_and_columns_and_do_not_overlap(rows, loras, size):
    grid = grid_of(rows, loras, size=size)
    (page,) = grid.pages()
    boxes = [[places(page, r, c) for c in range(len(grid.columns))] for r in range(rows)]
    for row in boxes:
        assert len({(top, bottom) for top, _, bottom, _ in row}) == 1
        assert all(a[3] < b[1] for a, b in zip(row, row[1:], strict=False))
    for above, below in zip(boxes, boxes[1:], strict=False):
        assert all(a[2] < b[0] and a[1] == b[1] for a, b in zip(above, below, strict=True))
    top, left, bottom, right = boxes[0][0]
    assert (right - left) / (bottom - top) == pytest.approx(size[0] / size[1], rel=0.02)
    assert right - left >= 150


def colours(page):
    """The cells on a page, by colour; every cell is far wider than the pixels left out."""
    pixels = np.asarray(page)[::16, ::16].reshape(-1, 3)
    return {tuple(map(int, pixel)) for pixel in np.unique(pixels, axis=0)}


@pytest.mark.parametrize("rows, loras, strengths", [(20, 4, 1), (4, 10, 3), (23, 9, 3)])
def test_big_grids_break_into_pages_that_show_everything(rows, loras, strengths):
    grid = grid_of(rows, loras, strengths, size=(32, 32))
    pages = grid.pages()
    assert len(pages) > 1 and len({page.size for page in pages}) == 1
    assert pages[0].width <= PAGE_WIDTH and pages[0].height <= PAGE_HEIGHT
    shown = [colours(page) for page in pages]
    last = len(grid.columns) - 1
    for row in range(rows):
        assert all(
            sum(colour(row, column) in page for page in shown) == 1 for column in range(2, last)
        )
        # control and target stand beside the checkpoints wherever the row goes on
        with_row = [page for page in shown if any(colour(row, c) in page for c in range(2, last))]
        assert all({colour(row, 0), colour(row, last)} <= page for page in with_row)


def test_a_missing_picture_leaves_its_place_empty():
    grid = grid_of(2, 1)
    cells = (grid.cells[0], (*grid.cells[1][:-1], None))
    (page,) = Grid(grid.title, grid.legend, grid.columns, grid.rows, cells).pages()
    assert places(page, 1, 3) is None and places(page, 0, 3) is not None


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_pages_are_saved_as_pictures(tmp_path, suffix):
    pages = [Image.new("RGB", (80, 60), c) for c in ("red", "green")]
    paths = save_pages(pages, tmp_path / f"grid.{suffix}")
    assert [path.name for path in paths] == [f"grid-1.{suffix}", f"grid-2.{suffix}"]
    with Image.open(paths[1]) as page:
        assert page.size == (80, 60)
        assert page.convert("RGB").getpixel((40, 30)) == pytest.approx((0, 128, 0), abs=4)


def test_a_pdf_holds_all_pages(tmp_path):
    (path,) = save_pages([Image.new("RGB", (80, 60))] * 3, tmp_path / "grid.pdf")
    assert path.read_bytes().count(b"/Type /Page\n") == 3
