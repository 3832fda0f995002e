"""The networks of the project: text, photo, and the two combined."""

from models.networks import CombinedModel, ImageModel, TextModel

__all__ = ["CombinedModel", "ImageModel", "TextModel"]
