"""The networks of the project: text, photo, and the two combined."""

import marketplace  # noqa: F401  sets how threads wait, before torch is imported
from models.networks import CombinedModel, ImageModel, TextModel

__all__ = ["CombinedModel", "ImageModel", "TextModel"]
