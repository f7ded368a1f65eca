"""The recipe as options of a command, made from its fields: their names, help and values are read from there."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from perceive_ir._recipe import Recipe, make_recipe
from perceive_ir._vocabulary import TASKS

PANEL = "Recipe"
RecipeFile = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        metavar="FILE",
        rich_help_panel=PANEL,
        help="Recipe as JSON, or a result whose recipe is used again; options given beside it override it.",
    ),
]


def takes_recipe(*fields: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option per recipe field (all, or those named) instead of its parameter ``recipe``."""
    names = fields or tuple(Recipe.model_fields)

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "recipe"]
        named = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        options = [option(name) for name in names]
        if not fields:
            options.insert(0, inspect.Parameter("recipe_file", KEYWORD, default=None, annotation=RecipeFile))

        @wraps(function)
        def command(**values: Any) -> None:
            given = {name: values.pop(name) for name in names}
            function(recipe=chosen_recipe(values.pop("recipe_file", None), given), **values)

        signature = inspect.Signature([*named, *options])
        command.__signature__ = signature  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return command

    return decorate


KEYWORD = inspect.Parameter.KEYWORD_ONLY


def option(name: str) -> inspect.Parameter:
    """Make the option of one field."""
    field = Recipe.model_fields[name]
    default = field.get_default(call_default_factory=True)
    several = name == "task"
    info = typer.Option(
        "--" + name.replace("_", "-"),
        help=f"{field.description} Repeatable: {', '.join(TASKS)}." if several else field.description,
        metavar="TASK" if several else metavar(field.annotation, name.upper()),
        show_default=default if isinstance(default, str) else json.dumps(default) if default else False,
        rich_help_panel=PANEL,
    )
    kind = list[str] | None if several else str | None
    return inspect.Parameter(name, KEYWORD, default=None, annotation=Annotated[kind, info])


def metavar(annotation: Any, name: str) -> str:
    """Say which values an annotation accepts, such as ``auto|exact|WHOLE``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "|".join(arguments)
    if origin is Annotated:
        return metavar(arguments[0], name)
    if origin is tuple:
        return "LOW,HIGH"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "NAME=VALUE,…"
    if arguments:
        return "|".join(metavar(part, name) for part in arguments)
    return {int: "WHOLE", float: "NUMBER"}.get(annotation, name)


def chosen_recipe(file: Path | None, given: Mapping[str, Any]) -> Recipe:
    """Make the recipe of a file, or the default one, with what was given as options."""
    base = make_recipe(read_recipe(file)) if file is not None else None
    return make_recipe(base, **{name: parse(name, value) for name, value in given.items() if value})


def parse(name: str, given: Any) -> Any:
    """Turn the text of an option into what the recipe's check accepts."""
    if name in ("painted", "tier_strength"):
        return pairs(name, given)
    if name == "value_range" and "," in given:
        return tuple(given.split(","))
    return given


def pairs(name: str, text: str) -> dict[str, Any]:
    """Read ``{"low": 1}`` or ``low=1,medium=0.5``; for labels ``{"1": ["denoise", 0.5]}`` or ``1=denoise:0.5``."""
    option = "--" + name.replace("_", "-")
    if text.lstrip().startswith("{"):
        return json_object(text, option)
    found: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"{option}: expected JSON or name=value,name=value, got {text!r}")
        found[key.strip()] = tuple(value.split(":")) if ":" in value else value
    return found


def json_object(text: str, name: str) -> dict[str, Any]:
    """Read a JSON object; ``name`` says in an error where it stood."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: expected JSON ({error}); mend it there") from None
    if not isinstance(value, dict):
        raise ValueError(f"{name}: expected a JSON object, got {type(value).__name__}")
    return value


def read_recipe(path: Path) -> dict[str, Any]:
    """Read the fields of a recipe: from JSON, from what lies beside a result, or out of a result."""
    from perceive_ir.files import read_description
    from perceive_ir.files._zarr import description_of, is_ome_zarr

    if path.suffix.lower() == ".json":
        value = json_object(path.read_text(encoding="utf-8"), str(path))
    elif is_ome_zarr(path):
        value = description_of(path) or {}
    else:
        value = read_description(path) or {}
    if not value:
        raise ValueError(f"{path} holds no recipe; give a result of perceive-ir restore or a .json")
    value = value.get("perceive_ir", value)
    recipe = value.get("recipe", value)
    if not isinstance(recipe, dict):
        raise ValueError(
            f"{path}: expected the fields of a recipe, got {type(recipe).__name__}; give a result or a .json"
        )
    return recipe
