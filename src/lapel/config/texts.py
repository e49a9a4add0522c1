"""What options say of themselves: the docstring after each field of a config dataclass, where it stands once."""

import ast
import inspect
import sys
from dataclasses import fields
from functools import cache
from types import ModuleType


def text_of(cls: type, name: str) -> str:
    """The text of an option in one line; empty where there is none.

    Args:
        cls: a config dataclass; where it only gives an inherited option another default, the text is the inherited one.
        name: of the field.
    """
    declaring = (each for each in cls.__mro__ if name in vars(each).get("__annotations__", {}))
    return next((text for each in declaring if (text := _texts(each).get(name))), "")


def texts_of(cls: type) -> dict[str, str]:
    """Name -> text of every option of a config dataclass."""
    return {each.name: text_of(cls, each.name) for each in fields(cls)}


def _texts(cls: type) -> dict[str, str]:
    """Those of the fields that a class itself declares."""
    found = {}
    definition = _definitions(sys.modules[cls.__module__])[cls.__name__]
    for field, after in zip(definition.body, definition.body[1:], strict=False):
        told = after.value if isinstance(after, ast.Expr) else None
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(told, ast.Constant):
            found[field.target.id] = " ".join(str(told.value).split())
    return found


@cache
def _definitions(module: ModuleType) -> dict[str, ast.ClassDef]:
    """Name -> definition of every class of a module, which is read once for all of them."""
    parsed = ast.walk(ast.parse(inspect.getsource(module)))
    return {each.name: each for each in parsed if isinstance(each, ast.ClassDef)}
