"""The networks of the project: text, photo, and the two combined."""

from importlib import import_module

__all__ = ["CombinedModel", "ImageModel", "TextModel"]
MODULES = {"CombinedModel": "combined_model", "ImageModel": "image_model", "TextModel": "text_model"}


def __getattr__(name: str):
    """A network when it is first asked for: torch takes seconds to import, and a search among vectors needs none."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
