"""``perceive-ir restore``: pictures and stacks in files, restored one after the other."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perceive_ir._recipe import Recipe, make_recipe
from perceive_ir.commands._inputs import Outputs, each, finish, paths_of, refuse_folder
from perceive_ir.commands._options import takes_recipe
from perceive_ir.commands._report import progress, say, say_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perceive_ir import Restorer, Result
    from perceive_ir.files import Picture


@takes_recipe()
def restore(
    inputs: Annotated[list[str], typer.Argument(help="Pictures: names, or patterns in quotes.", show_default=False)],
    output: Annotated[
        str, typer.Option("--output", "-o", help="A file for one input; a folder, such as restored/, for several.")
    ],
    recipe: Recipe,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Picture of whole numbers, for --handling painted.")
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(metavar="ROWS,COLUMNS", help="Only this part, as it is in the whole result: 0:256,128:512."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
    side_json: Annotated[bool, typer.Option("--side-json", help="Also write OUTPUT.json beside each result.")] = False,
) -> None:
    """Restore pictures: what is wrong is perceived, or given as a task."""
    paths = paths_of(inputs)
    outputs = Outputs(output, len(paths))
    marks = read_labels(labels, recipe)
    box = None if region is None else parse_region(region)
    job = Restoring(load(recipe), recipe, outputs, marks, box, force, side_json)
    reports: list[dict[str, Any]] = []
    try:
        with progress() as bar:
            for path, done, why in each(paths, lambda p: job.run(p, on_step(bar, p))):
                reports.append(done.to_dict() if done else {"input": str(path), "ok": False, "error": why})
                if done and not as_json:
                    say(done.words())
    finally:
        if as_json:
            say_json(reports)
    finish(sum(not report["ok"] for report in reports))


@dataclass(frozen=True)
class Done:
    """One restored file."""

    source: Path
    target: Path
    result: Result
    notes: tuple[str, ...]
    seconds: float

    def words(self) -> str:
        """Say in one line what was seen and done."""
        seen = self.result.perception.words()
        notes = "".join(f"; {note}" for note in self.notes)
        return f"{self.source} -> {self.target}: {seen}{notes} ({self.seconds:.1f} s)"

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return {
            "input": str(self.source),
            "output": str(self.target),
            "ok": True,
            "seconds": round(self.seconds, 3),
            "words": self.result.perception.words(),
            "notes": list(self.notes),
            **self.result.to_dict(),
        }


@dataclass(frozen=True)
class Restoring:
    """What is the same for all inputs of a command."""

    restorer: Restorer
    recipe: Recipe
    outputs: Outputs
    labels: NDArray[Any] | None
    region: tuple[slice, slice] | None
    force: bool
    side_json: bool

    def run(self, source: Path, on_step: Callable[[int, int], None]) -> Done:
        """Read, restore and write one file; nothing is computed that could not be written."""
        from perceive_ir.files import read_image, write_image, write_side_json
        from perceive_ir.files._zarr import is_ome_zarr

        start = time.perf_counter()
        if is_ome_zarr(source):
            return self.run_chunks(source, on_step)
        refuse_folder(source, "restore")
        picture = read_image(source)
        target = self.outputs.place(source, picture.kind)
        self.outputs.prepare()
        self.check(target, picture)
        result = self.restored(picture, on_step)
        about = result.to_dict()
        notes = write_image(target, result.image, picture, description=about, force=self.force)
        if self.side_json:
            write_side_json(target, about, force=self.force)
        kept = (*picture.notes, *filter(None, [result.note]), *notes)
        return Done(source, target, result, kept, time.perf_counter() - start)

    def run_chunks(self, source: Path, on_step: Callable[[int, int], None]) -> Done:
        """Restore an OME-Zarr, chunk by chunk."""
        from perceive_ir import restore_ome_zarr

        start = time.perf_counter()
        if self.labels is not None or self.region is not None or self.side_json:
            raise ValueError("--labels, --region and --side-json are not for OME-Zarr: leave them out")
        target = self.outputs.place(source, "zarr")
        self.outputs.prepare()
        for step in restore_ome_zarr(source, target, self.recipe, force=self.force, restorer=self.restorer):
            on_step(step.done, step.total)
        assert step.result is not None
        return Done(source, target, step.result, (), time.perf_counter() - start)

    def check(self, target: Path, picture: Picture) -> None:
        """Refuse now what could not be written later."""
        from perceive_ir.files import check_output
        from perceive_ir.files._description import check_side_json

        check_output(target, picture, force=self.force)
        if self.side_json:
            check_side_json(target, force=self.force)

    def restored(self, picture: Picture, on_step: Callable[[int, int], None]) -> Result:
        """Restore the pixels; the axes are those of the file unless the recipe names some."""
        recipe = self.recipe if self.recipe.axes != "auto" else make_recipe(self.recipe, axes=picture.axes)
        steps = self.restorer.steps(
            picture.data, recipe, labels=self.labels, region=self.region, keep_residual=False
        )  # fmt: skip
        for step in steps:
            on_step(step.done, step.total)
            if step.result is not None:
                return replace(step.result, recipe=self.recipe)  # as it was given, to be given again
        raise AssertionError("the last step carries the result")


def load(recipe: Recipe) -> Restorer:
    """Load the model that a recipe names."""
    from perceive_ir import load

    return load(recipe.model, device=recipe.device, precision=recipe.precision)


def parse_region(text: str) -> tuple[slice, slice]:
    """Read rows and columns from text such as ``0:256,128:512``."""
    ends = re.fullmatch(r"(\d+):(\d+),(\d+):(\d+)", text.replace(" ", ""))
    if ends is None:
        raise ValueError(f"--region: expected rows and columns such as 0:256,128:512, got {text!r}")
    top, bottom, left, right = map(int, ends.groups())
    return slice(top, bottom), slice(left, right)


def read_labels(path: Path | None, recipe: Recipe) -> NDArray[Any] | None:
    """Read the labels, which only handling "painted" uses."""
    from perceive_ir.files import read_image

    painted = recipe.handling == "painted"
    if painted and path is None:
        raise ValueError("--handling painted needs --labels FILE and --painted 1=denoise:0.5")
    if path is not None and not painted:
        raise ValueError("--labels needs --handling painted and --painted 1=denoise:0.5")
    return None if path is None else read_image(path).data


def on_step(bar: Any, path: Path) -> Callable[[int, int], None]:
    """Show a file in the progress bar, from the look at the whole picture on; return what shows its tiles."""
    for task in bar.task_ids:
        bar.remove_task(task)
    name = path.name if len(path.name) <= 40 else path.name[:39] + "…"
    current = bar.add_task(name, total=None, unit="tiles")

    def show(done: int, total: int) -> None:
        bar.update(current, completed=done, total=total)

    return show
