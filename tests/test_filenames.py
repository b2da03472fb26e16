"""Every legal key has one path, safe on every system, that leads back to it and to no other key."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias, cast
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvstore import filenames
from kvstore.errors import InvalidKeyError
from kvstore.filenames import (
    MAX_NAME_BYTES,
    Form,
    data_name,
    decode,
    decode_directory,
    decode_file,
    encode,
    is_sidecar,
    sidecar,
)
from kvstore.keys import check_key
from tests.cases import each
from tests.corpora import keys as corpus_keys

FORMS: tuple[Form, ...] = ("exact", "portable")

# A folder of the fake file system: names to folders, or to None for files.
Folder: TypeAlias = dict[str, "Folder | None"]

DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    port + digit for port in ("COM", "LPT") for digit in "0123456789¹²³"
}


def is_legal(key: str) -> bool:
    try:
        check_key(key)
    except InvalidKeyError:
        return False
    return True


def cut(text: str) -> str:
    return text.encode()[:1024].decode(errors="ignore")


# Pieces that mean something to the rules, that fold into each other, or that fill a name.
PIECES = (
    *("/", "//", ".", "..", " ", "~1", "~", "%", "%_", "%+", "%2E", "%2e", "%25", "%C3", "%00"),
    *("data", ".data", ".DATA", "meta.json", ".meta.json", ".Meta.Json", ".txt", ".kvstore"),
    *("CON", "con", "nul", "Aux", "prn", "COM1", "lpt0", "com¹", "CONIN$", "conout$", "kvstor"),
    *("a", "A", "b", "ß", "ss", "ẞ", "é", "e\u0301", "É", "\u0301", "K", "K", "ſ", "ﬁ", "ı", "İ"),
    *(
        "\x01",
        "\x7f",
        "\x85",
        "\u2028",
        "\\",
        ":",
        "*",
        "\n",
        "日",
        "😀",
        "👩‍🚀",
        "\ufeff",
        "\U0010ffff",
    ),
    *("x" * 100, "x" * 239, "." * 80, "😀" * 60, "é" * 20, "%" * 79, " " * 240, "/" * 30),
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
mixtures = st.lists(st.sampled_from(PIECES), min_size=1, max_size=12).map("".join)
# Around the length at which names split, with something special on the border.
borders = st.builds(
    lambda start, filler, length, rest: start + filler * (length // len(filler.encode())) + rest,
    start=st.sampled_from(["", " ", "a/", ".", "con"]),
    filler=st.sampled_from(["x", ".", " ", "é", "😀", "%", "X"]),
    length=st.integers(70, 260),
    rest=st.sampled_from(PIECES),
)
keys = st.one_of(texts, mixtures, borders).map(cut).filter(is_legal)
forms = st.sampled_from(FORMS)


READABLE = [
    ("runs/2024/m31.fits", ("runs", "2024", "m31.fits")),
    ("README", ("README.data",)),
    ("v1.2/x", ("v1%2E2", "x.data")),
    ("Messier 31/notes (old).txt", ("Messier 31", "notes (old).txt")),
    ("Größe/日本.fits", ("Größe", "日本.fits")),
    ("a/b", ("a", "b.data")),
    ("a", ("a.data",)),
    ("a//b", ("a", "%_", "b.data")),
    ("/a", ("%_", "a.data")),
    ("a/", ("a", "%_.data")),
    ("/", ("%_", "%_.data")),
    ("100%", ("100%25.data",)),
    ("a%2Fb", ("a%252Fb.data",)),
    ("%_", ("%25_.data",)),
    ("a%+/b", ("a%25+", "b.data")),
    ('<>:"\\|?*', ("%3C%3E%3A%22%5C%7C%3F%2A.data",)),
    ("a\nb\x7f\x85\u2028", ("a%0Ab%7F%C2%85%E2%80%A8.data",)),
    ("\x01\x1f/\x80\x9f/\xa0", ("%01%1F", "%C2%80%C2%9F", "\xa0.data")),
    (".hidden", ("%2Ehidden.data",)),
    (".hidden/.x.txt", ("%2Ehidden", "%2Ex.txt")),
    (".kvstore/tmp", ("%2Ekvstore", "tmp.data")),
    ("...", ("%2E.%2E",)),
    ("a./b.", ("a%2E", "b%2E.data")),
    (" a / b ", ("%20a%20", "%20b%20.data")),
    (" ", ("%20.data",)),
    ("a. ", ("a.%20",)),
    ("x.data", ("x.dat%61",)),
    ("x.DATA", ("x.DAT%41",)),
    ("x.y.data", ("x.y.data",)),
    ("x.data.data", ("x.data.data",)),
    (".x.data", ("%2Ex.dat%61",)),
    (".data", ("%2Edata.data",)),
    ("data", ("data.data",)),
    ("x.meta.json", ("x.meta.jso%6E",)),
    ("x.META.JSON", ("x.META.JSO%4E",)),
    ("x.json", ("x.json",)),
    ("meta.json", ("meta.json",)),
    ("CON", ("%43ON.data",)),
    ("con.txt", ("%63on.txt",)),
    ("CON .txt", ("%43ON .txt",)),
    ("nul.tar.gz", ("%6Eul.tar.gz",)),
    ("nul.data", ("%6Eul.dat%61",)),
    ("aux/prn/lpt9/x", ("%61ux", "%70rn", "%6Cpt9", "x.data")),
    ("aux.1/x", ("aux%2E1", "x.data")),
    ("COM¹/conin$/CONOUT$", ("%43OM¹", "%63onin$", "%43ONOUT$.data")),
    ("com0/Lpt0.x", ("%63om0", "%4Cpt0.x")),
    ("console/com10/common", ("console", "com10", "common.data")),
    ("PROGRA~1/longna~1.txt", ("PROGRA%7E1", "longna%7E1.txt")),
    ("kvstor~1/x", ("kvstor%7E1", "x.data")),
    ("a~12/b~3.h", ("a%7E12", "b%7E3.h")),
    ("a~1~2/b", ("a~1%7E2", "b.data")),
    ("a~1", ("a~1.data",)),
    ("progra~10/progra~10.txt", ("progra~10", "progra~10.txt")),
    ("a.b~1", ("a.b~1",)),
    ("~1/a~b/a~1b", ("~1", "a~b", "a~1b.data")),
    ("report~2024.fits", ("report~2024.fits",)),
]

PORTABLE = [
    ("runs/2024/m31.fits", ("runs", "2024", "m31.fits")),
    ("-_.~+=,@!()'&$;#[]{}^ x", ("-_.~+=,@!()'&$;#[]{}^ x",)),
    ("README", ("%52%45%41%44%4D%45.data",)),
    ("é", ("%C3%A9.data",)),
    ("e\u0301", ("e%CC%81.data",)),
    ("a`b", ("a%60b.data",)),
    ("CON", ("%43%4F%4E.data",)),
    ("con", ("%63on.data",)),
    ("com¹", ("com%C2%B9.data",)),
    ("x.data", ("x.dat%61",)),
    ("x.DATA", ("x.%44%41%54%41",)),
    ("x.META.json", ("x.%4D%45%54%41.json",)),
]


@each("key, path", READABLE)
def test_exact_spelling(key: str, path: tuple[str, ...]) -> None:
    assert encode(key) == path
    assert decode(path) == decode(path, form="exact") == key


@each("key, path", PORTABLE)
def test_portable_spelling(key: str, path: tuple[str, ...]) -> None:
    assert encode(key, form="portable") == path
    assert decode(path) == decode(path, form="portable") == key


@each(
    "key, path",
    [
        ("x" * 240, ("x" * 240 + ".data",)),
        ("x" * 241, ("x" * 240 + "%+", "x.data")),
        ("x" * 243, ("x" * 242 + "%+", "x.data")),
        ("x" * 244, ("x" * 243 + "%+", "x.data")),
        ("x" * 600, ("x" * 243 + "%+", "x" * 243 + "%+", "x" * 114 + ".data")),
        ("x" * 245 + "/y", ("x" * 245, "y.data")),
        ("x" * 246 + "/y", ("x" * 243 + "%+", "xxx", "y.data")),
        # Dots are free in the last name only.
        ("a.b" * 90, ("a%2Eb" * 48 + "a%+", "%2Eb" + "a.b" * 41)),
        # Neither a character nor its escape is cut in two.
        ("é" * 121 + "日" + "x.y", ("é" * 121 + "%+", "日x.y")),
        ("x" * 241 + "😀.y", ("x" * 241 + "%+", "😀.y")),
        ("x" * 241 + "%.y", ("x" * 241 + "%+", "%25.y")),
        # What follows a border is spelled like a segment, what precedes it may end in a space.
        ("x" * 243 + ".y.z", ("x" * 243 + "%+", "%2Ey.z")),
        ("x" * 243 + "..", ("x" * 243 + "%+", "%2E%2E.data")),
        ("x" * 243 + " y", ("x" * 243 + "%+", "%20y.data")),
        ("x" * 243 + "con", ("x" * 243 + "%+", "%63on.data")),
        ("x" * 243 + "kv~1/y", ("x" * 243 + "%+", "kv%7E1", "y.data")),
        ("x" * 242 + " yyy/z", ("x" * 242 + " %+", "yyy", "z.data")),
        (" " + "x" * 250, ("%20" + "x" * 240 + "%+", "x" * 10 + ".data")),
    ],
)
def test_long_segments_continue_in_directories(key: str, path: tuple[str, ...]) -> None:
    assert encode(key) == path
    assert decode(path) == key


def test_portable_fragments_keep_escapes_whole() -> None:
    path = encode("😀" * 50, form="portable")
    assert path == (
        "%F0%9F%98%80" * 20 + "%+",
        "%F0%9F%98%80" * 20 + "%+",
        "%F0%9F%98%80" * 10 + ".data",
    )


@given(keys, forms)
def test_every_key_comes_back(key: str, form: Form) -> None:
    path = encode(key, form=form)
    assert decode(path, form=form) == key
    assert decode(list(path)) == key


@given(keys, forms)
def test_every_name_is_safe(key: str, form: Form) -> None:
    path = encode(key, form=form)
    for name in path:
        assert name
        assert not re.search(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]', name)
        assert not name.startswith((".", " "))
        assert not name.endswith((".", " "))
        stem, _, extension = name.partition(".")
        assert stem.rstrip(" ").upper() not in DEVICES
        if len(stem) <= 8 and len(extension) <= 3:
            assert not re.search(r".~[0-9]+\Z", stem)
        assert len(sidecar(name).encode()) <= 255
    assert "." in path[-1]
    assert not any("." in directory for directory in path[:-1])
    assert not path[-1].casefold().endswith(".meta.json")


@given(keys)
def test_portable_names_survive_folding(key: str) -> None:
    for name in encode(key, form="portable"):
        rest = re.sub(r"%(?:[0-9A-F]{2}|_|\+)", "", name)
        assert re.fullmatch(r"[a-z0-9\-_.~+=,@!()'&$;#\[\]{}^ ]*", rest)


def folded(path: Sequence[str]) -> list[str]:
    """What is left of names in the most forgetful folder: no case, no compatibility forms."""
    return [
        unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", n).casefold()) for n in path
    ]


def relatives(key: str) -> set[str]:
    """Keys that some folder or some careless code takes for *key*."""
    forms_of = {unicodedata.normalize(form, key) for form in ("NFC", "NFD", "NFKC", "NFKD")}
    cases = {key.upper(), key.lower(), key.casefold(), key.swapcase(), key.title()}
    edits = {key.strip(), key.rstrip("."), key + ".data", key + "/", key + ".meta.json", "/" + key}
    escapes = {"/".join(encode(key)), encode(key)[-1], key.replace("%", "%25"), key + "%+"}
    return {other for other in forms_of | cases | edits | escapes if other != key}


@given(keys)
def test_related_keys_have_different_paths(key: str) -> None:
    for other in filter(is_legal, relatives(key)):
        assert encode(other) != encode(key)
        assert folded(encode(other, form="portable")) != folded(encode(key, form="portable"))


@given(st.lists(keys, max_size=30, unique=True))
def test_different_keys_have_different_paths(some: list[str]) -> None:
    assert len({encode(key) for key in some}) == len(some)
    assert len({tuple(folded(encode(key, form="portable"))) for key in some}) == len(some)


@given(keys, forms)
@example("/" * 1024, "exact")
@example("%" * 1024, "exact")
@example(" /" * 512, "exact")
@example("con/" * 256, "exact")
@example("A" * 1024, "portable")
@example("😀" * 256, "portable")
@example("a😀" * 204, "portable")
@example("ab~1/" * 204, "portable")
def test_paths_are_short_enough(key: str, form: Form) -> None:
    path = encode(key, form=form)
    assert len(sidecar("/".join(path)).encode()) <= 3200
    assert decode(path, form=form) == key


@given(st.text(st.sampled_from("aZ09_-.=/con"), min_size=1, max_size=20).filter(is_legal), forms)
@example("x.data", "exact")
@example("a.b.DATA", "exact")
@example("x.Meta.json", "exact")
@example("com1/LPT0.x/nul", "exact")
@example("x" * 240, "exact")
@example("x" * 241, "exact")
def test_shortcut_for_plain_keys_changes_nothing(key: str, form: Form) -> None:
    path = encode(key, form=form)
    never = dict.fromkeys(FORMS, re.compile(r"(?!)"))
    with mock.patch.object(filenames, "_PLAIN", never):
        assert encode(key, form=form) == path
        assert decode(path, form=form) == key
    assert decode(path, form=form) == key


@pytest.mark.parametrize("form", ["Exact", "", None])
def test_unknown_form_is_refused(form: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"not {form!r}")):
        encode("a", form=cast("Form", form))


def test_unknown_form_is_refused_on_the_way_back() -> None:
    wrong = cast("Form", "upper")
    for call in (
        lambda: decode(("a.data",), form=wrong),
        lambda: decode_file("a.data", form=wrong),
        lambda: decode_directory("a", form=wrong),
    ):
        with pytest.raises(ValueError, match="not 'upper'"):
            call()


def test_lone_surrogates_are_never_written() -> None:
    for form in FORMS:
        with pytest.raises(UnicodeEncodeError):
            encode("a\ud800", form=form)


FOREIGN = [
    (("README",), "README"),
    ((".kvstore", "x.data"), ".kvstore"),
    (("v1.2", "x.data"), "v1.2"),
    ((".hidden.txt",), ".hidden.txt"),
    (("x.meta.json",), "x.meta.json"),
    (("x.DATA",), "x.DATA"),
    (("x%2edata",), "x%2edata"),
    (("%61.data",), "%61.data"),
    (("a%2Fb.data",), "a%2Fb.data"),
    (("a/b.data",), "a/b.data"),
    (("a/b", "c.data"), "a/b"),
    (("100%.data",), "100%.data"),
    (("%zz.data",), "%zz.data"),
    (("%C3.data",), "%C3.data"),
    (("%ED%A0%80.data",), "%ED%A0%80.data"),
    (("%C0%AE.data",), "%C0%AE.data"),
    (("a\udcff.data",), "a\\udcff.data"),
    (("a\udcff%C3.data",), "a\\udcff%C3.data"),
    (("a%00.data",), "a%00.data"),
    (("a\0.data",), "a\\x00.data"),
    (("CON.data",), "CON.data"),
    (("longna~1.txt",), "longna~1.txt"),
    (("%_x.data",), "%_x.data"),
    (("%_",), "%_"),
    (("",), "''"),
    (("", "x.data"), "''"),
    (("a", ".data"), ".data"),
    (("%_.data",), "%_.data"),
    (("%2E", "x.data"), "%2E"),
    (("a", "%2E%2E.data"), "%2E%2E.data"),
    (("%+", "x.data"), "%+"),
    (("%_%+", "x.data"), "%_%+"),
    (("a%+", "x.data"), "a%+"),
    (("a%+",), "a%+"),
    (("x" * 243 + "%+", "%_.data"), "xxx"),
    (("x" * 242 + "%+", "xx.data"), "xxx"),
    (("x" * 244 + "%+", "x.data"), "xxx"),
    (("x" * 241 + ".data",), "xxx"),
    (("x" * 246, "y.data"), "xxx"),
    (("A", "%42.data"), "%42.data"),
    (("%41", "B.data"), "B.data"),
]


@each("path, blamed", FOREIGN)
def test_paths_of_no_key_are_refused(path: tuple[str, ...], blamed: str) -> None:
    with pytest.raises(ValueError, match=re.escape(blamed[-60:])) as caught:
        decode(path)
    assert type(caught.value) is ValueError
    for form in FORMS:
        with pytest.raises(ValueError):
            decode(path, form=form)


def test_path_of_too_long_a_key_is_refused() -> None:
    directories = ["x" * 203] * 5
    assert len(decode([*directories, "xx.x"])) == 1024
    with pytest.raises(ValueError, match="1024 bytes"):
        decode([*directories, "xxx.x"])


def test_path_without_names_is_refused() -> None:
    with pytest.raises(ValueError, match="no names"):
        decode(())


def test_one_form_refuses_the_other() -> None:
    with pytest.raises(ValueError, match=r"README\.data"):
        decode(("README.data",), form="portable")
    with pytest.raises(ValueError, match=r"%52\.data"):
        decode(("%52.data",), form="exact")


NAME_PIECES = (*PIECES, "%2E", "%20", "%61", "%41", "%C3%A9", "%F0%9F%98%80", "%+", "%_", ".data")
names = st.one_of(
    st.lists(st.sampled_from(NAME_PIECES), max_size=5).map("".join),
    st.text(max_size=8),
    st.builds(str.__add__, st.sampled_from(["x" * 242, "x" * 243]), st.sampled_from(NAME_PIECES)),
)


@given(st.lists(names, min_size=1, max_size=4))
def test_only_the_one_spelling_is_read(path: list[str]) -> None:
    try:
        key = decode(path)
    except ValueError:
        return
    assert is_legal(key)
    assert tuple(path) in {encode(key, form=form) for form in FORMS}


@st.composite
def damaged_paths(draw: st.DrawFn) -> tuple[list[str], Form]:
    form = draw(forms)
    path = list(encode(draw(keys), form=form))
    at = draw(st.integers(0, len(path) - 1))
    place = draw(st.integers(0, len(path[at])))
    width = draw(st.integers(0, 3))
    name = path[at]
    path[at] = name[:place] + draw(st.sampled_from(["", *NAME_PIECES])) + name[place + width :]
    return path, form


@given(damaged_paths())
def test_changed_paths_are_refused_or_right(damaged: tuple[list[str], Form]) -> None:
    path, form = damaged
    try:
        key = decode(path, form=form)
    except ValueError:
        return
    assert encode(key, form=form) == tuple(path)


@given(names, forms)
def test_single_names_are_judged_like_paths(name: str, form: Form) -> None:
    """A file at the top that decodes is refused by ``decode`` only for what its text is."""
    try:
        text = decode_file(name, form=form)
    except ValueError:
        with pytest.raises(ValueError):
            decode([name], form=form)
    else:
        if is_legal(text):
            assert decode([name], form=form) == text
            assert encode(text, form=form) == (name,)


@each(
    "name, meaning",
    [
        ("runs", ("runs", False)),
        ("v1%2E2", ("v1.2", False)),
        ("%_", ("", False)),
        ("a b", ("a b", False)),
        ("x" * 243 + "%+", ("x" * 243, True)),
        ("%2E" * 81 + "%+", ("." * 81, True)),
    ],
)
def test_meaning_of_directory_names(name: str, meaning: tuple[str, bool]) -> None:
    assert decode_directory(name) == meaning


@pytest.mark.parametrize(
    ("name", "text"),
    [("m31.fits", "m31.fits"), ("README.data", "README"), ("x.dat%61", "x.data"), ("%_.data", "")],
)
def test_meaning_of_file_names(name: str, text: str) -> None:
    assert decode_file(name) == text


@each(
    "name",
    [
        "",
        "m31.fits",
        ".kvstore",
        "a/b",
        "CON",
        "%61",
        "%+",
        "%_%+",
        "x" * 246,
        "x" * 244 + "%+",
        "a%00",
        "a%2Fb",
        "a\udcff",
        "%C3",
    ],
)
def test_names_of_no_directory_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(ascii(name)[:90])):
        decode_directory(name)


@each(
    "name",
    [
        "",
        "README",
        "a/b.data",
        "a/b.c",
        "a%00.data",
        "a%2Fb.data",
        "%_",
        ".data",
        "x.data.meta.json",
        "x" * 241 + ".data",
        "x" * 241 + ".fits",
    ],
)
def test_names_of_no_file_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(ascii(name)[:90])):
        decode_file(name)


@given(keys, forms)
def test_sidecars_are_told_from_data(key: str, form: Form) -> None:
    file = encode(key, form=form)[-1]
    assert not is_sidecar(file)
    assert is_sidecar(sidecar(file))
    assert data_name(sidecar(file)) == file
    with pytest.raises(ValueError, match=r"No key has the name|bytes that are not UTF-8"):
        decode_file(sidecar(file))


def test_name_of_a_sidecar() -> None:
    assert sidecar("m31.fits") == "m31.fits.meta.json"


@pytest.mark.parametrize("name", ["m31.fits", ".meta.json", "m31.fits.meta.JSON", ""])
def test_other_names_are_no_sidecars(name: str) -> None:
    assert not is_sidecar(name)
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        data_name(name)


def folder_of(paths: Sequence[tuple[str, ...]]) -> Folder:
    """Lay out data files, their sidecars and the store's own folder in a fake file system."""
    root: Folder = {".kvstore": {"tmp": {}}}
    for *directories, file in paths:
        folder = root
        for name in directories:
            below = folder.setdefault(name, {})
            assert below is not None, f"{name!r} is a file already"
            folder = below
        for name in (file, sidecar(file)):
            assert name not in folder
            folder[name] = None
    return root


def listed(folder: Folder) -> Iterator[tuple[str, Folder | None]]:
    """Yield the entries of one folder, those of its continuation directories among them."""
    for name, below in folder.items():
        if below is None:
            if not is_sidecar(name):
                yield decode_file(name), None
        elif name != ".kvstore":
            text, continues = decode_directory(name)
            if continues:
                yield from ((text + rest, deeper) for rest, deeper in listed(below))
            else:
                yield text + "/", below


def walk(folder: Folder, prefix: str = "") -> Iterator[str]:
    for text, below in sorted(listed(folder), key=lambda entry: entry[0]):
        if below is None:
            yield prefix + text
        else:
            yield from walk(below, prefix + text)


related_keys = st.lists(
    st.sampled_from(
        [
            "a",
            "A",
            "b",
            "é",
            ".",
            "-",
            "0",
            " ",
            "/",
            "//",
            "x" * 200,
            "x" * 41,
            "x",
            "y" * 3,
            ".data",
        ]
    ),
    min_size=1,
    max_size=8,
).map("".join)


@given(st.lists(st.one_of(keys, related_keys.map(cut).filter(is_legal)), unique=True), forms)
@example(["a", "a/b", "a-b", "a.b", "a0", "a/", "a//", "/a", "a/b/c"], "exact")
@example(["x" * 243 + "b", "x" * 244 + "/a", "x" * 243 + "z", "x" * 245 + "/a", "x" * 243], "exact")
def test_walking_gives_keys_in_order(some: list[str], form: Form) -> None:
    root = folder_of([encode(key, form=form) for key in some])
    assert list(walk(root)) == sorted(some)


LEGAL = [(entry["id"], key) for entry, key in corpus_keys() if is_legal(key)]


def test_corpus_has_legal_keys() -> None:
    assert len(LEGAL) == 520


@each("form", FORMS)
@each("key", [pytest.param(key, id=name) for name, key in LEGAL])
def test_corpus_keys_come_back(key: str, form: Form) -> None:
    path = encode(key, form=form)
    assert decode(path, form=form) == key
    assert all(len(name.encode()) <= MAX_NAME_BYTES for name in path)


@pytest.mark.parametrize("form", FORMS)
def test_corpus_keys_live_in_one_folder(form: Form) -> None:
    some = sorted({key for _, key in LEGAL})
    paths = [encode(key, form=form) for key in some]
    assert list(walk(folder_of(paths))) == some
    if form == "portable":
        ordered = sorted(folded(path) for path in paths)
        assert all(one != other for one, other in pairwise(ordered))
