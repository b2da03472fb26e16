from __future__ import annotations

from kvstore.cli.output import Output, complain
from kvstore.cli.spelling import Column, iso_time, show_size, show_time


def test_lines_for_programs_are_separated_by_tabs(capsys):
    output = Output()
    columns = [Column("key"), Column("size", show_size), Column("time", show_time, iso_time)]
    output.table(columns, [["a\tb", 1200, 0.0], ["c", None, None]])
    output.finish()
    printed = capsys.readouterr()
    assert printed.out == "a\\tb\t1200\t1970-01-01T00:00:00.000Z\nc\t\t\n"
    assert (
        printed.err
        == "kvstore: Some text holds control characters and is shown escaped; --json is exact.\n"
    )


def test_a_document_is_names_and_values(capsys):
    output = Output()
    output.document({"a": [1, 2], "b": "text"})
    output.as_json = True
    output.document({"a": [1]})
    output.documents([{"a": 1}, {"a": 2}])
    out = capsys.readouterr().out
    assert out == 'a\t[1,2]\nb\ttext\n{\n  "a": [\n    1\n  ]\n}\n{"a":1}\n{"a":2}\n'


def test_a_complaint_is_one_line(capsys):
    complain("There is no key 'a\nb\x1b'.")
    assert capsys.readouterr().err == "kvstore: There is no key 'a\\nb\\x1b'.\n"
