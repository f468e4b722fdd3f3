"""What the repository says of itself: links that lead somewhere, shipped pages that stand alone."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "models" / "demo" / "README.md"]
REPOSITORY = re.search(r'^Repository = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
NOT_SHIPPED = [
    line.rstrip("/")
    for line in (ROOT / ".comfyignore").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]
SHIPPED = [page for page in PAGES if page.relative_to(ROOT).parts[0] not in NOT_SHIPPED]


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))


def in_repository(link: str) -> str | None:
    """The path within the repository that an absolute link to it names."""
    name = REPOSITORY[1].removeprefix("https://github.com/")
    hosts = (r"https://github\.com/", r"https://raw\.githubusercontent\.com/")
    places = (r"/(?:tree|blob)/main/(.+)", r"/main/(.+)")
    found = (
        re.fullmatch(host + re.escape(name) + place, link)
        for host, place in zip(hosts, places, strict=True)
    )
    return next((match[1] for match in found if match), None)


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page):
    for link in links(page):
        place, _, anchor = (in_repository(link) or link).partition("#")
        if "://" in place:
            continue
        start = ROOT if in_repository(link) else page.parent
        target = start / place if place else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


@pytest.mark.parametrize("page", SHIPPED, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_is_shipped_stands_alone(page):
    """The registry shows and ships these pages without what `.comfyignore` names."""
    for link in links(page):
        if "://" not in link and not link.startswith("#"):
            target = (page.parent / link.partition("#")[0]).resolve().relative_to(ROOT)
            assert target.parts[0] not in NOT_SHIPPED, link


def test_the_readme_is_short():
    words = re.findall(r"\S*\w\S*", (ROOT / "README.md").read_text("utf-8"))  # no marks of tables
    assert len(words) <= 700


def test_the_index_names_every_page():
    index = ROOT / "docs" / "README.md"
    named = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    assert {*(ROOT / "docs").rglob("*.md")} - {index} <= named
