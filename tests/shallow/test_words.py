"""The category by words: regressions fitted on train alone, their regularisation by validation, and their fusion."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from marketplace.data_folder import UserError
from marketplace.listings import rows_of_split
from shallow.words import (
    BOTH,
    C_BOUNDS,
    MEAN_EMBEDDING,
    MIN_LOG_PROBABILITY,
    TFIDF,
    fit_on_train,
    fit_shallow_text,
    log_probabilities,
    mean_embedding_model,
    tfidf_model,
)

WORDS = ("sofa cushion leather", "kettle toaster steam", "guitar strings amplifier")


def listings(count: int = 150, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Listings of three categories, which words and mean embeddings tell in part: a word of a text may be any."""
    generator = np.random.default_rng(seed)
    codes = np.arange(count) % 3
    every = " ".join(WORDS).split()
    texts = []
    for row, code in enumerate(codes):
        own = generator.choice(WORDS[code].split(), 2)
        texts.append(" ".join([*own, *generator.choice(every, 3), f"number{row}"]))
    embeddings = generator.normal(size=(count, 768)) + generator.normal(size=(3, 768))[codes] / 11
    products = pd.DataFrame(
        {
            "main_category_code": codes,
            "text": texts,
            "group": [str(row) for row in range(count)],
            "split": np.array(["train", "train", "train", "validation", "test"])[np.arange(count) // 3 % 5],
        }
    )
    return products, embeddings


def accuracy(logits: np.ndarray, products: pd.DataFrame, split: str) -> float:
    rows = rows_of_split(products, split)
    return float((logits[rows].argmax(1) == products["main_category_code"].to_numpy()[rows]).mean())


@pytest.fixture(scope="module")
def data() -> tuple[pd.DataFrame, np.ndarray]:
    return listings()


@pytest.fixture(scope="module")
def shallow(data):
    return fit_shallow_text(*data, classes=4)


def test_texts_without_a_word_to_keep_are_one_sentence(data):
    products = data[0].assign(text="🎩 the of")
    with pytest.raises(UserError, match=r"^no text of train has a word that TF-IDF keeps: .*\.$"):
        fit_shallow_text(products, data[1], classes=4)


def test_the_regularisation_is_at_no_edge_and_as_good_as_others_on_validation(data, shallow):
    products, embeddings = data
    train, validation = rows_of_split(products, "train"), rows_of_split(products, "validation")
    labels = products["main_category_code"].to_numpy()
    for model, inputs in ((shallow.tfidf, products["text"].to_numpy()), (shallow.mean_embedding, embeddings)):
        chosen = model[-1].C
        assert C_BOUNDS[0] * 2 < chosen < C_BOUNDS[1] / 2
        learnt, held_out = model[:-1].transform(inputs[train]), model[:-1].transform(inputs[validation])

        def loss(strength, learnt=learnt, held_out=held_out):
            other = LogisticRegression(C=strength, max_iter=1000).fit(learnt, labels[train])
            logs = log_probabilities(other, held_out, 3)
            return -logs[np.arange(len(validation)), labels[validation]].mean()

        assert all(loss(chosen) <= loss(strength) + 0.01 for strength in (1e-4, 1e-2, chosen / 8, chosen * 8, 1e3))


def test_a_model_is_that_of_a_fit_on_train_with_its_regularisation(data, shallow):
    products, embeddings = data
    train = rows_of_split(products, "train")
    labels = products["main_category_code"].to_numpy()[train]
    for model, fresh, inputs in (
        (shallow.tfidf, tfidf_model(), products["text"].to_numpy()),
        (shallow.mean_embedding, mean_embedding_model(), embeddings),
    ):
        fresh[-1].set_params(C=model[-1].C)
        fresh.fit(inputs[train], labels)
        assert np.allclose(fresh[-1].coef_, model[-1].coef_, atol=1e-3)
    numbers = {word for word in shallow.tfidf[0].vocabulary_ if word.startswith("number")}
    assert numbers == {f"number{row}" for row in train}


def test_test_listings_have_no_influence_and_those_of_validation_only_on_the_regularisation(data, shallow):
    products, embeddings = data
    test, validation = (rows_of_split(products, split) for split in ("test", "validation"))
    other = products.copy()
    other.loc[test, "main_category_code"] = 0
    other.loc[test, "text"] = "other words"
    changed = embeddings.copy()
    changed[test] = 100.0
    again = fit_shallow_text(other, changed, classes=4)
    assert (again.tfidf[-1].coef_ == shallow.tfidf[-1].coef_).all()
    assert (again.mean_embedding[-1].coef_ == shallow.mean_embedding[-1].coef_).all()
    assert again.fusion.layer_hash() == shallow.fusion.layer_hash()

    other = products.copy()
    other.loc[validation, "text"] = "sofa number1"
    one = fit_on_train(tfidf_model(), other["text"].to_numpy(), other)
    assert one[0].vocabulary_ == shallow.tfidf[0].vocabulary_ and one[-1].C != shallow.tfidf[-1].C


def test_a_category_absent_from_train_has_the_least_log_probability(data, shallow):
    for name in (TFIDF, MEAN_EMBEDDING):
        logs = shallow.outputs[name]
        assert logs.shape == (150, 4) and (logs[:, 3] == MIN_LOG_PROBABILITY).all()
        assert logs.min() >= MIN_LOG_PROBABILITY
        assert np.exp(logs[:, :3]).sum(1) == pytest.approx(1, abs=1e-4)
    products = data[0].copy()
    products.loc[(products["main_category_code"] == 2) & (products["split"] == "train"), "split"] = "test"
    model = fit_on_train(tfidf_model(), products["text"].to_numpy(), products)
    logs = log_probabilities(model, products["text"].to_numpy(), 3)
    assert (logs[:, 2] == MIN_LOG_PROBABILITY).all() and np.isfinite(logs).all()


def test_both_together_are_no_worse_than_each_alone(data, shallow):
    scores = {name: accuracy(shallow.outputs[name], data[0], "test") for name in (TFIDF, MEAN_EMBEDDING, BOTH)}
    assert scores[BOTH] >= max(scores[TFIDF], scores[MEAN_EMBEDDING]) and min(scores.values()) > 0.5
    assert shallow.seconds.keys() == scores.keys()
    assert shallow.seconds[BOTH] >= shallow.seconds[TFIDF] + shallow.seconds[MEAN_EMBEDDING]
