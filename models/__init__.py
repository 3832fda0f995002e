"""The networks of the project: text, photo, and the two combined."""

from models.combined_model import CombinedModel
from models.image_model import ImageModel
from models.text_model import TextModel

__all__ = ["CombinedModel", "ImageModel", "TextModel"]
