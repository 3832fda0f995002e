"""Checkpoints of networks that never learnt: as good as trained ones wherever only the way through matters."""

import torch

from marketplace.data_folder import DataFolder, read_json
from models import ImageModel, TextModel
from models.networks import EMBEDDING_SCALE
from models.training import save_checkpoint


def write_untrained_checkpoints(folder: DataFolder) -> None:
    """Leave a text and an image model in the data folder's checkpoints, as train_models.py would."""
    labels = read_json(folder.main_categories, "clean_tabular_data.py")
    torch.manual_seed(3)
    for name, model, configuration in (
        ("text", TextModel(len(labels)), {"encoder": "all-MiniLM-L6-v2", "embedding_scale": EMBEDDING_SCALE}),
        ("image", ImageModel(len(labels)), {"image_size": 64}),
    ):
        path = folder.checkpoints / f"{name}_model_best.pt"
        save_checkpoint(path, model, labels, configuration=configuration, validation={"accuracy": 0.1})
