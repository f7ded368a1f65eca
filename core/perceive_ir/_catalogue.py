"""The models by name: where their weights are, and how to load them.

Weights are looked for in the folder that ``PERCEIVE_IR_WEIGHTS`` names, in the cache folder, and in the package.
Nothing is downloaded unless a catalogue entry has an address and a SHA-256.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perceive_ir._errors import WeightsError

if TYPE_CHECKING:
    from perceive_ir._engine import Restorer

FOLDER_VARIABLE = "PERCEIVE_IR_WEIGHTS"
PACKAGED = Path(__file__).parent / "weights"
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Entry:
    """A model that the project knows by name."""

    name: str
    about: str
    url: str = ""
    sha256: str = ""
    untrained: str = ""
    """Where it is said how to train it, for a model of which no weights exist anywhere."""

    @property
    def remedy(self) -> str:
        """What to do where its weights are not here."""
        if self.untrained:
            return f"no weights of it exist anywhere: train it as {self.untrained} says"
        return f"put {self.name}{SUFFIX} into a folder and set {FOLDER_VARIABLE} to it"


REPRODUCE = "docs/reproduce.md"
CATALOGUE = {
    e.name: e
    for e in (
        Entry("compact", "small model inside the package, trained from scratch by this project"),
        Entry("perceive_ir_3task", "Perceive-IR at full size: noise, haze, rain", untrained=REPRODUCE),
        Entry("perceive_ir_5task", "the same, and blur and low light", untrained=REPRODUCE),
    )
}


def folders() -> list[Path]:
    """Folders with weights, in the order in which they are searched."""
    import pooch

    named = os.environ.get(FOLDER_VARIABLE)
    return [*([Path(named)] if named else []), Path(pooch.os_cache("perceive-ir")), PACKAGED]


def available() -> dict[str, Path]:
    """All models that can be loaded by name here, and their files."""
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else ():
            found.setdefault(path.stem, path)
    return found


def find(model: str | os.PathLike[str]) -> Path:
    """Return the weights file of a model given by name or path."""
    model = os.fspath(model)
    if model.endswith(SUFFIX) or Path(model).name != model:
        path = Path(model).expanduser()
        if path.is_file():
            return path
        raise WeightsError(f"no weights file at {model}; `perceive-ir models` lists what is there")
    here = available()
    if model in here:
        return here[model]
    entry = CATALOGUE.get(model)
    if entry is None or not entry.url:
        if entry is not None and entry.untrained:
            raise WeightsError(f"{model} is not here, and {entry.remedy}; give the path of what you trained")
        known = ", ".join(sorted(here)) or "none"
        raise WeightsError(f"no model {model!r} here (found: {known}); give a path or set {FOLDER_VARIABLE}")
    return download(entry)


def place_for(name: str, *, force: bool = False) -> Path:
    """Return where the weights of a new model are written; a name that is taken is refused."""
    if not name or Path(name).name != name or name.startswith(".") or name.endswith(SUFFIX) or not name.isprintable():
        raise ValueError(f"expected a name such as nafnet for a model, got {name!r}")
    taken = available().get(name)
    if name in CATALOGUE or (taken is not None and not force):
        raise ValueError(f"there is a model {name!r} already; give another name" + (" or --force" if taken else ""))
    return folders()[0] / f"{name}{SUFFIX}"


def download(entry: Entry) -> Path:
    """Get the weights of a catalogue entry once, checked by SHA-256."""
    import pooch

    try:
        path = pooch.retrieve(
            entry.url, known_hash=f"sha256:{entry.sha256}", fname=f"{entry.name}{SUFFIX}",
            path=pooch.os_cache("perceive-ir"),
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"cannot get {entry.name} from {entry.url} ({error}); put {entry.name}{SUFFIX} into a folder and set "
            f"{FOLDER_VARIABLE} to it"
        ) from error
    return Path(path)


def load(model: str | os.PathLike[str] = "compact", *, device: str = "auto", precision: str = "auto") -> Restorer:
    """Load a model by name or path.

    Parameters
    ----------
    model
        Catalogue name, the name of a file in the weights folder, or a path.
    device, precision
        As in the recipe.
    """
    from perceive_ir._engine import Restorer
    from perceive_ir._foreign import is_foreign, load_foreign
    from perceive_ir._weights import load_system

    path = find(model)
    system, card = load_foreign(path) if is_foreign(path) else load_system(path)
    return Restorer(system, card, device=device, precision=precision)


@lru_cache(maxsize=4)
def loaded(weights: Path, device: str, precision: str) -> Restorer:
    """Return a model that is loaded once and kept."""
    return load(weights, device=device, precision=precision)


def restore(image: Any, *, labels: Any = None, region: Any = None, **recipe_fields: Any) -> Any:
    """Restore an array with the model that the recipe names; the plain function for scripts and other tools.

    Parameters
    ----------
    image
        Picture or stack; numpy, dask or zarr.
    labels
        Labels over the picture, for handling "painted".
    region
        Two slices, rows and columns: only these are restored and returned, as they come out in the whole picture.
    **recipe_fields
        Fields of the recipe, such as ``task="denoise"`` or ``strength=0.8``.

    Returns
    -------
    ndarray
        The restored picture, of the input's shape and dtype.
    """
    from perceive_ir._recipe import make_recipe

    recipe = make_recipe(**recipe_fields)
    restorer = loaded(find(recipe.model), recipe.device, recipe.precision)
    return restorer.restore(image, recipe, labels=labels, region=region).image
