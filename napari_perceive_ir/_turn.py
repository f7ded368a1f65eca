"""One passing view of a viewer at a time, a comparison or a preview, whichever dock or script began it.

Two at once would each bring back what the other one had changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakValueDictionary


class PassingView(Protocol):
    """What shows layers otherwise for a while."""

    def give_way(self) -> None:
        """End at once, with everything as it was, and tell whoever began it."""


_ON: WeakValueDictionary[int, PassingView] = WeakValueDictionary()
"""What is on in each viewer."""


def take_turn(viewer: Any, view: PassingView) -> Callable[[], None]:
    """End what is on in a viewer; return what is to be called when this view ends."""
    end_passing(viewer)
    _ON[_key(viewer)] = view

    def ended() -> None:
        _ON.pop(_key(viewer), None)

    return ended


def end_passing(viewer: Any) -> None:
    """End what is on in a viewer."""
    view = _ON.pop(_key(viewer), None)
    if view is not None:
        view.give_way()


def _key(viewer: Any) -> int:
    return id(getattr(viewer, "__wrapped__", viewer))  # plugins get it wrapped
