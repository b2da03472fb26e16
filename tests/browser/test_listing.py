"""Looking for keys: folders, tables, filters, fields, pages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount

from kvstore.replication import sync
from kvstore.server import create_app
from kvstore.server.running.run import running
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore
from tests.browser.visits import Serving, Visit, Visiting

NASTY = [
    "<img src=x onerror=\"document.title='PWNED'\">/<b>bold</b>",
    "<script>document.title='PWNED'</script>",
    "/lead//",
    "per%20cent/100%?#&=+;",
    "line\nbreak",
    "\u202egnp.exe",
    "é\\😀\"'`/data",
]


def rows(page: Page) -> list[str]:
    """The names in the table, as one reads them."""
    expect(page.locator(".results")).to_have_attribute("aria-busy", "false")
    return page.locator("tbody td.name").all_inner_texts()


def observations(store: MemoryStore | SQLiteStore, many: int = 60) -> None:
    with store.transaction("fill"):
        for number in range(many):
            metadata = {
                "exposure": 10 + number % 5 * 20 + number / 1000,
                "filter": "BVR"[number % 3],
                "camera": {"gain": number % 2 + 1},
                **({"note": "with space"} if number % 10 == 0 else {}),
            }
            store.set(f"runs/n{number // 20}/e{number:04}.dat", b"x" * number, metadata=metadata)


def test_folders_are_walked_through(visitor: Visit, store: MemoryStore) -> None:
    observations(store)
    store.set("readme.txt", b"hello")
    page = visitor.open()
    expect(page.get_by_role("status").filter(has_text="61 keys in all")).to_be_visible()
    assert rows(page) == ["readme.txt", "runs/"]
    expect(page.get_by_role("row", name="runs/ 60 keys")).to_be_visible()
    page.get_by_role("link", name="runs/").click()
    page.get_by_role("link", name="n1/").click()
    expect(page).to_have_title("runs/n1/ – kvstore")
    expect(page.get_by_role("link", name="e0020.dat")).to_be_visible()
    assert len(rows(page)) == 20
    crumbs = page.get_by_role("navigation", name="Folders")
    assert crumbs.get_by_role("listitem").all_inner_texts() == ["All keys", "runs/", "n1/"]
    page.keyboard.press("u")
    expect(page.get_by_role("link", name="n2/")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("link", name="e0020.dat")).to_be_visible()
    page.get_by_role("link", name="All keys").last.click()
    expect(page.locator(".status")).to_have_text("20 keys")


def test_keys_of_all_kinds_are_shown_and_found(visitor: Visit, store: MemoryStore) -> None:
    for key in NASTY:
        store.set(key, key.encode(), metadata={"<b>field</b>": "<img src=x onerror=alert(1)>"})
    page = visitor.open("#/?view=keys")
    expect(page.locator(".status")).to_have_text(f"{len(NASTY)} keys")
    names = set(rows(page))
    assert {"<script>document.title='PWNED'</script>", "line\\nbreak", "\\u202egnp.exe"} <= names
    for key in sorted(NASTY):
        page.locator("tbody tr").nth(sorted(NASTY).index(key)).get_by_role("link").click()
        expect(page.locator(".card.preview pre")).to_be_visible()
        shown = page.locator(".card.preview pre").inner_text()
        assert shown == key.replace("\u202e", "\\u202e")
        page.go_back()
        expect(page.locator(".status")).to_have_text(f"{len(NASTY)} keys")
    page.goto(f"{visitor.url}/#/")
    expect(page.get_by_role("link", name="(no name)/")).to_be_visible()
    page.get_by_role("link", name="(no name)/").click()
    expect(page.get_by_role("link", name="lead/")).to_be_visible()
    assert page.locator("b, main img, script:not([src])").count() == 0


def test_filters_are_understood_and_suggested(visitor: Visit, store: MemoryStore) -> None:
    observations(store)
    page = visitor.open("#/?view=keys")
    box = page.get_by_role("combobox", name="Filter the keys")
    expect(page.locator(".fields")).to_contain_text("Counted in all 60 keys")
    box.click()
    options = page.get_by_role("option")
    expect(options.first).to_be_visible()
    box.press_sequentially("filt")
    expect(options).to_have_count(1)
    box.press("ArrowDown")
    box.press("Enter")
    expect(box).to_have_value("filter ")
    box.press_sequentially("= ")
    expect(options.get_by_text("B", exact=True)).to_be_visible()
    options.get_by_text("B", exact=True).click()
    box.press_sequentially("exposure >= 50")
    box.press("Escape")
    box.press("Enter")
    expect(page.locator(".status")).to_have_text("12 keys")
    assert "q=filter" in page.url
    page.reload()
    expect(page.locator(".status")).to_have_text("12 keys")
    box.fill("exposure >=")
    box.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("A value is missing after “>=”.")
    expect(box).to_have_attribute("aria-invalid", "true")
    box.fill("e0013")
    box.press("Enter")
    expect(page.locator(".status")).to_have_text("1 key")
    box.fill("filter = X")
    box.press("Enter")
    expect(page.get_by_role("heading", name="No key fits the filter")).to_be_visible()
    page.locator(".nothing").get_by_role("button", name="Clear the filter").click()
    expect(page.locator(".status")).to_have_text("60 keys")


#: What a filter finds, or what is said of one that is none.
SPELLINGS: dict[str, Callable[[str, Any], object] | str] = {
    "": lambda key, m: True,
    "exposure >= 50 exposure < 70": lambda key, m: 50 <= m["exposure"] < 70,
    "filter = B": lambda key, m: m["filter"] == "B",
    'filter = "B" and camera.gain = 2': lambda key, m: m["filter"] == "B" and gain(m) == 2,
    "filter in (B, 'V')": lambda key, m: m["filter"] in "BV",
    "filter != B or has note": lambda key, m: m["filter"] != "B" or "note" in m,
    "not (filter = B or filter = V)": lambda key, m: m["filter"] == "R",
    "not has note": lambda key, m: "note" not in m,
    "note *= space": lambda key, m: "note" in m,
    "note ^= with": lambda key, m: "note" in m,
    'camera = {"gain": 1}': lambda key, m: gain(m) == 1,
    "n1 e002": lambda key, m: re.search("n1.*e002", key),
    "e*7.dat exposure > 20": lambda key, m: key.endswith("7.dat") and m["exposure"] > 20,
    '{"any": [{"filter": "B"}, {"filter": "V"}]}': lambda key, m: m["filter"] in "BV",
    "exposure >": "A value is missing after “>”.",
    "(filter = B": "This parenthesis is never closed.",
    'note = "open': 'The " is never closed.',
    "filter ! B": "There is no operator “!”",
    "filter in B": "After “in” comes a list",
    "not e0013": "has no place in “not”",
    "e0013 or filter = B": "does not go with “or”",
    '{"a": ': "A filter that begins with { is JSON",
    "= 3": "A field is expected here, not “=”.",
}
PARSE = """async (texts) => {
  const { parseFilter } = await import("./-/browser/filter.js");
  const parsed = (text) => {
    try { return parseFilter(text); } catch (error) { return error.message; }
  };
  return texts.map(parsed);
}"""


def gain(metadata: Any) -> int:
    found: int = metadata["camera"]["gain"]
    return found


def test_every_spelling_of_a_filter_means_what_it_says(visitor: Visit, store: MemoryStore) -> None:
    observations(store)
    answers = visitor.open().evaluate(PARSE, list(SPELLINGS))
    for (text, meant), answer in zip(SPELLINGS.items(), answers, strict=True):
        if isinstance(meant, str):
            assert meant in answer, text
            continue
        where = None if answer["where"] is None else json.loads(answer["where"])
        found = list(store.query_keys(where=where, glob=answer["glob"]))
        assert found == [key for key, metadata in store.query() if meant(key, metadata)], text
        assert found, text


def test_fields_become_columns_and_pictures(visitor: Visit, store: MemoryStore) -> None:
    observations(store)
    store.set("large", b"", metadata={"id": 12345678901234567890})
    page = visitor.open("#/?view=keys")
    fields = page.get_by_role("complementary", name="Fields of these keys")
    expect(fields.locator(".plot").first).to_have_attribute(
        "aria-label", re.compile("Histogram of 60 numbers")
    )
    box = fields.get_by_role("checkbox", name="Column note")
    box.check()
    expect(page.get_by_role("columnheader", name="note")).to_be_visible()
    expect(box).to_be_focused()
    fields.get_by_role("checkbox", name="Column id").check()
    expect(page.get_by_role("cell", name="12345678901234567890")).to_be_visible()
    page.reload()
    expect(page.get_by_role("columnheader", name="note")).to_be_visible()
    page.get_by_role("columnheader", name="exposure").get_by_role("link").click()
    expect(page.get_by_role("columnheader", name="exposure")).to_have_attribute(
        "aria-sort", "ascending"
    )
    assert rows(page)[0] == "runs/n0/e0000.dat"
    page.get_by_role("columnheader", name="exposure").get_by_role("link").click()
    expect(page.get_by_role("columnheader", name="exposure")).to_have_attribute(
        "aria-sort", "descending"
    )
    assert rows(page)[0] == "runs/n2/e0059.dat"
    fields.get_by_text("filter", exact=True).click()
    fields.get_by_role("button", name="V", exact=True).click()
    expect(page.locator(".status")).to_have_text("20 keys")
    expect(fields.get_by_role("button", name="V", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )


def test_pages_follow_one_another(visit: Visiting, serve: Serving, tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "store")
    url = serve(store)
    observations(store, 250)
    visitor = visit(url)
    page = visitor.open("#/in/runs/?view=keys")
    expect(page.locator(".status")).to_have_text("1 to 100 of 250")
    page.get_by_role("link", name="Next page").click()
    expect(page.locator(".status")).to_have_text("101 to 200 of 250")
    keys = list(store.query_keys(prefix="runs/"))
    assert rows(page) == [key.removeprefix("runs/") for key in keys[100:200]]
    page.keyboard.press("n")
    expect(page.locator(".status")).to_have_text("201 to 250 of 250")
    expect(page.get_by_role("link", name="Next page")).to_have_count(0)
    page.keyboard.press("p")
    expect(page.locator(".status")).to_have_text("101 to 200 of 250")
    page.reload()
    expect(page.locator(".status")).to_have_text("101 to 200 of 250")
    page.get_by_role("link", name="First page").click()
    expect(page.locator(".status")).to_have_text("1 to 100 of 250")


def test_the_keyboard_is_enough(visitor: Visit, store: MemoryStore) -> None:
    observations(store, 3)
    page = visitor.open("#/?view=keys")
    expect(page.locator(".status")).to_have_text("3 keys")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("combobox")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("link", name="e0001.dat")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect(page).to_have_title("runs/n0/e0001.dat – kvstore")
    page.go_back()
    expect(page.get_by_role("link", name="e0001.dat")).to_be_focused()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Help")
    expect(dialog).to_be_visible()
    dialog.get_by_role("checkbox").uncheck()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.keyboard.press("?")
    page.keyboard.press("v")
    expect(dialog).to_have_count(0)
    assert "view=keys" in page.url


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_nothing_is_cut_off_on_any_screen(
    visit: Visiting,
    store: MemoryStore,
    url: str,
    pytestconfig: pytest.Config,
    width: int,
    scheme: str,
) -> None:
    observations(store)
    store.set("long/" + "n" * 300, b"x" * 500, metadata={"long": "w" * 500, "w" * 200: 1})
    visitor = visit(url, viewport={"width": width, "height": 740}, color_scheme=scheme)
    for place in ("#/", "#/in/runs/?view=keys", "#/in/long/", f"#/key/long/{'n' * 300}"):
        page = visitor.open(place)
        expect(page.locator(".waiting, [aria-busy=true]")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") == width
    visitor.open("#/in/runs/?view=keys")
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    # Left for whoever wants to look at it.
    file = pytestconfig.rootpath / "build" / "screenshots" / f"{width}-{scheme}.jpg"
    picture = page.screenshot(path=file, type="jpeg", quality=20)
    assert len(picture) < 60_000
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", dark))) < 200) == (scheme == "dark")


def test_an_empty_store_says_what_to_do(visitor: Visit) -> None:
    page = visitor.open()
    expect(page.get_by_role("heading", name="This store is empty")).to_be_visible()
    expect(page.get_by_role("button", name="Upload files")).to_be_visible()
    page.goto(f"{visitor.url}/#/in/none/")
    expect(page.get_by_role("heading", name="Nothing begins with this name")).to_be_visible()


def test_what_a_sync_remembers_does_not_pass_for_data(visitor: Visit, store: MemoryStore) -> None:
    with MemoryStore() as source:
        source.set("runs/1", b"one")
        sync(source, store, name="lab")
    page = visitor.open()
    row = page.get_by_role("row").filter(has_text=".sync/")
    expect(row).to_contain_text("kept by kvstore sync")
    row.get_by_role("link").click()
    expect(page.get_by_role("link", name="lab/")).to_be_visible()
    visitor.open("#/key/.sync/lab/k")
    expect(page.locator(".notice")).to_contain_text("kvstore sync keeps here")
    visitor.open("#/key/runs/1")
    expect(page.locator(".preview pre")).to_have_text("one")
    expect(page.locator(".notice")).to_have_count(0)


def test_the_page_works_below_a_path(chromium: Browser) -> None:
    store = MemoryStore()
    app = Starlette(routes=[Mount("/deep/er", create_app(store))])
    with store, running(app) as url:
        store.set("a/b.txt", b"text")
        visitor = Visit(chromium, f"{url}/deep/er")
        page = visitor.open()
        page.get_by_role("link", name="a/").click()
        page.get_by_role("link", name="b.txt").click()
        expect(page.locator(".preview pre")).to_have_text("text")
        assert page.url == f"{url}/deep/er/#/key/a/b.txt"
        visitor.close()
