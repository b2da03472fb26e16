"""What FITS headers and EXIF become, in real files and in odd ones."""

from __future__ import annotations

import gzip
import io
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from astropy.io import fits
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from kvstore.cli.headers import Headers, _plain
from kvstore.documents import check_metadata
from tests.cases import each

DATA = Path(__file__).parents[2] / "examples" / "data"


def read(path):
    headers = Headers()
    fields = headers.read(str(path))
    assert (headers.missing, headers.broken) == (False, [])
    return fields


# -- FITS ------------------------------------------------------------------------------------


def test_the_header_of_an_exposure_is_its_metadata():
    fields = read(DATA / "sky" / "sa110_b.fits")
    assert fields["DATE-OBS"] == "2011-09-01T02:09:05"
    assert (fields["FILTER"], fields["EXPTIME"], fields["NAXIS1"]) == ("B", 120.0, 100)
    assert fields["SIMPLE"] is True
    assert not {"", "COMMENT", "HISTORY"} & fields.keys()


@each("path", sorted(DATA.rglob("*.fits")), ids=lambda path: path.name)
def test_every_header_of_a_real_file_is_plain_json(path):
    fields = read(path)
    assert fields == check_metadata(fields) == json.loads(json.dumps(fields, allow_nan=False))
    assert fields["INSTRUME"]


def test_where_the_primary_header_has_no_data_the_extension_adds_to_it():
    path = DATA / "sky" / "acis_mrk1434.fits"
    with fits.open(path) as units:
        assert "OBJECT" not in units[0].header
        assert units[0].header["NAXIS"] == 0
    fields = read(path)
    assert (fields["OBJECT"], fields["NAXIS"], fields["SIMPLE"]) == ("Mrk 1434", 2, True)


def test_what_the_primary_header_says_counts():
    header = fits.Header({"OBJECT": "M31"})
    image = fits.ImageHDU(data=[[1, 2]], header=fits.Header({"OBJECT": "flat", "GAIN": 2.5}))
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(header=header), image]).writeto(buffer)
    assert written_fields(buffer)["OBJECT"] == "M31"
    assert written_fields(buffer)["GAIN"] == 2.5
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(data=[[1, 2]], header=header), image]).writeto(buffer)
    assert "GAIN" not in written_fields(buffer)


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written_fields(buffer, name="written.fits"):
    Path(name).write_bytes(buffer.getvalue())
    return read(Path(name).absolute())


@pytest.mark.parametrize("name", ["a.fits", "a.FIT", "a.fits.gz", "a.Fits"])
def test_fits_files_are_told_by_their_names(name):
    raw = (DATA / "sky" / "sa110_b.fits").read_bytes()
    Path(name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    assert read(Path(name).absolute())["FILTER"] == "B"


def test_cards_that_are_no_json_or_no_cards_are_left_out():
    cards = [
        *("SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 0"),
        *("GOOD    = 'yes'", "HIERARCH ESO TEL ALT = 45.5", "COUNT   = 3", "FLAG    = F"),
        *("EMPTY   =", "COMPLEX = (1.0, 2.0)", "NAN     = NaN", "BAD     = 'no end"),
        *("HISTORY one", "HISTORY two", "COMMENT three", "        four", "GOOD    = 'no'"),
        "END",
    ]
    text = "".join(card.ljust(80) for card in cards)
    assert written_fields(io.BytesIO(text.ljust(2880).encode())) == {
        "SIMPLE": True,
        "BITPIX": 8,
        "NAXIS": 0,
        "GOOD": "yes",
        "ESO TEL ALT": 45.5,
        "COUNT": 3,
        "FLAG": False,
    }


# -- EXIF ------------------------------------------------------------------------------------


def exif():
    tags = Image.Exif()
    tags[ExifTags.Base.Make] = "Camera\0 "
    tags[ExifTags.Base.XResolution] = IFDRational(300, 2)
    inner = tags.get_ifd(ExifTags.IFD.Exif)
    inner[ExifTags.Base.ExposureTime] = IFDRational(1, 250)
    inner[ExifTags.Base.DateTimeOriginal] = "2026:01:02 03:04:05"
    inner[ExifTags.Base.MakerNote] = b"secret"
    inner[ExifTags.Base.FNumber] = IFDRational(0, 0)
    place = tags.get_ifd(ExifTags.IFD.GPSInfo)
    place[ExifTags.GPS.GPSLatitudeRef] = "N"
    place[ExifTags.GPS.GPSLatitude] = (IFDRational(48), IFDRational(30), IFDRational(15, 2))
    return tags


@each("name", ["a.jpg", "a.JPEG", "a.png", "a.webp", "a.tif", "a.tiff"])
def test_an_image_tells_how_it_was_made(name):
    Image.new("RGB", (4, 3)).save(name, exif=exif().tobytes())
    fields = read(Path(name).absolute())
    found = {field: fields.get(field) for field in ("Make", "XResolution", "ExposureTime")}
    assert found == {"Make": "Camera", "XResolution": 150.0, "ExposureTime": 0.004}
    assert fields["DateTimeOriginal"] == "2026:01:02 03:04:05"
    assert (fields["GPSLatitudeRef"], fields["GPSLatitude"]) == ("N", [48.0, 30.0, 7.5])
    assert not {"MakerNote", "FNumber", "ExifOffset", "GPSInfo"} & fields.keys()
    assert fields == json.loads(json.dumps(fields, allow_nan=False))


def test_a_real_image_has_some_fields():
    assert read(DATA / "sky" / "hubble_deep_field.jpg")["ExifImageWidth"] == 1000


def test_an_image_may_tell_nothing():
    Image.new("RGB", (4, 3)).save("a.png")
    assert read(Path("a.png").absolute()) == {}


# -- all -------------------------------------------------------------------------------------


@each(
    "value, plain",
    [
        (True, True),
        (3, 3),
        (2.5, 2.5),
        ("text \0", "text"),
        ((1, 2.5), [1, 2.5]),
        (math.nan, None),
        (math.inf, None),
        (b"bytes", None),
        ((1, math.nan), None),
        ((1, b""), None),
        (tuple(range(17)), None),
        (None, None),
        (1j, None),
        (IFDRational(1, 4), 0.25),
        (IFDRational(1, 0), None),
    ],
)
def test_only_plain_json_is_taken(value, plain):
    assert _plain(value) == plain
    assert type(_plain(value)) is type(plain)


@each("name", ["a.txt", "a.csv", "fits", "a.fits.txt", "a.raw"])
def test_other_files_are_not_looked_into(name):
    assert read(f"/nowhere/{name}") == {}


@each("name", ["a.fits", "a.fits.gz", "a.jpg", "a.png", "a.tif"])
@each("content", [b"", b"nonsense", b"SIMPLE  =", b"\x89PNG\r\n\x1a\n", b"II*\0"])
def test_a_broken_header_is_told_and_no_error(name, content):
    Path(name).write_bytes(content)
    headers = Headers()
    assert headers.read(str(Path(name).absolute())) == {}
    (told,) = headers.broken
    assert told.startswith(f"{str(Path(name).absolute())!a}: ")
    assert "\n" not in told


def test_headers_too_large_for_metadata_are_told_and_no_error(monkeypatch):
    monkeypatch.setattr("kvstore.documents.MAX_METADATA_BYTES", 100)
    headers = Headers()
    assert headers.read(str(DATA / "sky" / "sa110_b.fits")) == {}
    assert "Metadata has at most 100 bytes" in headers.broken[0]


# -- import ----------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    root = tmp_path / "files"
    root.mkdir()
    shutil.copy(DATA / "sky" / "sa110_b.fits", root)
    return root


def metadata_of(store):
    with store:
        return store.get_metadata("sa110_b.fits")


def test_an_import_takes_headers_and_what_is_beside_a_file_counts(store, ok, files):
    (files / "sa110_b.fits.meta.json").write_text('{"FILTER": "mine", "note": 1}')
    ok("import", "memory:", str(files))
    fields = metadata_of(store)
    assert (fields["FILTER"], fields["note"], fields["EXPTIME"]) == ("mine", 1, 120.0)


def test_an_import_may_leave_headers(store, ok, files):
    (files / "broken.fits").write_bytes(b"nonsense")
    ok("import", "memory:", str(files), "--no-headers")
    assert metadata_of(store) == {}


def test_a_broken_header_keeps_no_file_out(store, run, files):
    for name in ("one.fits", "two.fits"):
        (files / name).write_bytes(b"nonsense")
    result = run("import", "memory:", str(files))
    assert result.exit_code == 0
    with store:
        assert store.to_bytes("two.fits") == b"nonsense"
    assert result.stderr.startswith("kvstore: 2 headers could not be read; the first: '")
    assert f"{str(files / 'one.fits')!r}: " in result.stderr


@pytest.mark.parametrize("name", ["astropy", "PIL"])
def test_without_a_reader_one_line_says_what_to_install(store, run, files, name, monkeypatch):
    Image.new("RGB", (4, 3)).save(files / "a.png", exif=exif())
    Image.new("RGB", (4, 3)).save(files / "b.png", exif=exif())
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    result = run("import", "memory:", str(files))
    assert result.exit_code == 0
    assert result.stderr == "kvstore: Install kvstore[readers] to read FITS headers and EXIF.\n"
    assert (metadata_of(store) == {}) == (name == "astropy")
    with store:
        assert (store.get_metadata("b.png") == {}) == (name == "PIL")
    assert run("import", "memory:", str(files), "--no-headers").stderr == ""


def test_no_reader_is_imported_for_other_files(environment, tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.csv").write_bytes(b"1,2")
    code = (
        "import sys\n"
        "from kvstore.cli.main import cli\n"
        "try: cli(['import', 'memory:', 'files'])\n"
        "finally: print([n for n in ('astropy', 'numpy', 'PIL') if n in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True
    )
    assert done.stdout.endswith(b"\n[]\n")
