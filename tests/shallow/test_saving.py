"""Saved scikit-learn models: they answer as before, and a file from elsewhere runs nothing."""

import functools
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from skops.io import dump

from marketplace.data_folder import UserError
from shallow.saving import load_model, save_model
from shallow.words import WordVectorizer, log_probabilities, tfidf_model

TEXTS = np.array(["red apple", "green apple", "blue boat", "old boat"])
LABELS = ["fruit", "ships"]
UNREADABLE = r"^the model .*model\.skops is unreadable \(\w+\): run train_models\.py again\.$"


class Foreign:
    """Writes a file when it is made anew, as a pickle makes it."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)

    def __setstate__(self, state):
        Path(state["path"]).touch()


def test_a_saved_model_answers_as_before(tmp_path):
    path = tmp_path / "checkpoints" / "model.skops"
    tfidf = tfidf_model()
    tfidf[-1].set_params(C=np.exp(1.5))  # a numpy number, as the fit leaves it
    tfidf.fit(TEXTS, [0, 0, 1, 1])
    layer = {"weight": np.ones((2, 4), np.float32), "l2": 0.25}
    save_model(path, {"labels": LABELS, "tfidf": tfidf, "fusion": layer, "encoder": None})
    again = load_model(path)
    assert again["labels"] == LABELS and again["encoder"] is None and again["fusion"]["l2"] == 0.25
    assert again["fusion"]["weight"].dtype == np.float32 and (again["fusion"]["weight"] == 1).all()
    assert (log_probabilities(again["tfidf"], TEXTS, 2) == log_probabilities(tfidf, TEXTS, 2)).all()
    assert list(path.parent.iterdir()) == [path]


def test_a_model_that_cannot_be_saved_leaves_the_earlier_one(tmp_path):
    path = tmp_path / "model.skops"
    save_model(path, {"labels": LABELS})
    before = path.read_bytes()
    with pytest.raises(Exception, match="generator"):
        save_model(path, {"labels": LABELS, "what": (number for number in range(3))})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "foreign",
    [
        lambda trace: Foreign(str(trace)),
        lambda trace: functools.partial(os.system, f"touch {trace}"),
        lambda trace: np.array([Foreign(str(trace)), None], dtype=object),
        lambda trace: WordVectorizer(tokenizer=functools.partial(os.system, f"touch {trace}")),
    ],
)
def test_a_file_with_a_class_of_others_is_refused_and_runs_nothing(foreign, tmp_path):
    trace = tmp_path / "it ran"
    dump({"labels": LABELS, "tfidf": foreign(trace)}, tmp_path / "model.skops")
    with pytest.raises(UserError, match=UNREADABLE):
        load_model(tmp_path / "model.skops")
    assert not trace.exists()


def test_a_pickle_is_refused_and_runs_nothing(tmp_path):
    trace = tmp_path / "it ran"
    content = pickle.dumps({"labels": LABELS, "tfidf": Foreign(str(trace))})
    pickle.loads(content)
    assert trace.exists()  # as a pickle it would
    trace.unlink()
    (tmp_path / "model.skops").write_bytes(content)
    with pytest.raises(UserError, match=UNREADABLE):
        load_model(tmp_path / "model.skops")
    assert not trace.exists()


def test_a_byte_changed_anywhere_is_one_sentence_or_harmless(tmp_path):
    path = tmp_path / "model.skops"
    save_model(path, {"labels": LABELS, "tfidf": tfidf_model().fit(TEXTS, [0, 0, 1, 1])})
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            load_model(path)
        except UserError as error:
            assert str(error).endswith(": run train_models.py again.") and "\n" not in str(error)
            refused += 1
    assert refused > 30


def test_a_file_of_an_earlier_version_is_one_sentence(tmp_path):
    for content in ({"labels": LABELS}, LABELS):
        dump(content, tmp_path / "model.skops")
        with pytest.raises(UserError, match=r"of another version of this project: run train_models\.py again\.$"):
            load_model(tmp_path / "model.skops")


def test_a_truncated_and_a_missing_file_are_one_sentence(tmp_path):
    path = tmp_path / "model.skops"
    with pytest.raises(UserError, match=r"^the model .* is missing: run train_models\.py first\.$"):
        load_model(path)
    save_model(path, {"labels": LABELS})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match=UNREADABLE):
        load_model(path)
