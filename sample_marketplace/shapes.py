"""The shapes by name: what `Kind.shape` refers to."""

from collections.abc import Callable

from sample_marketplace import shapes_house, shapes_leisure, shapes_person, shapes_work
from sample_marketplace.pen import Pen

SHAPES: dict[str, Callable[[Pen], None]] = {
    name: function
    for module in (shapes_house, shapes_person, shapes_leisure, shapes_work)
    for name, function in vars(module).items()
    if callable(function) and getattr(function, "__module__", "") == module.__name__ and not name.startswith("_")
}
