"""The list of runs and a run's page in a real browser, on the real server, without a training."""

from pathlib import Path

import pytest

import browser

from ..finished import SAVED, put_run

pytestmark = pytest.mark.skipif(
    browser.find_browser() is None, reason="browser: no Chromium, Chrome or Edge found"
)


@pytest.fixture(scope="module")
def runs(server) -> dict[str, str]:
    """The comparisons of two runs, one of them stopped half-way."""
    output = Path(server.base) / "output"
    return {"paged": put_run(output, "paged"), "half & done": put_run(output, "half & done", 3000)}


@pytest.fixture
def page(server, runs):
    """A page at 390 pixels, in Chinese; fails the test for anything that it complains about."""
    with browser.any_page(server.url + "/kontext/runs?lang=zh", 390, 800) as opened:
        yield opened.page
        assert opened.errors == []


def fits(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_from_the_list_to_a_run_and_the_viewer_on_a_narrow_screen(page, server, runs):
    run = page.locator("[data-run='half & done']")
    assert "已停止：1500/3000 步" in run.inner_text() and "验证损失最低" in run.inner_text()
    assert fits(page)
    # outside of ComfyUI it is a file, not a graph
    graph = run.get_by_role("link", name="工作流（.json）")
    assert "拖到 ComfyUI" in graph.get_attribute("title")

    run.get_by_role("link", name="训练详情").click()
    page.locator("#sample").wait_for()
    assert page.inner_text("#sample") == f"第 {SAVED[-1]} 步" and fits(page)
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#sample") == f"第 {SAVED[-2]} 步"
    assert "Polish <b>it</b>." in page.inner_text("#run") and page.locator("td b").count() == 0

    page.get_by_role("link", name="对比查看器").click()
    page.locator(".thumb.is-b").wait_for()
    assert fits(page)
    page.click("#vote")
    page.locator("#blind [data-choice=left]").click()
    page.locator(".count", has_text="1 票").wait_for()
    assert fits(page)
    page.click("#done")  # leads to the results
    page.locator("#results tbody tr").first.wait_for()
    assert "盲选胜率" in page.inner_text("#results") and "加载耗时" in page.inner_text("#results")
    assert fits(page)


def test_delete_is_asked_twice(page, server):
    run = page.locator("[data-run=paged]")
    button = run.locator("[data-action=delete]")
    button.click()
    assert button.inner_text() == "确定删除？" and names(server) >= {"paged"}
    page.locator("#title").click()  # somewhere else: it was not meant
    page.locator("[data-run='half & done'] [data-action=delete]").focus()
    assert button.inner_text() == "删除"
    button.click()
    button.click()
    run.wait_for(state="detached")
    assert "paged" not in names(server)
    trash = Path(server.base) / "output" / "kontext_trash"
    assert len([*trash.glob("paged_*/kontext_runs/paged/run.yaml")]) == 1


def names(server) -> set[str]:
    return {run["name"] for run in server.get("/kontext/runs/list")}
