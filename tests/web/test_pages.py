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
    page.locator("[data-action=keep]").first.click()
    assert page.inner_text("form.keep button") not in page.inner_text("#results table")


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


def test_a_page_that_follows_a_run_goes_on_after_the_server_was_away(server, runs):
    """It asks again after a connection that failed, and after an answer that is an error."""
    answers = []

    def facts(route):
        answers.append(route.request.url)
        if len(answers) == 2:
            return route.abort()
        if len(answers) == 3:
            return route.fulfill(status=502, body="Bad gateway")
        run = route.fetch().json()
        return route.fulfill(json=run | {"state": "training", "done": len(answers)})

    address = server.url + "/kontext/run/half & done?lang=zh"
    with browser.any_page("about:blank") as opened:
        opened.page.route("**/facts", facts)
        opened.page.goto(address)
        for done in (1, 4):
            text = f"训练中，已保存 {done}/3000 步"
            opened.page.locator("#run .state", has_text=text).wait_for(timeout=90_000)
        assert opened.page.inner_text("#notice") == "Bad gateway"


def test_whoever_waits_for_an_answer_asks_again_while_the_server_is_away(server, runs):
    asked = []

    def listing(route):
        asked.append(route.request.url)
        if len(asked) == 1:
            return route.abort()
        return route.fulfill(status=503, body="Away") if len(asked) == 2 else route.continue_()

    with browser.any_page(server.url + "/kontext/runs") as opened:
        opened.page.locator("[data-run]").first.wait_for(timeout=60_000)
        opened.page.route("**/list", listing)
        found = opened.page.evaluate("""async () => {
            const { ask, patiently } = await import("/kontext/web/shared/page.mjs");
            return patiently(() => ask("list"), 100);
        }""")
    assert len(asked) == 3 and "half & done" in {run["name"] for run in found}


def test_the_settings_of_a_run_are_called_as_on_its_node(page):
    """In the language of the page, whatever ComfyUI's own is in."""
    page.locator("[data-run='half & done']").get_by_role("link", name="训练详情").click()
    page.locator(".settings").wait_for()
    shown = page.locator(".settings div").all_inner_texts()
    assert {"时间步分布 均衡", "学习率曲线 余弦", "梯度检查点 自动", "左右翻转 关"} <= set(shown)
