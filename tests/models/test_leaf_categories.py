"""The second head for leaf categories, its labels, and the plain network that remains of it."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from models import ImageModel
from models.predict import load_checkpoint
from models.training import LeafCategories, Recipe, Trainer, TrainingOptions, leaf_labels

CATEGORIES = ["Home / Lamps", "Garden", "Home / Sofas", "Home / Lamps"]
MAIN = [1, 0, 1, 1]


class Network(nn.Module):
    """With what LeafCategories needs of a network."""

    def __init__(self, classes: int):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(5, 4), nn.ReLU())
        self.output_layer = nn.Linear(4, classes)

    def forward(self, inputs):
        return self.output_layer(self.features(inputs))


def test_every_path_is_a_leaf_of_its_main_category():
    labels, main_of_leaf = leaf_labels(CATEGORIES, MAIN)
    assert labels.tolist() == [1, 0, 2, 1]
    assert main_of_leaf.tolist() == [0, 1, 1]
    assert np.array_equal(main_of_leaf[labels], MAIN)


def test_the_loss_is_that_of_the_main_category_plus_that_of_the_leaf_within_it():
    labels, main_of_leaf = leaf_labels(CATEGORIES, MAIN)
    model = Network(3)  # main category 2 has no leaf
    learner = LeafCategories(model, main_of_leaf).train()
    inputs = torch.randn(4, 5)
    output = learner(inputs)
    assert output.shape == (4, 3) and torch.allclose(output.exp().sum(1), model(inputs).softmax(1)[:, :2].sum(1))

    leaf = learner.leaf_layer(model.features(inputs))
    by_hand = F.cross_entropy(model(inputs), torch.tensor(MAIN), reduction="none")
    of_home = torch.tensor(MAIN) == 1
    within = F.cross_entropy(leaf[of_home][:, 1:], torch.from_numpy(labels)[of_home] - 1, reduction="none")
    by_hand[of_home] += within
    loss = F.nll_loss(output, torch.from_numpy(labels), reduction="none")
    assert torch.allclose(loss, by_hand, atol=1e-6)


def test_in_evaluation_it_is_the_model_itself():
    model = Network(2)
    learner = LeafCategories(model, [0, 0, 1]).eval()
    inputs = torch.randn(2, 5)
    assert torch.equal(learner(inputs), model(inputs))


def test_outputs_of_training_are_measured_as_the_main_categories_of_the_model():
    model = Network(2)
    learner = LeafCategories(model, [0, 1, 1]).train()
    inputs = torch.randn(4, 5)
    logits, labels = learner.to_main_category(learner(inputs), torch.tensor([2, 0, 0, 1]))
    assert torch.allclose(logits, model(inputs).log_softmax(1), atol=1e-6)
    assert labels.tolist() == [1, 0, 0, 1]


def test_image_model_is_its_output_layer_on_its_features():
    model, photos = ImageModel(2).eval(), torch.randn(2, 3, 64, 48)
    assert model.features(photos).shape == (2, 256)
    assert torch.equal(model.output_layer(model.features(photos)), model(photos))


def test_the_best_checkpoint_holds_the_plain_network(tmp_path):
    inputs = torch.randn(4, 5)
    labels, main_of_leaf = leaf_labels(CATEGORIES, MAIN)
    model, plain = Network(2), Network(2)
    train, validation = [(inputs, torch.from_numpy(labels))], [(inputs, torch.tensor(MAIN))]
    options = TrainingOptions(device=torch.device("cpu"), data_dir=tmp_path)
    recipe = Recipe(epochs=2, batch_size=4, learning_rate=1e-3)
    Trainer(LeafCategories(model, main_of_leaf), train, validation, recipe, options).fit("text", ["Garden", "Home"])
    load_checkpoint(tmp_path / "checkpoints" / "text_model_best.pt", plain, ["Garden", "Home"])
    assert torch.equal(plain(inputs), model(inputs))
