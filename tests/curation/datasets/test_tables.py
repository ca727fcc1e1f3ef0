"""Tables and JSON as published files really are: every way to be broken has a message that says where."""

from __future__ import annotations

import pytest

from curation.datasets.tables import read_json, read_table
from curation.errors import ManifestError


def table(tmp_path, content):
    file = tmp_path / "t.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def rows(file, required=("a", "b"), **options):
    return list(read_table(file, required=required, **options))


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        ("a,b\n1,2\n", {}, [(2, {"a": "1", "b": "2"})]),
        ("a,b\r\n1,2\r\n", {}, [(2, {"a": "1", "b": "2"})]),
        ("a,b\r1,2\r", {}, [(2, {"a": "1", "b": "2"})]),
        ("a,b\n1,2", {}, [(2, {"a": "1", "b": "2"})]),
        ("\ufeffa,b\n1,2\n", {}, [(2, {"a": "1", "b": "2"})]),
        ("\n\na,b\n\n1,2\n\n", {}, [(5, {"a": "1", "b": "2"})]),
        (" a , b\n1,2\n", {}, [(2, {"a": "1", "b": "2"})]),
        ("c,b,a\n1,2,3\n", {}, [(2, {"a": "3", "b": "2", "c": "1"})]),
        ("a\tb\n1\t2,5\n", {"delimiter": "\t"}, [(2, {"a": "1", "b": "2,5"})]),
        ('a,b\n1,"x, ""y""\nz"\n2,3\n', {}, [(2, {"a": "1", "b": 'x, "y"\nz'}), (4, {"a": "2", "b": "3"})]),
        ("a,b\n1,caf\u00e9\n".encode("iso-8859-1"), {"encoding": "iso-8859-1"}, [(2, {"a": "1", "b": "caf\u00e9"})]),
        ("a,b\n1,it rains\rhard\n2,3\n", {}, [(2, {"a": "1", "b": "it rains hard"}), (3, {"a": "2", "b": "3"})]),
        ("a,b\n", {}, []),
    ],
)
def test_a_row_comes_with_the_line_that_it_begins_on(tmp_path, content, options, expected):
    assert rows(table(tmp_path, content), **options) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"t\.csv: empty, expected a table with the columns a, b"),
        ("\n\n", r"t\.csv: empty"),
        ("a,c\n1,2\n", r"t\.csv: line 1: column 'b' is missing from the header; found: 'a, c'"),
        ("a;b\n1;2\n", r"column 'a' is missing .* the columns seem to be divided by ';', expected ','"),
        ("a,b,a\n1,2,3\n", r"line 1: column 'a' stands there twice"),
        ("a,b\n1,2\n3\n", r"t\.csv: line 3: 1 cells, the header has 2 \(a, b\)"),
        ("a,b\n1,rain, hard\n", r"line 2: 3 cells, the header has 2 .* wants quotes; found: '1,rain, hard'"),
        ('a,b\n1,2\n3,"4\n5,6\n', r"t\.csv: line 3: not a CSV row \(unexpected end of data\); look for a quote"),
        ('a,b\n1,"2"x\n', r"line 2: not a CSV row"),
        ("a,b\n1,caf\u00e9\n".encode("iso-8859-1"), r"t\.csv: line 2: byte 0xe9 is not UTF-8; save the file in that"),
        ("a,b\n1," + "x" * 200_000, r"line 2: not a CSV row \(field larger than field limit"),
        ("a,b\n1,2\n".encode("utf-16"), r"line 1: byte 0xff is not UTF-8"),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            r"t\.csv: a Git LFS pointer, not .* pull",
        ),
        ("\n<!DOCTYPE html>\n<html>", r"t\.csv: a web page, not the file itself"),
    ],
)
def test_a_broken_table_is_refused_with_its_line(tmp_path, content, message):
    with pytest.raises(ManifestError, match=message):
        rows(table(tmp_path, content))


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(ManifestError, match=r"none\.csv: no such file"):
        rows(tmp_path / "none.csv")
    with pytest.raises(ManifestError, match=r"a folder, expected a file"):
        rows(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a":\n 1,}', r"t\.csv: line 2, column 4: not JSON"),
        ("", r"line 1, column 1: not JSON"),
        ("[" * 100_000, r"t\.csv: not JSON that can be read"),
        ("1" * 5_000, r"t\.csv: not JSON that can be read"),
        ("version https://git-lfs.github.com/spec/v1\n", r"Git LFS pointer"),
    ],
)
def test_broken_json_is_refused_with_line_and_column(tmp_path, content, message):
    with pytest.raises(ManifestError, match=message):
        read_json(table(tmp_path, content))
