"""Filters: which rows of a table are wanted, in one small language for every place that asks.

    colour == "red" and (price < 50 or "on sale" == true) and brand in ["A", "B"] and not year is null

A comparison is a column (a name, or any text in quotes, as "base colour" or "class"), one of `== != < <= > >= in, not
in`, and a literal: a text in quotes, a number, true, false; a list of them after `in`. `is null` and `is not null` ask
whether there is a value. `and`, `or`, `not` and brackets join comparisons. Nothing else is in the language, no call,
attribute or arithmetic: the text is taken apart by Python's parser, and every node that is not one of these is refused.
Nothing of it is ever run.

A missing value is neither equal to another, nor different, nor before or after one: a row is kept where the filter is
true, and, as in SQL, neither a comparison with nothing nor its negation is.
"""

import ast
import io
import itertools
import json
import keyword
import operator
import re
import tokenize
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Any, TypeGuard, cast

import numpy as np
import pandas as pd

from lapel.errors import LapelError

Literal = str | int | float | bool

# Longest filter that is read, longest part of one that is shown, and how deep its brackets and negations may be nested.
LONGEST = 10_000
SHOWN = 80
DEEPEST = 50

# Whole numbers up to here are floats, too, none rounded; and those that a column or a database can hold.
EXACT = 2**53
LOWEST, HIGHEST = -(2**63), 2**64 - 1

# A moment as ISO 8601 writes it; pandas alone would take "now", "12:30" and an empty text, too.
MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?)?( ?(Z|[+-]\d{2}:?\d{2}))?")

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
OPPOSITES = {
    "==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">", "in": "not in", "not in": "in",
    "is null": "is not null", "is not null": "is null", "and": "or", "or": "and",
}  # fmt: skip

# Python's nodes -> words of the language.
COMPARISONS = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.In: "in",
    ast.NotIn: "not in", ast.Is: "is null", ast.IsNot: "is not null",
}  # fmt: skip
CONSTANTS = {"true": True, "false": False}
NULL = "null"


@dataclass(frozen=True)
class Comparison:
    """A column compared with a literal.

    Args:
        column: its name.
        operator: as in the language.
        value: a literal; a tuple of them after `in` and `not in`; None after `is null` and `is not null`.
    """

    column: str
    operator: str
    value: Any


@dataclass(frozen=True)
class Joined:
    """Parts of a filter of which all (`and`), or one (`or`), must be true."""

    operator: str
    parts: tuple["Comparison | Joined", ...]


@dataclass(frozen=True)
class Filter:
    """A filter that was read. Negations are gone from its tree: each is at the comparisons, as their opposites.

    Args:
        key: what messages call it, as `data.where`.
        text: as it was given.
        tree: what it says.
    """

    key: str
    text: str
    tree: Comparison | Joined

    @property
    def columns(self) -> list[str]:
        """The columns that it looks at, each once."""
        return list(dict.fromkeys(each.column for each in _comparisons(self.tree)))

    def keep(self, table: Mapping[str, Any] | pd.DataFrame) -> np.ndarray:
        """bool `[rows]`: the rows for which it is true.

        Args:
            table: column -> values of all rows.

        Raises:
            LapelError: there is no such column, or its values are of another kind than the literal.
        """
        for column in self.columns:
            if column not in table:
                there = ", ".join(_quoted(str(each)) for each in table)
                raise self.refused(f"there is no column {_quoted(column)}; there are {there}")
        columns = {column: _Column(column, pd.Series(table[column])) for column in self.columns}
        try:
            return _kept(self.tree, columns)
        except LapelError as error:
            raise self.refused(str(error)) from None

    def refused(self, why: str) -> LapelError:
        """The error that says what is wrong with it, in one line."""
        return LapelError(f"{self.key}={_shown(self.text)}: {why}")

    def as_sql(self, placeholder: str = "?") -> tuple[str, list[Literal]]:
        """A condition of SQL, and the values of its placeholders, in their order."""
        values: list[Literal] = []
        return _sql(self.tree, placeholder, values), values

    def as_milvus(self) -> str:
        """A boolean expression of Milvus; a column whose name is none is looked for among the dynamic fields."""
        return _milvus(self.tree)


# -------------------------------------------------------------------------------------------------- reading


def read_filter(text: str, key: str) -> Filter:
    """A filter from its text.

    Args:
        text: see the language above.
        key: what messages call it, as `data.where`.

    Raises:
        LapelError: it is not in the language; says what is.
    """
    if len(text) > LONGEST:
        raise LapelError(f"{key}={_shown(text)}: has {len(text):,} characters, may have {LONGEST:,}")
    try:
        return Filter(key, text, _tree(_parsed(text.strip()), negated=False, depth=0))
    except _RefusedError as error:
        raise LapelError(f"{key}={_shown(text)}: {error}") from None
    except (SyntaxError, ValueError, MemoryError, RecursionError, tokenize.TokenError):
        raise LapelError(
            f'{key}={_shown(text)}: cannot be read; a filter is as in colour == "red" and (price < 50 or brand in '
            f'["A", "B"]){_hint_of_keywords(text)}'
        ) from None


class _RefusedError(Exception):
    """A part that is not in the language."""


def _parsed(text: str) -> ast.expr:
    """A filter as Python's parser takes it apart, but for what that does to names and texts in silence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd escapes in texts
        tree = ast.parse(text, mode="eval").body
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):  # Python makes one name of letters that look alike, as the two signs of micro
            node.id = ast.get_source_segment(text, node) or node.id
    kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text).readline)]
    kinds = [kind for kind in kinds if kind not in (tokenize.NL, tokenize.COMMENT)]
    if (tokenize.STRING, tokenize.STRING) in itertools.pairwise(kinds):
        raise _RefusedError("two texts stand side by side; is a comma missing?")
    return tree


def _hint_of_keywords(text: str) -> str:
    """What to do where a word of Python's, which is none of the language, is taken for a column."""
    words = set(re.findall(r"\w+", text)) & (set(keyword.kwlist) - {"and", "or", "not", "in", "is"})
    return f'; a column of the name {min(words)} is written "{min(words)}"' if words else ""


def _tree(node: ast.expr, negated: bool, depth: int) -> Comparison | Joined:
    if depth > DEEPEST:
        raise _RefusedError(f"is nested more than {DEEPEST} deep")
    if isinstance(node, ast.BoolOp):
        word = "and" if isinstance(node.op, ast.And) else "or"
        parts = tuple(_tree(each, negated, depth + 1) for each in node.values)
        return Joined(OPPOSITES[word] if negated else word, parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return _tree(node.operand, not negated, depth + 1)
    if isinstance(node, ast.Compare):
        return _comparison(node, negated)
    if isinstance(node, ast.Name) and node.id not in (*CONSTANTS, NULL):
        raise _RefusedError(f"{_text_of(node)} alone is no condition; compare it, as in {_text_of(node)} == true")
    if isinstance(node, ast.Name | ast.Constant):
        raise _RefusedError(f"{_text_of(node)} alone is no condition; compare a column with it")
    raise _RefusedError(f"{_text_of(node)} is not in the language: comparisons, and, or, not and brackets are")


def _comparison(node: ast.Compare, negated: bool) -> Comparison:
    if len(node.ops) > 1:
        raise _RefusedError(f"{_text_of(node)} compares several at once; join two comparisons by and")
    word = COMPARISONS[type(node.ops[0])]
    column = _column(node.left)
    right = node.comparators[0]
    if word in ("is null", "is not null"):
        if not (isinstance(right, ast.Name) and right.id == NULL):
            raise _RefusedError(f"is: goes with null alone, as in {_quoted(column)} is null")
        value = None
    elif word in ("in", "not in"):
        if not isinstance(right, ast.List | ast.Tuple | ast.Set):
            raise _RefusedError(f'{word}: must be followed by a list, as in ["A", "B"], not by {_text_of(right)}')
        value = tuple(_literal(each) for each in right.elts)
    else:
        value = _literal(right)
    return Comparison(column, OPPOSITES[word] if negated else word, value)


def _column(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise _RefusedError(f"{_text_of(node)} is no column; a comparison begins with one, a name or a text in quotes")


def _literal(node: ast.expr) -> Literal:
    if isinstance(node, ast.Name) and node.id in CONSTANTS:
        return CONSTANTS[node.id]
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        sign, node = -1 if isinstance(node.op, ast.USub) else 1, node.operand
        if not isinstance(node, ast.Constant) or not _is_number(node.value):
            raise _RefusedError(f"{_text_of(node)} is no number")
    value = node.value if isinstance(node, ast.Constant) else None
    if _is_number(value):
        if not abs(value) < float("inf") or (isinstance(value, int) and not LOWEST <= sign * value <= HIGHEST):
            raise _RefusedError("a number is too large")
        return sign * value
    if isinstance(value, str | bool):
        return value
    hint = "; ask for what is missing with is null" if value is None and _text_of(node) in ("None", NULL) else ""
    raise _RefusedError(f"{_text_of(node)} is no literal: a text in quotes, a number, true or false{hint}")


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text_of(node: ast.expr) -> str:
    return _shown(ast.unparse(node))


def _shown(text: str) -> str:
    """A part of a text in one line, with nothing that a terminal would obey."""
    line = "".join(each if each.isprintable() else " " for each in text[: 2 * SHOWN])
    line = " ".join(line.split())
    return line if len(line) <= SHOWN and len(text) <= 2 * SHOWN else line[: SHOWN - 1] + "…"


def _quoted(column: str) -> str:
    return column if column.isidentifier() else json.dumps(column, ensure_ascii=False)


def _comparisons(tree: Comparison | Joined) -> list[Comparison]:
    if isinstance(tree, Comparison):
        return [tree]
    return [found for part in tree.parts for found in _comparisons(part)]


# ------------------------------------------------------------------------------------------------ comparing


def _kept(tree: Comparison | Joined, columns: "dict[str, _Column]") -> np.ndarray:
    if isinstance(tree, Comparison):
        return columns[tree.column].compared(tree.operator, tree.value)
    join = np.logical_and if tree.operator == "and" else np.logical_or
    return join.reduce([_kept(part, columns) for part in tree.parts])


class _Column:
    """The values of a column, looked at once for all comparisons.

    Args:
        name: of the column.
        values: of all rows.
    """

    def __init__(self, name: str, values: pd.Series) -> None:
        self.name = _quoted(name)
        self.missing = _missing(values)
        self.there = values.loc[~self.missing]

    @cached_property
    def kinds(self) -> set[str]:
        """What its values are; empty where it has none."""
        if pd.api.types.is_datetime64_any_dtype(self.there.dtype):
            return {"time"}
        by_dtype = {"i": "number", "u": "number", "f": "number", "b": "truth value"}
        if kind := by_dtype.get(self.there.dtype.kind):
            return {kind} if len(self.there) else set()
        return {_kind(each) for each in self.there}

    @cached_property
    def plain(self) -> np.ndarray:
        """As NumPy holds them."""
        return self.there.to_numpy()

    @cached_property
    def objects(self) -> np.ndarray:
        """As Python's own, which compares numbers without rounding any."""
        values = np.empty(len(self.there), dtype=object)
        values[:] = self.plain.tolist()
        return values

    @cached_property
    def times(self) -> pd.Series:
        """As moments, in UTC where they have no zone."""
        try:
            return pd.to_datetime(self.there, utc=True)
        except ValueError as error:
            raise LapelError(f"{self.name} holds times that cannot be compared ({_shown(str(error))})") from None

    def compared(self, word: str, value: Any) -> np.ndarray:
        """bool `[rows]`: where a comparison is true.

        Raises:
            LapelError: the values are of another kind than the literal, or of none that can be compared.
        """
        if word == "is null":
            return self.missing
        if word == "is not null":
            return ~self.missing
        found = np.zeros(len(self.missing), dtype=bool)
        if word in ("in", "not in"):
            is_in = self._among(value)
            found[~self.missing] = is_in if word == "in" else ~is_in
        else:
            found[~self.missing] = self._compared(word, value)
        return found

    def _compared(self, word: str, literal: Literal) -> np.ndarray:
        if self.kinds == {"time"}:
            return np.asarray(OPERATORS[word](self.times, self._moment(literal)), dtype=bool)
        self._check(literal)
        if _fits(self.plain.dtype, literal):
            return np.asarray(OPERATORS[word](self.plain, literal), dtype=bool)
        if len(self.kinds) == 1:
            return np.asarray(OPERATORS[word](self.objects, literal), dtype=bool)
        found = np.full(len(self.there), word == "!=")  # a value of another kind is different, not before or after
        for row, value in enumerate(self.objects):
            if _kind(value) == _kind(literal):
                found[row] = OPERATORS[word](value, literal)
        return found

    def _among(self, literals: tuple[Literal, ...]) -> np.ndarray:
        if self.kinds == {"time"}:
            return np.asarray(self.times.isin([self._moment(each) for each in literals]), dtype=bool)
        wanted: dict[str, set[Literal]] = {}  # by kind: Python finds 1, 1.0 and true equal
        for literal in literals:
            self._check(literal)
            wanted.setdefault(_kind(literal), set()).add(literal)
        none: set[Literal] = set()  # a value of another kind may be one that no set can be asked for
        found = ((among := wanted.get(_kind(value), none)) and value in among for value in self.objects)
        return np.fromiter(map(bool, found), dtype=bool, count=len(self.there))

    def _check(self, literal: Literal) -> None:
        if self.kinds and _kind(literal) not in self.kinds:
            held = " and ".join(sorted(f"{kind}s" for kind in self.kinds))
            raise LapelError(f"{self.name} holds {held}, and {_shown(json.dumps(literal))} is a {_kind(literal)}")

    def _moment(self, literal: Literal) -> pd.Timestamp:
        try:
            if not isinstance(literal, str) or not MOMENT.fullmatch(literal):
                raise ValueError
            moment = cast("pd.Timestamp", pd.Timestamp(literal))  # NaT is of other texts
        except ValueError:
            told = _shown(json.dumps(literal))
            raise LapelError(f"{self.name} holds times, and {told} is none; write 2026-11-27") from None
        return moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")


def _missing(values: pd.Series) -> np.ndarray:
    """bool `[rows]`: where there is no value."""
    if values.dtype != object:
        return np.asarray(values.isna(), dtype=bool)
    signals = np.array([isinstance(each, Decimal) and each.is_snan() for each in values], dtype=bool)
    return signals | np.asarray(values.mask(signals, None).isna(), dtype=bool)  # pandas cannot ask those that signal


def _fits(dtype: np.dtype, literal: Literal) -> bool:
    """Whether NumPy's comparison of a column with a literal rounds neither."""
    if isinstance(literal, str):
        return False
    if isinstance(literal, bool):
        return dtype.kind == "b"
    within = abs(literal) <= EXACT
    return within and (dtype == np.float64 or (dtype.kind in "iu" and isinstance(literal, int)))


def _kind(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "truth value"
    if isinstance(value, int | float | np.number | Decimal):
        return "number"
    if isinstance(value, str):
        return "text"
    return "time" if isinstance(value, date) else "list" if isinstance(value, list | tuple | np.ndarray) else "object"


# ------------------------------------------------------------------------------------------------ rendering


def _sql(tree: Comparison | Joined, placeholder: str, values: list[Literal]) -> str:
    if isinstance(tree, Joined):
        return "(" + f" {tree.operator.upper()} ".join(_sql(part, placeholder, values) for part in tree.parts) + ")"
    column = '"' + tree.column.replace('"', '""') + '"'
    if tree.value is None:
        return f"{column} {tree.operator.upper()}"
    if tree.operator in ("in", "not in"):
        if not tree.value:  # nothing is in it, and every value there is outside of it
            return "1 = 0" if tree.operator == "in" else f"{column} IS NOT NULL"
        values.extend(tree.value)
        return f"{column} {tree.operator.upper()} ({', '.join([placeholder] * len(tree.value))})"
    values.append(tree.value)
    return (
        f"{column} {'<>' if tree.operator == '!=' else '=' if tree.operator == '==' else tree.operator} {placeholder}"
    )


def _milvus(tree: Comparison | Joined) -> str:
    if isinstance(tree, Joined):
        return "(" + f" {tree.operator} ".join(_milvus(part) for part in tree.parts) + ")"
    plain = tree.column.isascii() and tree.column.isidentifier()
    column = tree.column if plain else f"$meta[{json.dumps(tree.column)}]"
    if tree.value is None:
        return f"{column} {tree.operator}"
    value = list(tree.value) if isinstance(tree.value, tuple) else tree.value
    return f"{column} {tree.operator} {json.dumps(value)}"
