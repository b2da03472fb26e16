"""The page of a key: what it shows, and what is changed there."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from kvstore.stores.memory import MemoryStore
from tests.browser.visits import Visit, Visiting

SKY = Path(__file__).parents[2] / "examples" / "data"
SCRIPT = "<script>document.title='PWNED'</script>"


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def pixel(page: Page, x: float, y: float) -> list[int]:
    """The colour of the picture at a place given as parts of its width and height."""
    script = """(canvas, [x, y]) => {
      const place = [Math.floor(x * canvas.width), Math.floor(y * canvas.height)];
      const copy = new OffscreenCanvas(canvas.width, canvas.height)
        .getContext("2d", { willReadFrequently: true });
      copy.drawImage(canvas, 0, 0);
      return [...copy.getImageData(...place, 1, 1).data];
    }"""
    found: list[int] = page.locator("canvas").evaluate(script, [x, y])
    return found


def test_metadata_are_edited_and_no_number_is_altered(visitor: Visit, store: MemoryStore) -> None:
    store.set("k", b"abc", metadata={"large": 12345678901234567890, "f": 1.0, "text": SCRIPT})
    page = visitor.open("#/key/k")
    card = page.get_by_role("region", name="Metadata")
    expect(card).to_contain_text(SCRIPT)
    expect(card).to_contain_text("12345678901234567890")
    page.keyboard.press("e")
    area = card.get_by_role("textbox")
    expect(area).to_be_focused()
    text = area.input_value()
    assert '"f": 1.0' in text
    area.fill("{")
    expect(card.get_by_role("alert")).to_contain_text("That is no JSON yet")
    area.fill(text.replace("{", '{"new": [1, {"a": null}],', 1))
    area.press("Control+s")
    expect(card.get_by_role("button", name="Edit")).to_be_visible()
    expect(card).to_contain_text("new")
    expected = {"new": [1, {"a": None}], "large": 12345678901234567890, "f": 1.0, "text": SCRIPT}
    assert store.get_metadata("k") == expected
    assert store.to_bytes("k") == b"abc"


def test_a_conflict_shows_both_and_overwrites_nothing(visitor: Visit, store: MemoryStore) -> None:
    store.set("k", b"abc", metadata={"n": 1})
    page = visitor.open("#/key/k")
    visitor.expected |= {412}
    card = page.get_by_role("region", name="Metadata")
    card.get_by_role("button", name="Edit").click()
    expect(card.get_by_role("textbox")).to_be_visible()
    store.set_metadata("k", {"n": 1, "theirs": True})
    expect(page.locator(".notices")).to_contain_text("while you were editing")
    card.get_by_role("textbox").fill('{"n": 2}')
    card.get_by_role("button", name="Save").click()
    conflict = card.locator(".conflict")
    expect(conflict).to_contain_text("Somebody has saved another version meanwhile")
    expect(conflict.locator("mark").filter(has_text="theirs")).to_be_visible()
    assert store.get_metadata("k") == {"n": 1, "theirs": True}
    store.set_metadata("k", {"n": 3, "theirs": True})  # once more, while the two are looked at
    card.get_by_role("button", name="Save mine").click()
    expect(conflict).to_contain_text('"n": 3')
    assert store.get_metadata("k") == {"n": 3, "theirs": True}
    card.get_by_role("textbox").fill('{"n": 2, "theirs": true}')
    card.get_by_role("button", name="Save mine").click()
    expect(card.get_by_role("button", name="Edit")).to_be_visible()
    assert store.get_metadata("k") == {"n": 2, "theirs": True}


def test_facts_permissions_versions_and_the_link(visitor: Visit, store: MemoryStore) -> None:
    first = store.set("f/k.txt", b"first", metadata={"n": 1}, mimetype="text/plain")
    store.set("f/k.txt", b"second", metadata={"n": 2}, mimetype="text/plain")
    page = visitor.open("#/key/f/k.txt")
    facts = page.get_by_role("region", name="Facts")
    record = store.record("f/k.txt")
    for told in ("6 bytes", "text/plain", record.revision, record.digest):
        expect(facts).to_contain_text(str(told))
    expect(page.locator(".preview pre")).to_have_text("second")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#toast")).to_contain_text("in the clipboard")
    assert page.evaluate("navigator.clipboard.readText()") == f"{visitor.url}/#/key/f/k.txt"
    permissions = page.get_by_role("region", name="Permissions")
    expect(permissions).to_contain_text("ann")
    permissions.get_by_role("button", name="Edit").click()
    permissions.get_by_label("read").fill("bob, public, bob")
    permissions.get_by_role("button", name="Save").click()
    expect(permissions).to_contain_text("everybody")
    assert store.get_permissions("f/k.txt") == {"owned": {"ann"}, "read": {"bob", "public"}}
    versions = page.get_by_role("region", name="Versions")
    versions.locator(f'a[href*="{first}"]').click()
    expect(page.locator(".preview pre")).to_have_text("first")
    expect(page.locator(".notice")).to_contain_text("This is how the key was")
    expect(page.get_by_role("button", name="Delete")).to_have_count(0)
    page.get_by_role("button", name="Restore this version").click()
    expect(page.get_by_role("button", name="Delete")).to_be_visible()
    expect(page.locator(".preview pre")).to_have_text("first")
    assert store.get_metadata("f/k.txt") == {"n": 1}


def test_download_and_delete(visitor: Visit, store: MemoryStore) -> None:
    key = f"f/{SCRIPT}"
    store.set(key, SCRIPT.encode(), mimetype="text/html")
    page = visitor.open("#/in/f/<script>document.title='PWNED'</")
    page.get_by_role("link", name="script>", exact=True).click()
    expect(page.locator(".preview pre")).to_have_text(SCRIPT)
    with page.expect_download() as download:
        page.keyboard.press("d")
    assert download.value.path().read_bytes() == SCRIPT.encode()
    page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("alertdialog")
    expect(dialog).to_contain_text("will be gone for everybody")
    page.keyboard.press("Escape")
    assert store.exists(key)
    page.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(page.locator("h1")).to_have_text("f/<script>document.title='PWNED'</")
    assert not store.exists(key)


def test_what_was_changed_meanwhile_is_not_deleted_nor_overwritten(
    visitor: Visit, store: MemoryStore
) -> None:
    visitor.expected |= {412}
    old = store.set("k.npy", npy(np.zeros((2, 3, 4))))
    store.set("k.npy", npy(np.ones((2, 3, 4))))
    page = visitor.open("#/key/k.npy")
    permissions = page.get_by_role("region", name="Permissions")
    permissions.get_by_role("button", name="Edit").click()
    permissions.get_by_label("read").fill("bob")
    expect(page.get_by_label("Plane")).to_be_visible()
    store.set("k.npy", b"of somebody else")
    expect(page.locator(".notices")).to_contain_text("Somebody has changed this key")
    page.get_by_label("Plane").press("End")
    expect(page.locator(".preview")).to_contain_text("The data were changed while they were read")
    permissions.get_by_role("button", name="Save").click()
    expect(permissions.get_by_role("alert")).to_contain_text("nothing was saved")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Delete").click()
    expect(page.locator("#toast")).to_contain_text("nothing was deleted")
    expect(page.locator(".preview pre")).to_have_text("of somebody else")
    visitor.open(f"#/key/k.npy?version={old}")
    expect(page.get_by_label("Plane")).to_be_visible()
    newest = store.set("k.npy", b"once more")
    page.get_by_role("button", name="Restore this version").click()
    expect(page.locator("#toast")).to_contain_text("nothing was restored")
    assert store.record("k.npy").revision == newest
    assert store.get_permissions("k.npy") == {"owned": {"ann"}}


def test_a_key_that_is_not_there(visitor: Visit, store: MemoryStore) -> None:
    store.set("nothing/else", b"")
    page = visitor.open("#/key/nothing")
    expect(page.get_by_role("heading", name="There is no such key")).to_be_visible()
    page.get_by_role("link", name="To all keys").click()
    expect(page.locator(".status")).to_contain_text("1 key")


TEXTS = {
    "page.html": ("text/html", SCRIPT, SCRIPT),
    "drawing.svg": (
        "image/svg+xml",
        '<svg xmlns="http://www.w3.org/2000/svg" onload="document.title=\'PWNED\'"/>',
        "<svg xmlns=",
    ),
    "a.json": (
        "application/octet-stream",
        '{"b":[1.0,{}],"c":"\\u202e"}',
        '"b": [\n    1.0,\n    {}\n  ]',
    ),
    "broken.json": ("application/json", '{"b":', "This says it is JSON, but"),
    "hidden.txt": ("text/plain", "a\u202eb", "a\\u202eb"),
    "bytes.bin": ("application/octet-stream", "\x00\x01ABC", "000000  00 01 41 42 43"),
    "empty": ("text/plain", "", "There are no data"),
    "fake.png": ("image/png", SCRIPT, SCRIPT),
    "fake.npy": ("application/octet-stream", "\u0093NUMPY", "There is no"),
}


def test_text_is_shown_as_text_and_never_runs(visitor: Visit, store: MemoryStore) -> None:
    for key, (mimetype, text, _) in TEXTS.items():
        store.set(key, text.encode("latin-1" if key == "fake.npy" else "utf-8"), mimetype=mimetype)
    for key, (_, _, shown) in TEXTS.items():
        page = visitor.open(f"#/key/{key}")
        expect(page.locator(".preview")).to_contain_text(shown, use_inner_text=True)
    assert page.locator(".preview :is(svg:not(.icon), img, script, iframe)").count() == 0


def test_long_text_comes_piece_by_piece(visitor: Visit, store: MemoryStore) -> None:
    store.set("long.txt", b"0123456789abcde\n" * 40_000)
    page = visitor.open("#/key/long.txt")
    expect(page.locator(".more")).to_contain_text("The first 262 kB of 640 kB")
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(".more")).to_contain_text("The first 524 kB")
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(".more")).to_have_text("")
    assert len(page.locator(".preview pre").inner_text()) == 640_000


def test_images_and_tables(visitor: Visit, store: MemoryStore) -> None:
    store.set("hdf", (SKY / "sky/hubble_deep_field.jpg").read_bytes())  # known by its bytes
    page = visitor.open("#/key/hdf")
    expect(page.locator(".preview img")).to_be_visible()
    expect(page.locator("figcaption")).to_contain_text("JPEG")
    assert page.locator(".preview img").evaluate("image => image.naturalWidth") > 100
    rows = "\n".join(f'{year},"a, ""b""",{year / 7:.2f}' for year in range(1900, 2200))
    store.set("t.csv", f"# made for this\nyear,name,value\n{rows}\n".encode())
    page = visitor.open("#/key/t.csv")
    expect(page.get_by_role("cell", name='a, "b"').first).to_be_visible()
    expect(page.locator(".preview")).to_contain_text("300 rows, 3 columns; the first 200 below")
    expect(page.locator(".plot").first).to_have_attribute("aria-label", re.compile(r"\(value\)"))
    page.get_by_label("Column").select_option("year")
    expect(page.locator(".plot").first).to_have_attribute(
        "aria-label", re.compile("1,900 and 2,199")
    )
    store.set("t.tsv", b"a\tb\n1\t<b>2</b>\n")
    page = visitor.open("#/key/t.tsv")
    expect(page.get_by_role("cell", name="<b>2</b>")).to_be_visible()


ARRAYS = {
    "float": (np.arange(12, dtype="<f4").reshape(3, 4), "3 × 4, float32"),
    "big": (np.arange(12, dtype=">i2").reshape(3, 4), "3 × 4, int16"),
    "fortran": (np.asfortranarray(np.arange(12, dtype="f8").reshape(3, 4)), "Fortran order"),
    "half": (np.arange(12, dtype="f2").reshape(3, 4), "float16"),
    "complex": (np.arange(12, dtype="c16").reshape(3, 4), "complex128, absolute values"),
    "long": (np.arange(12, dtype="u8").reshape(3, 4), "uint64"),
    "cube": (np.arange(24, dtype="i4").reshape(2, 3, 4), "2 × 3 × 4, int32"),
}


def test_arrays_are_pictures(visitor: Visit, store: MemoryStore) -> None:
    for key, (array, told) in ARRAYS.items():
        store.set(f"{key}.npy", npy(array))
        page = visitor.open(f"#/key/{key}.npy")
        expect(page.locator(".preview .shape")).to_contain_text(told)
        # Dark above, bright below: as arrays are printed.
        assert pixel(page, 0, 0) == [0, 0, 0, 255]
        assert pixel(page, 0.99, 0.99) == [255, 255, 255, 255]
    page.get_by_label("Plane").press("End")
    expect(page.locator(".preview")).to_contain_text("2 of 2")
    page.locator("canvas").hover(position={"x": 2, "y": 2})
    expect(page.locator(".readout")).to_have_text("x 0, y 0: 12")
    page.get_by_label("Map").select_option("viridis")
    assert pixel(page, 0, 0) == [68, 1, 84, 255]


def test_arrays_that_are_no_pictures(visitor: Visit, store: MemoryStore) -> None:
    line = np.sin(np.arange(1000) / 50)
    line[3] = np.nan
    shown = {
        "line": (line, "1 value not finite"),
        "one": (np.float64(2.5), "2.5"),
        "none": (np.zeros((0, 3)), "It is empty."),
        "nan": (np.full((4, 4), np.nan), "There is no finite number in it."),
        "text": (np.array(["a", "b"]), "of which there is no picture"),
        "fields": (np.zeros(3, dtype=[("a", "f4"), ("b", "i4")]), "of which there is no picture"),
        "objects": (np.array([{"a": 1}], dtype=object), "of which there is no picture"),
    }
    for key, (array, told) in shown.items():
        file = io.BytesIO()
        np.save(file, array, allow_pickle=True)
        store.set(f"{key}.npy", file.getvalue())
        page = visitor.open(f"#/key/{key}.npy")
        expect(page.locator(".preview")).to_contain_text(told)


@pytest.mark.filterwarnings("ignore:Invalid 'BLANK'")  # in the header of a real file
def test_fits_files_are_pictures(visitor: Visit, store: MemoryStore) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    for name in ("sun/aia_171.fits", "sky/stis_hd101998.fits"):
        store.set(name, (SKY / name).read_bytes())
        with fits.open(SKY / name) as hdus:
            sides = [hdu.shape for hdu in hdus if hdu.is_image and hdu.shape]
            parts = len(hdus)
        page = visitor.open(f"#/key/{name}")
        expect(
            page.locator(".preview canvas, .preview .plots, .preview .hint").first
        ).to_be_visible()
        if parts > 1:
            expect(page.get_by_label("Part").locator("option")).to_have_count(parts)
        if sides:
            height, width = sides[0][-2:]
            expect(page.locator(".shape")).to_contain_text(f"{height:,} × {width:,}")
    data = np.arange(12, dtype="i2").reshape(3, 4)
    hdu = fits.ImageHDU(data, fits.Header({"OBJECT": "<b>x</b>"}))
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(data * 2.5, name="SCI"), hdu]).writeto(file)
    store.set("made.fits", file.getvalue())
    page = visitor.open("#/key/made.fits")
    # The first row is the lowest.
    expect(page.locator(".shape")).to_contain_text("3 × 4, float64")
    assert pixel(page, 0, 0.99) == [0, 0, 0, 255]
    page.locator("canvas").hover(position={"x": 2, "y": 2})
    expect(page.locator(".readout")).to_have_text("x 0, y 2: 20")
    page.get_by_text("Header,").click()
    expect(page.locator(".header-cards pre")).to_contain_text("XTENSION")


def test_of_fits_files_that_are_no_pictures_it_is_said_what_they_are(
    visitor: Visit, store: MemoryStore
) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    table = fits.BinTableHDU.from_columns(
        [fits.Column("FLUX", "D", array=[1.0, 2.0]), fits.Column("MAG", "J", array=[1, 2])]
    )
    packed = fits.CompImageHDU(np.zeros((30, 40), "i2"), compression_type="RICE_1")
    image = fits.PrimaryHDU(np.zeros((30, 40), "f4"))
    for name, hdus, told in [
        ("table", [fits.PrimaryHDU(), table], "A table of 2 rows with the columns FLUX, MAG,"),
        ("packed", [fits.PrimaryHDU(), packed], "A compressed image (RICE_1), which this page"),
        ("cut", [image], "The file is cut short: 4.7 kB of this part are missing."),
        ("header", [image], "The file is cut short: 4.8 kB of this part are missing."),
        ("none", [fits.PrimaryHDU()], "This part has a header and no data."),
    ]:
        file = io.BytesIO()
        fits.HDUList(hdus).writeto(file)
        size = {"cut": 2880 + 100, "header": 2880}.get(name)
        store.set(f"{name}.fits", file.getvalue()[:size])
        page = visitor.open(f"#/key/{name}.fits")
        expect(page.locator(".preview")).to_contain_text(told)
        expect(page.locator(".preview canvas")).to_have_count(1 if name == "cut" else 0)


def test_large_arrays_are_read_in_part(visitor: Visit, store: MemoryStore) -> None:
    store.set("large.npy", npy(np.zeros((3000, 3000), dtype="u1") + np.arange(3000, dtype="u1")))
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.headers.get("range", "")))
    page = visitor.open("#/key/large.npy")
    expect(page.locator(".preview")).to_contain_text("The first 1,398 of 3,000 rows.")
    assert f"bytes=128-{127 + 1398 * 3000}" in asked


def test_what_others_do_is_told(visit: Visiting, store: MemoryStore, url: str) -> None:
    store.set("k.txt", b"old", metadata={"n": 1})
    page = visit(url).open("#/key/k.txt")
    expect(page.locator("#live")).to_have_text("Live")
    expect(page.locator(".preview pre")).to_have_text("old")
    store.set("k.txt", b"new", metadata={"n": 2})
    page.get_by_role("button", name="Show it as it is now").click()
    expect(page.locator(".preview pre")).to_have_text("new")
    store.delete("k.txt")
    expect(page.locator(".notices")).to_contain_text("deleted by somebody")
