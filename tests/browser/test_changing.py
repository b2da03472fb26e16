"""Uploads, what others change, who may do what, and what is done when nobody answers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from kvstore.compose import ReadOnly
from kvstore.errors import AuthenticationError
from kvstore.server import serve_background
from kvstore.server.access.callers import Access, Authenticator, Caller
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore
from kvstore.values import PUBLIC
from tests.browser.visits import Serving, Visit, Visiting

LARGE = 9 * 1024 * 1024 + 17
DROP = """async ([names, text]) => {
  const transfer = new DataTransfer();
  for (const name of names) transfer.items.add(new File([text], name, { type: "text/plain" }));
  for (const type of ["dragenter", "dragover", "drop"]) {
    const how = { dataTransfer: transfer, bubbles: true, cancelable: true };
    document.body.dispatchEvent(new DragEvent(type, how));
  }
}"""


def choose(page: Page, *files: Path | dict[str, object]) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload").first.click()
    chooser.value.set_files(list(files))  # type: ignore[arg-type]


def test_files_are_dropped_and_chosen(visitor: Visit, store: MemoryStore) -> None:
    page = visitor.open("#/in/new/")
    expect(page.get_by_role("heading", name="Nothing begins with this name")).to_be_visible()
    page.evaluate(DROP, [["a.txt", "<b>ü</b>.csv"], "text"])
    uploads = page.get_by_role("region", name="Uploads")
    expect(uploads.locator(".upload.done")).to_have_count(2)
    assert store.to_bytes("new/a.txt") == b"text"
    assert store.get("new/<b>ü</b>.csv").mimetype == "text/csv"
    # They come into the listing as the changes of others do.
    expect(page.get_by_role("link", name="a.txt").first).to_be_visible()
    choose(page, {"name": "c.bin", "mimeType": "application/x-odd", "buffer": b"\0\1"})
    expect(uploads.locator(".upload.done")).to_have_count(3)
    assert store.get("new/c.bin").mimetype == "application/x-odd"
    page.get_by_role("button", name="Close the list").click()
    expect(uploads).to_be_hidden()


def test_nothing_is_overwritten_without_a_question(visitor: Visit, store: MemoryStore) -> None:
    store.set("a.txt", b"old", metadata={"n": 1})
    page = visitor.open()
    expect(page.get_by_role("link", name="a.txt")).to_be_visible()
    visitor.expected |= {412}
    page.evaluate(DROP, [["a.txt"], "new"])
    uploads = page.get_by_role("region", name="Uploads")
    expect(uploads).to_contain_text("There is such a key already, of 3 bytes.")
    assert store.to_bytes("a.txt") == b"old"
    store.set_data("a.txt", b"other")  # what is agreed to is the loss of what was told
    uploads.get_by_role("button", name="Replace").click()
    expect(uploads).to_contain_text("It was changed meanwhile.")
    assert store.to_bytes("a.txt") == b"other"
    uploads.get_by_role("button", name="Replace").click()
    expect(uploads.locator(".upload.done")).to_have_count(1)
    assert (store.to_bytes("a.txt"), store.get_metadata("a.txt")) == (b"new", {"n": 1})
    page.evaluate(DROP, [["a.txt"], "newer"])
    uploads.get_by_role("button", name="Keep it").click()
    expect(uploads).to_contain_text("Not uploaded")
    page.goto(f"{visitor.url}/#/key/a.txt")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Replace data").click()
    chooser.value.set_files([{"name": "x.txt", "mimeType": "text/plain", "buffer": b"newest"}])
    expect(page.locator(".preview pre")).to_have_text("newest")


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(LARGE))
    return path


def test_a_large_upload_goes_on_where_it_broke_off(
    visit: Visiting, serve: Serving, tmp_path: Path, large: Path
) -> None:
    store = SQLiteStore(tmp_path / "store")
    url = serve(store)
    visitor = visit(url)
    page = visitor.open()
    parts: list[int] = []

    def break_once(route: Route) -> None:
        parts.append(int(route.request.headers["upload-offset"]))
        if len(parts) == 2:
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route(
        "**/uploads/*",
        lambda route: break_once(route) if route.request.method == "PATCH" else route.continue_(),
    )
    visitor.forgiven.append("net::ERR_CONNECTION_RESET")
    choose(page, large)
    uploads = page.get_by_role("region", name="Uploads")
    expect(uploads.locator(".upload.done")).to_have_count(1)
    eight = 8 * 1024 * 1024
    assert parts == [0, eight, eight]
    assert store.to_bytes("large.bin") == large.read_bytes()


def test_an_upload_is_resumed_in_a_page_that_was_opened_anew(
    visit: Visiting, serve: Serving, tmp_path: Path, large: Path
) -> None:
    store = SQLiteStore(tmp_path / "store")
    url = serve(store)
    visitor = visit(url)
    page = visitor.open()
    held: list[Route] = []
    parts: list[str] = []

    def hold(route: Route) -> None:
        if route.request.method == "PATCH" and route.request.headers["upload-offset"] != "0":
            held.append(route)
        else:
            route.continue_()

    page.route("**/uploads/*", hold)
    choose(page, large)
    uploads = page.get_by_role("region", name="Uploads")
    expect(uploads).to_contain_text("88 % of 9.4 MB")
    uploads.get_by_role("button", name="Pause").click()
    expect(uploads).to_contain_text("Paused")
    assert not store.exists("large.bin")
    page.unroute("**/uploads/*")
    page.reload()
    page.on("request", lambda request: parts.append(request.headers.get("upload-offset", "")))
    choose(page, large)
    expect(uploads.locator(".upload.done")).to_have_count(1)
    assert "0" not in parts
    assert store.to_bytes("large.bin") == large.read_bytes()
    assert page.evaluate("localStorage.length") == 0


def test_changes_of_others_are_shown_as_they_happen(visitor: Visit, store: MemoryStore) -> None:
    store.set("run/a", b"", metadata={"n": 1})
    store.set("run/b", b"", metadata={"n": 2})
    page = visitor.open("#/in/run/")
    expect(page.locator("#live")).to_have_text("Live")
    cell = page.get_by_role("row", name="a 1").get_by_role("cell", name="1", exact=True)
    expect(cell).to_be_visible()
    page.get_by_role("link", name="b").last.focus()
    store.update_metadata("run/a", {"n": 77})
    expect(page.locator("tr.changed").get_by_role("cell", name="77")).to_be_visible()
    store.set("run/aa", b"", metadata={"n": 3})
    expect(page.locator("tr.changed").get_by_role("link", name="aa")).to_be_visible()
    expect(page.locator(".status")).to_have_text("3 keys")
    store.delete("run/a")
    expect(page.get_by_role("link", name="a", exact=True)).to_have_count(0)
    expect(page.locator("tr:focus-within")).to_contain_text("b")
    store.set("run/deep/er", b"")
    expect(page.get_by_role("row", name="deep/ 1 key")).to_be_visible()


def test_a_feed_that_breaks_off_goes_on_behind_the_last_change(visit: Visiting) -> None:
    with MemoryStore() as store:
        with serve_background(store) as url:
            port = int(url.rpartition(":")[2])
            visitor = visit(url)
            page = visitor.open("#/")
            expect(page.locator("#live")).to_have_text("Live")
            store.set("a", b"")
            expect(page.get_by_role("link", name="a", exact=True)).to_be_visible()
            visitor.forgiven.append("net::ERR_")
        expect(page.locator("#live")).to_have_text("Reconnecting …")
        store.set("while-away", b"")
        with serve_background(store, port=port):
            expect(page.get_by_role("link", name="while-away")).to_be_visible()
            expect(page.locator("#live")).to_have_text("Live")


def test_a_feed_that_is_refused_is_not_asked_for_again(visitor: Visit, store: MemoryStore) -> None:
    asked: list[str] = []

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=400, json={"status": 400, "detail": "HTTP/1.0 has no chunks."})

    store.set("a", b"")
    visitor.expected.add(400)
    visitor.page.clock.install()
    visitor.page.route("**/changes", refuse)
    page = visitor.open("#/")
    expect(page.get_by_role("link", name="a", exact=True)).to_be_visible()
    page.clock.run_for(120_000)
    expect(page.locator("#live")).to_be_hidden()
    assert len(asked) == 1


class Words(Authenticator):
    """Tokens are names; that of somebody unknown does not hold."""

    async def identify(self, bearer: str) -> Caller | None:
        if bearer not in ("ann", "bob", "eve", "grafana"):
            raise AuthenticationError("There is no such token.")
        scopes = {"eve": {"read"}, "grafana": {"metrics"}}.get(bearer, {"read", "write"})
        return Caller(bearer, bearer, frozenset({bearer, PUBLIC}), frozenset(scopes))  # type: ignore[arg-type]


@pytest.fixture
def guarded(serve: Serving) -> tuple[MemoryStore, str]:
    store = MemoryStore(user_tag="ann", keep_versions=2)
    url = serve(store, access=Access([Words()]))
    store.set("secret/k", b"hidden")
    store.set("shared/k", b"shown", metadata={"n": 1})
    store.set_permissions("shared/k", {"owned": {"ann"}, "read": {"public"}})
    return store, url


def sign_in(page: Page, token: str) -> None:
    page.get_by_role("dialog", name="Sign in").get_by_label("Token").fill(token)
    page.keyboard.press("Enter")


def test_one_signs_in_by_a_token(visit: Visiting, guarded: tuple[MemoryStore, str]) -> None:
    _, url = guarded
    visitor = visit(url)
    visitor.expected |= {401, 403}
    page = visitor.open("#/")
    dialog = page.get_by_role("dialog", name="Sign in")
    expect(dialog).to_contain_text("This store is not open to everybody.")
    expect(dialog.get_by_label("Token")).to_be_focused()
    expect(dialog.get_by_label("Token")).to_have_attribute("type", "password")
    sign_in(page, "nobody")
    expect(dialog).to_contain_text("does not take this token")
    sign_in(page, "bob")
    expect(page.locator("#user")).to_contain_text("bob")
    expect(page.locator("#live")).to_have_text("Live")
    expect(page.get_by_role("link", name="shared/")).to_be_visible()
    # Nothing tells of a key that may not be seen, a folder neither.
    expect(page.locator(".status")).to_contain_text("1 key in all")
    expect(page.get_by_role("link", name="secret/")).to_have_count(0)
    page.goto(f"{url}/#/key/secret/k")
    expect(page.get_by_role("heading", name="There is no such key")).to_be_visible()
    page.goto(f"{url}/#/key/shared/k")
    expect(page.get_by_role("region", name="Permissions")).to_contain_text("Only owners")
    expect(page.locator(".preview pre")).to_have_text("shown")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.path().read_bytes() == b"shown"
    page.route("**/keys/shared/k/data", lambda route: route.fulfill(body="sho"))
    page.get_by_role("button", name="Download").click()
    expect(page.locator("#toast")).to_have_text("The download broke off.")
    page.unroute("**/keys/shared/k/data")
    page.get_by_role("button", name="Edit").click()
    page.get_by_role("textbox").fill("{}")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#metadata-error")).to_contain_text("may not")
    page.reload()
    expect(page.locator(".preview pre")).to_have_text("shown")
    assert "bob" not in page.url
    assert page.evaluate("localStorage.length") == 0
    page.get_by_role("button", name="Sign out").click()
    expect(dialog).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_who_is_not_let_in_can_try_another_token(
    visit: Visiting, guarded: tuple[MemoryStore, str]
) -> None:
    store, url = guarded
    visitor = visit(url)
    visitor.expected |= {401, 403, 429}
    page = visitor.open("#/")
    dialog = page.get_by_role("dialog", name="Sign in")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="You are not signed in")).to_be_visible()
    page.get_by_role("button", name="Sign in").click()
    sign_in(page, "grafana")
    expect(page.locator(".nothing")).to_contain_text(
        "The credentials of 'grafana' are not for this"
    )
    page.get_by_role("button", name="Sign in with another token").click()
    store.delete("shared/k")
    sign_in(page, "bob")
    expect(page.locator("#live")).to_have_text("Live")
    expect(page.get_by_role("heading", name="nothing here that you may see")).to_be_visible()
    # Of who has left nothing is shown, also if nobody else comes.
    page.get_by_role("button", name="Sign out").click()
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="You are not signed in")).to_be_visible()
    expect(page.locator("#user")).to_have_text("")
    expect(page.locator("#live")).to_be_hidden()


def test_uploads_go_with_the_token(
    visit: Visiting, guarded: tuple[MemoryStore, str], large: Path
) -> None:
    store, url = guarded
    visitor = visit(url)
    visitor.expected |= {401, 403}
    page = visitor.open("#/")
    sign_in(page, "bob")
    expect(page.locator("#user")).to_contain_text("bob")
    choose(page, large)
    expect(page.locator(".upload.done")).to_have_count(1)
    assert store.get_permissions("large.bin") == {"owned": {"bob"}}


def test_who_may_only_read_sees_nothing_to_write_with(
    visit: Visiting, serve: Serving, guarded: tuple[MemoryStore, str]
) -> None:
    store, url = guarded
    reader = visit(url)
    reader.expected |= {401, 403}
    page = reader.open("#/key/shared/k")
    sign_in(page, "eve")
    expect(page.locator(".place")).to_contain_text("read only")
    expect(page.locator(".preview pre")).to_have_text("shown")
    pages = [page, visit(serve(ReadOnly(store))).open("#/key/shared/k")]
    for one in pages:
        expect(one.locator(".preview pre")).to_have_text("shown")
        expect(
            one.get_by_role("button", name="Download").or_(one.get_by_role("link", name="Download"))
        ).to_be_visible()
        expect(one.get_by_role("button").filter(has_text="Edit")).to_have_count(0)
        expect(one.get_by_role("button").filter(has_text="Delete")).to_have_count(0)
        one.keyboard.press("u")
        expect(one.locator(".status")).to_have_text("1 key")
        expect(one.get_by_role("button").filter(has_text="Upload")).to_have_count(0)
        one.evaluate(DROP, [["a.txt"], "text"])
        expect(one.locator("#toast")).to_have_text("This store can only be read.")
    assert list(store.query_keys()) == ["secret/k", "shared/k"]


def test_a_server_that_does_not_answer(visitor: Visit, store: MemoryStore) -> None:
    store.set("a", b"")
    visitor.forgiven.append("net::ERR_")
    page = visitor.page
    page.route("**/query*", lambda route: route.abort())
    visitor.open()
    expect(page.get_by_role("heading", name="could not be read")).to_be_visible()
    expect(page.locator(".nothing")).to_contain_text("The server does not answer.")
    page.unroute("**/query*")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("link", name="a", exact=True)).to_be_visible()
    page.route("**/.well-known/kvstore", lambda route: route.abort())
    page.reload()
    expect(page.get_by_role("heading", name="The store cannot be opened")).to_be_visible()
