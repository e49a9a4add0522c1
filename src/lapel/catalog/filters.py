"""Filters: which rows of a table are wanted, in one small language for every place that asks.

    colour == "red" and (price < 50 or "on sale" == true) and brand in ["A", "B"] and not year is null

A comparison is a column (a name, or any text in quotes), one of `== != < <= > >= in, not in`, and a literal: a text in
quotes, a number, true, false; a list of them after `in`. `is null` and `is not null` ask whether there is a value.
`and`, `or`, `not` and brackets join comparisons. Nothing else is in the language, no call, attribute or arithmetic: the
text is taken apart by Python's parser, and every node that is not one of these is refused. Nothing of it is ever run.

A missing value is neither equal to another, nor different, nor before or after one: a row is kept where the filter is
true, and, as in SQL, neither a comparison with nothing nor its negation is.
"""

import ast
import json
import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, TypeGuard

import numpy as np
import pandas as pd

from lapel.errors import LapelError

Literal = str | int | float | bool

# Longest filter that is read, longest part of one that is shown, and how deep its brackets and negations may be nested.
LONGEST = 10_000
SHOWN = 80
DEEPEST = 50

# Whole numbers up to here are floats, too, none rounded.
EXACT = 2**53

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
                raise self.refused(f"there is no column {_quoted(column)}; there are {', '.join(map(str, table))}")
        return self._kept(self.tree, table)

    def _kept(self, tree: Comparison | Joined, table: Mapping[str, Any] | pd.DataFrame) -> np.ndarray:
        if isinstance(tree, Joined):
            join = np.logical_and if tree.operator == "and" else np.logical_or
            return join.reduce([self._kept(part, table) for part in tree.parts])
        try:
            return compared(pd.Series(table[tree.column]), tree)
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in texts
            parsed = ast.parse(text.strip(), mode="eval")
        return Filter(key, text, _tree(parsed.body, negated=False, depth=0))
    except _RefusedError as error:
        raise LapelError(f"{key}={_shown(text)}: {error}") from None
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise LapelError(
            f'{key}={_shown(text)}: cannot be read; a filter is as in colour == "red" and (price < 50 or brand in '
            '["A", "B"])'
        ) from None


class _RefusedError(Exception):
    """A part that is not in the language."""


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
    if isinstance(node, ast.Name | ast.Constant):
        raise _RefusedError(f"{_text_of(node)} alone is no condition; compare it, as in {_text_of(node)} == true")
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
        if not abs(value) < float("inf"):
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


def compared(values: pd.Series, comparison: Comparison) -> np.ndarray:
    """bool `[rows]`: where a comparison is true of a column's values.

    Raises:
        LapelError: the values are of another kind than the literal, or of none that can be compared.
    """
    missing = np.asarray(values.isna(), dtype=bool)
    word, value = comparison.operator, comparison.value
    if word == "is null":
        return missing
    if word == "is not null":
        return ~missing
    found = np.zeros(len(values), dtype=bool)
    there = values.loc[~missing]
    if word in ("in", "not in"):
        is_in = np.zeros(len(there), dtype=bool)
        for each in value:
            is_in |= _compare(there, "==", each, comparison.column)
        found[~missing] = is_in if word == "in" else ~is_in
    else:
        found[~missing] = _compare(there, word, value, comparison.column)
    return found


def _compare(there: pd.Series, word: str, literal: Literal, column: str) -> np.ndarray:
    """bool: of values none of which is missing."""
    if pd.api.types.is_datetime64_any_dtype(there.dtype):
        return _compare_times(there, word, literal, column)
    kinds = _kinds(there)
    if kinds == {"time"}:
        return _compare_times(pd.to_datetime(there), word, literal, column)
    if len(there) and _kind(literal) not in kinds:
        held = " and ".join(sorted(f"{kind}s" for kind in kinds))
        raise LapelError(f"{_quoted(column)} holds {held}, and {json.dumps(literal)} is a {_kind(literal)}")
    plain = there.to_numpy()
    if len(kinds) == 1 and _fits(plain.dtype, literal):
        return np.asarray(OPERATORS[word](plain, literal), dtype=bool)
    found = np.full(len(there), word == "!=")  # a value of another kind is different, and neither before nor after
    for row, value in enumerate(plain.tolist()):
        if _kind(value) == _kind(literal):
            found[row] = OPERATORS[word](value, literal)
    return found


def _fits(dtype: np.dtype, literal: Literal) -> bool:
    """Whether NumPy's comparison of a column with a literal rounds neither."""
    if isinstance(literal, str):
        return False
    if isinstance(literal, bool):
        return dtype.kind == "b"
    within = abs(literal) <= EXACT
    return within and (dtype == np.float64 or (dtype.kind in "iu" and isinstance(literal, int)))


def _kinds(values: pd.Series) -> set[str]:
    kind = values.dtype.kind
    if kind in "iuf":
        return {"number"}
    if kind == "b":
        return {"truth value"}
    return {_kind(each) for each in values}


def _kind(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "truth value"
    if isinstance(value, int | float | np.number | Decimal):
        return "number"
    if isinstance(value, str):
        return "text"
    return "time" if isinstance(value, date) else "list" if isinstance(value, list | tuple | np.ndarray) else "object"


def _compare_times(there: pd.Series, word: str, literal: Literal, column: str) -> np.ndarray:
    """Moments, in UTC where they have a zone, with one in a text, as 2026-11-27 or with a time of day."""
    try:
        if not isinstance(literal, str):
            raise ValueError
        moment = pd.Timestamp(literal)
    except ValueError:
        raise LapelError(
            f"{_quoted(column)} holds times, and {json.dumps(literal)} is none; write 2026-11-27"
        ) from None
    zoned = pd.to_datetime(there, utc=True)
    moment = moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")
    return np.asarray(OPERATORS[word](zoned, moment), dtype=bool)


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
