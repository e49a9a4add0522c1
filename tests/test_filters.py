"""Filters against a plain loop over rows and against a real SQL engine; and texts that are none."""

import itertools
import json
import sqlite3
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapel.catalog.filters import read_filter
from lapel.errors import LapelError

COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "colour": st.sampled_from(["red", "blue", "", "it's", 'say "hi"', "naïve", "zwölf"]),
    "base colour": st.sampled_from(["red", "NA", "null", "true"]),
    "price": st.floats(-5, 5, width=16),
    "year": st.integers(-3, 3),
    "code": st.integers(2**53 - 2, 2**53 + 2),
    "on_sale": st.booleans(),
}


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows, with values missing here and there."""
    count = draw(st.integers(1, 12))
    return [{name: draw(st.none() | values) for name, values in COLUMNS.items()} for _ in range(count)]


def as_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    dtypes = {"price": "Float64", "year": "Int64", "code": "Int64", "on_sale": "boolean"}
    frame = pd.DataFrame({name: [row[name] for row in rows] for name in COLUMNS}, dtype=object)
    return frame.astype(dtypes)  # type: ignore[arg-type]


# A tree of the test's own: (operator, column, value), or ("not", tree), or ("and" | "or", [trees]).
@st.composite
def leaves(draw: st.DrawFn) -> tuple[Any, ...]:
    column = draw(st.sampled_from(list(COLUMNS)))
    kind = draw(st.sampled_from(["compare", "in", "null"]))
    if kind == "null":
        return draw(st.sampled_from(["is null", "is not null"])), column, None
    if kind == "in":
        return draw(st.sampled_from(["in", "not in"])), column, draw(st.lists(COLUMNS[column], max_size=3))
    return draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">="])), column, draw(COLUMNS[column])


trees = st.recursive(
    leaves(),
    lambda inner: (
        st.tuples(st.just("not"), inner)
        | st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3))
    ),
    max_leaves=8,
)


def text_of(tree: tuple[Any, ...]) -> str:
    if tree[0] == "not":
        return f"not ({text_of(tree[1])})"
    if tree[0] in ("and", "or"):
        return "(" + f" {tree[0]} ".join(text_of(each) for each in tree[1]) + ")"
    word, column, value = tree
    name = column if column.isidentifier() else json.dumps(column)
    return f"{name} {word}" + ("" if value is None else f" {json.dumps(value)}")


def truth(tree: tuple[Any, ...], row: dict[str, Any]) -> bool | None:
    """Of one row, in the plainest way: None where it is not known."""
    if tree[0] == "not":
        inner = truth(tree[1], row)
        return None if inner is None else not inner
    if tree[0] in ("and", "or"):
        found = [truth(each, row) for each in tree[1]]
        decisive = tree[0] == "or"
        return decisive if decisive in found else None if None in found else not decisive
    word, column, wanted = tree
    value = row[column]
    if word == "is null":
        return value is None
    if word == "is not null":
        return value is not None
    if value is None:
        return None
    return {
        "==": lambda: value == wanted,
        "!=": lambda: value != wanted,
        "<": lambda: value < wanted,
        "<=": lambda: value <= wanted,
        ">": lambda: value > wanted,
        ">=": lambda: value >= wanted,
        "in": lambda: value in wanted,
        "not in": lambda: value not in wanted,
    }[word]()


@settings(max_examples=500, deadline=None)
@given(rows=tables(), tree=trees)
def test_a_filter_keeps_what_a_loop_over_rows_keeps(rows: list[dict[str, Any]], tree: tuple[Any, ...]) -> None:
    kept = read_filter(text_of(tree), "where").keep(as_frame(rows))
    assert kept.dtype == bool
    assert kept.tolist() == [truth(tree, row) is True for row in rows]


@settings(max_examples=300, deadline=None)
@given(rows=tables(), tree=trees)
def test_sql_keeps_the_same_rows(rows: list[dict[str, Any]], tree: tuple[Any, ...]) -> None:
    condition, values = read_filter(text_of(tree), "where").as_sql()
    with sqlite3.connect(":memory:") as database:
        names = ", ".join(json.dumps(name) for name in COLUMNS)
        database.execute(f"CREATE TABLE items (number INTEGER, {names})")
        lines = [(number, *row.values()) for number, row in enumerate(rows)]
        marks = ", ".join("?" * (len(COLUMNS) + 1))
        database.executemany(f"INSERT INTO items VALUES ({marks})", lines)
        found = database.execute(f"SELECT number FROM items WHERE {condition} ORDER BY number", values).fetchall()
    assert [number for (number,) in found] == [number for number, row in enumerate(rows) if truth(tree, row) is True]


def test_the_values_of_sql_never_stand_in_its_text() -> None:
    text = """colour == "x'; DROP TABLE items; --" and 'a"b' in [1, true]"""
    condition, values = read_filter(text, "where").as_sql("%s")
    assert condition == '("colour" = %s AND "a""b" IN (%s, %s))'
    assert values == ["x'; DROP TABLE items; --", 1, True]
    assert read_filter("not x in []", "where").as_sql() == ('"x" IS NOT NULL', [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('colour == "red"', 'colour == "red"'),
        ("colour == 'it\\'s \"x\"'", 'colour == "it\'s \\"x\\""'),
        ('"base colour" in ["A", "B"]', '$meta["base colour"] in ["A", "B"]'),
        ("not (price < 5 or on_sale == true)", "(price >= 5 and on_sale != true)"),
        ("not year is null", "year is not null"),
    ],
)
def test_milvus_is_given_its_own_words(text: str, expected: str) -> None:
    assert read_filter(text, "where").as_milvus() == expected


def test_columns_of_every_kind_are_compared() -> None:
    table = pd.DataFrame(
        {
            "whole": [1, 2, 3],
            "single": np.array([0.1, 0.5, np.nan], np.float32),
            "mixed": ["1", 1, None],
            "kind": pd.Categorical(["a", "b", "a"]),
            "day": pd.to_datetime(["2024-01-01", "2024-06-01", None]),
            "moment": [datetime(2024, 1, 1, 12), datetime(2025, 1, 1), None],
            "class": ["x", "y", "z"],
        }
    )
    for text, kept in {
        "whole > 1.5": [False, True, True],
        "whole == 2.0": [False, True, False],
        "single == 0.5": [False, True, False],
        "single < 0.2": [True, False, False],
        "single != 0.5": [True, False, False],
        'mixed == "1"': [True, False, False],
        "mixed == 1": [False, True, False],
        "mixed != 1": [True, False, False],
        "mixed > 0": [False, True, False],
        'kind == "a"': [True, False, True],
        'day >= "2024-02-01"': [False, True, False],
        'not day >= "2024-02-01"': [True, False, False],
        'day in ["2024-01-01"]': [True, False, False],
        'moment < "2024-01-01 13:00"': [True, False, False],
        '"class" != "x"': [False, True, True],
        "whole == -1 or whole == +3": [False, False, True],
    }.items():
        assert read_filter(text, "where").keep(table).tolist() == kept, text


@pytest.mark.parametrize("literal", ["", "nat", "now", "today", "12:30", "11/12/2026", "2026-13-01", "2026", "2026-11"])
def test_moments_are_written_one_way(literal: str) -> None:
    """What pandas makes of other texts depends on the day, or means nothing at all."""
    table = pd.DataFrame({"day": pd.to_datetime(["2026-11-12", None])})
    with pytest.raises(LapelError, match=r"day holds times, and .* is none; write 2026-11-27"):
        read_filter(f'day != "{literal}"', "where").keep(table)


@pytest.mark.parametrize("word", ["in", "not in"])
def test_long_lists_of_values_are_looked_up(word: str) -> None:
    """For each value its own pass over the rows would take minutes."""
    names = [f"id{number}" for number in range(40_000)]
    wanted = names[::50]
    kept = read_filter(f"name {word} {json.dumps(wanted)}", "where").keep(pd.DataFrame({"name": names}))
    assert kept.tolist() == [(number % 50 == 0) == (word == "in") for number in range(len(names))]


def test_values_that_pandas_cannot_compare() -> None:
    numbers = np.array([Decimal("sNaN"), Decimal("NaN"), Decimal("0.5"), 2], dtype=object)
    times = [pd.Timestamp("2026-01-01", tz="Asia/Tokyo"), pd.Timestamp("2026-01-01"), date(2026, 1, 1), None]
    table = pd.DataFrame({"number": numbers, "time": np.array(times, dtype=object)})
    for text, kept in {
        "number == 0.5": [False, False, True, False],
        "number != 0.5": [False, False, False, True],
        "number in [0.5, 2]": [False, False, True, True],
        "number is null": [True, True, False, False],
        'time < "2026-01-01"': [True, False, False, False],
        'time in ["2026-01-01", "2027-01-01"]': [False, True, True, False],
    }.items():
        assert read_filter(text, "where").keep(table).tolist() == kept, text


def test_names_are_taken_letter_by_letter() -> None:
    """Python's parser makes one name of letters that look alike: the two signs of micro, a letter and its accent."""
    table = pd.DataFrame({"\u00b5m": [1, 2], "gro\u0308\u00dfe": [3, 4]})
    assert read_filter("\u00b5m == 1 and gro\u0308\u00dfe == 3", "where").keep(table).tolist() == [True, False]


def test_names_of_columns_do_not_reach_the_terminal_raw() -> None:
    table = pd.DataFrame({"a\nb": [1], "\x1b[31mred": [2]})
    with pytest.raises(LapelError) as caught:
        read_filter("nope == 1", "where").keep(table)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("shade == 1", "there is no column shade; there are colour, year"),
        ('year == "2011"', 'year holds numbers, and "2011" is a text'),
        ("colour < 3", "colour holds texts, and 3 is a number"),
        ("colour", "colour alone is no condition; compare it, as in colour == true"),
        ("colour ==", "cannot be read; a filter is as in"),
        ("", "cannot be read"),
        ("1 < year < 3", "compares several at once"),
        ("3 < year", "3 is no column; a comparison begins with one"),
        ("year == colour", "colour is no literal: a text in quotes"),
        ("year == None", "None is no literal: a text in quotes, a number, true or false; ask for what is missing"),
        ("year is 3", "is: goes with null alone, as in year is null"),
        ("colour in 'red'", "in: must be followed by a list"),
        ("year == 1e999", "a number is too large"),
        ("year + 1 == 3", "year + 1 is no column"),
        ("year == 1 & year == 2", "compares several at once"),
        ('colour in ["red" "blue"]', "two texts stand side by side; is a comma missing?"),
        ('"colo" "ur" == "red"', "two texts stand side by side"),
        ('class == "x"', 'a column of the name class is written "class"'),
        ("5", "5 alone is no condition; compare a column with it"),
        ("not true", "true alone is no condition; compare a column with it"),
        (f"year == 0x{'f' * 20}", "a number is too large"),
        (f"year == -{2**63 + 1}", "a number is too large"),
    ],
)
def test_what_is_not_in_the_language_is_told(text: str, told: str) -> None:
    table = pd.DataFrame({"colour": ["red"], "year": [2011]})
    with pytest.raises(LapelError) as caught:
        read_filter(text, "data.where").keep(table)
    assert str(caught.value).startswith(f"data.where={text}")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


PAYLOADS = [
    "__import__('os').system('true')", "image.to_csv('stolen.csv')", "open('stolen.csv', 'w')", "exec('1')",
    "colour.upper()",
    "colour.__class__", "().__class__.__bases__[0]", "__builtins__", "lambda: 1", "(lambda x: x)(1)", "f'{colour}'",
    "f'{open(1)}'", "(y := 1)", "[x for x in colour]", "{x for x in year}", "{1: 2}", "(x for x in year)", "colour[0]",
    "colour['__class__']", "*colour", "colour if year else 1", "await colour", "yield", "colour @ year", "@pd.io",
    "`colour`", "$colour", "colour; import os", "import os", "year = 1", "print", "b'red'", "...", "1j", "1 + 1",
    "~year", "-colour", "not", "and", "year ** 9 ** 9 ** 9", "'a' * 10 ** 9", "colour == '\\N{no such name}'", "\x00",
    "%s", "colour == colour.str.upper()",
]  # fmt: skip
FRAMES = ["{}", "{} == 1", "year == {}", "year in [{}]", "({}) or year > 0", "not ({})"]


@pytest.mark.parametrize(("payload", "frame"), list(itertools.product(PAYLOADS, FRAMES)))
def test_hostile_texts_are_one_clear_line(payload: str, frame: str, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    check_refused(frame.format(payload))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "(" * 1_000_000,
        "[" * 4_000 + "]" * 4_000,
        "(" * 3_000 + "year == 1" + ")" * 3_000,
        "not " * 2_000 + "year == 1",
        "-" * 5_000 + "1",
        " or ".join(["year == 1"] * 5_000),
        "year == " + "9" * 9_000,
        "year == '" + "x" * 1_000_000 + "'",
        "a.b" * 3_000,
        "year ==\n\n\x1b[31m colour",
        "\ud800 == 1",
    ],
    ids=range(11),
)
def test_huge_and_odd_texts_are_one_clear_line(text: str) -> None:
    check_refused(text)


def check_refused(text: str) -> None:
    table = pd.DataFrame({"colour": ["red"], "year": [2011]})
    with pytest.raises(LapelError) as caught:
        read_filter(text, "data.where").keep(table)
    told = str(caught.value)
    assert told.startswith("data.where=")
    assert told.isprintable(), told
    assert len(told) < 400
