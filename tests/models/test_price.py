"""The price model as a file, and the estimate of one listing."""

import pickle
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from priced_listings import listings
from skops.io import dump, get_untrusted_types, load

from marketplace.data_folder import DataFolder, UserError
from marketplace.listing_text import MAX_CHARACTERS
from shallow.price import (
    COVERAGE,
    LEAF,
    MAIN,
    NOTHING,
    Factor,
    PriceModel,
    fit_price_model,
    load_price_model,
    save_price_model,
)


@pytest.fixture(scope="module")
def products():
    return listings()


@pytest.fixture(scope="module")
def folder(products, tmp_path_factory) -> DataFolder:
    folder = DataFolder(tmp_path_factory.mktemp("price"))
    save_price_model(folder, fit_price_model(products), products, seed=7)
    return folder


@pytest.fixture(scope="module")
def model(folder) -> PriceModel:
    return load_price_model(folder)


@pytest.fixture
def own_folder(folder, tmp_path) -> DataFolder:
    (tmp_path / "checkpoints").mkdir()
    path = folder.checkpoints / "price_model.skops"
    (tmp_path / "checkpoints" / path.name).write_bytes(path.read_bytes())
    return DataFolder(tmp_path)


def test_a_listing_of_the_table_is_estimated_as_the_fit_predicts_it(model, products):
    listing = products[products["split"] == "test"].iloc[0]
    for known, category in ((LEAF, listing["category"]), (MAIN, listing["main_category"]), (NOTHING, None)):
        found = model.estimate(listing["text"], category)
        row = products[products["id"] == listing["id"]].assign(latitude=model.place[0], longitude=model.place[1])
        predicted, reach = model.fit.predict(row, known)
        assert found.price == pytest.approx(np.exp(predicted[0]))
        assert found.high / found.price == pytest.approx(np.exp(reach[0])) == pytest.approx(found.price / found.low)
        assert (found.coverage, found.category, found.location) == (COVERAGE, category, None)


def test_a_dearer_category_and_a_dearer_word_make_a_dearer_estimate(model):
    prices = [model.estimate("thing used. offered", category).price for category in ("Garden", "Computers")]
    assert 3 * prices[0] < prices[1]
    new, used = (model.estimate(f"thing {word}. offered", "Garden / Ponds / Pumps") for word in ("new", "used"))
    assert new.price > 1.5 * used.price
    assert {one.feature: one.factor > 1 for one in new.factors}["new"]


@pytest.mark.parametrize("location", [None, "Reading, Berkshire"])
@pytest.mark.parametrize("known", [LEAF, MAIN, NOTHING])
def test_the_factors_multiply_to_the_price(known, location, model, products):
    listing = products[products["split"] == "train"].iloc[0]
    category = {LEAF: listing["category"], MAIN: listing["main_category"], NOTHING: None}[known]
    found = model.estimate(listing["text"], category, location)
    place = model.place if location is None else model._place(location)
    row = products[products["id"] == listing["id"]].assign(latitude=place[0], longitude=place[1])
    factors = model.factors(row, known, {"category": category, "place": location})
    base = np.exp(model.fit.ridges[known].intercept_)
    assert base * np.prod([one.factor for one in factors]) == pytest.approx(found.price, rel=1e-6)
    assert found.factors == factors[:5] and all(isinstance(one, Factor) for one in factors)
    strength = [abs(np.log(one.factor)) for one in factors]
    assert strength == sorted(strength, reverse=True)
    features = [one.feature for one in factors]
    assert len(set(features)) == len(features)
    assert (f"category: {category}" in features) == (category is not None)
    assert (f"place: {location}" in features) == (location is not None)


def test_a_category_is_found_by_its_path_its_ends_or_its_main_category_in_any_capitals(model, products):
    leaf = products[products["split"] == "train"]["category"].value_counts().index[0]
    main, last = leaf.split(" / ")[0], leaf.split(" / ")[-1]
    for written, category in (
        (leaf, leaf),
        (leaf.upper(), leaf),
        (f" {main}  /  {last}", leaf),
        (main.lower(), main),
        (f"{main} / something else", main),
    ):
        assert model.estimate("a thing", written).category == category
    assert model.estimate("a thing").category is None


@pytest.mark.parametrize("category", ["", "Boats", "/", "Boats / Mirrors", "\ud800"])
def test_an_unknown_category_is_one_sentence(category, model):
    with pytest.raises(UserError, match=r"^no listing of train is in the category .*: choose one of [^\n]*\.$"):
        model.estimate("a thing", category)


@pytest.mark.parametrize("location", ["", "Nowhereville", ", ,", "Reading " * 1000])
def test_an_unknown_place_is_one_sentence(location, model):
    with pytest.raises(UserError, match=r"^no place is known as .*: write it as in a listing, [^\n]*\.$") as raised:
        model.estimate("a thing", location=location)
    assert len(str(raised.value)) < 250


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("", "is empty"), (" \n\r\u200b", "is empty"), ("a" * (MAX_CHARACTERS + 1), "has more than 20,000 characters")],
)
def test_a_text_that_cannot_be_used_is_one_sentence(text, sentence, model):
    with pytest.raises(UserError, match=rf"^the text {sentence}: [^\n]*\.$"):
        model.estimate(text)


@settings(max_examples=60, deadline=None)
@given(st.text(), st.sampled_from([None, "Garden"]) | st.text(), st.sampled_from([None, "Leeds"]) | st.text())
def test_no_text_is_more_than_one_sentence(model, text, category, location):
    try:
        found = model.estimate(text, category, location)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite([found.low, found.price, found.high]).all() and 0 < found.low < found.price < found.high


def test_the_longest_text_is_read(model):
    assert np.isfinite(model.estimate("£🎩 \ud800" * (MAX_CHARACTERS // 4)).price)
    assert asdict(model.estimate("oak " * (MAX_CHARACTERS // 4))).keys() >= {"price", "low", "high", "factors"}


def test_the_file_needs_no_trust_and_says_what_it_was_made_of(folder, products):
    path = folder.checkpoints / "price_model.skops"
    assert get_untrusted_types(file=path) == [] and path.stat().st_size < 1_000_000
    content = load(path)
    assert content["train_listings"] == (products["split"] == "train").sum() and content["seed"] == 7
    assert content["labels"] == sorted(products.query("split == 'train'")["main_category"].unique())
    assert len(content["fit"]["residuals"][LEAF]) == content["train_listings"]
    assert content["validation"]["R2, log pounds"] < 1 and 0.5 < content["validation"]["coverage"] < 1


def test_a_pickle_a_damaged_and_a_missing_file_are_one_sentence(own_folder):
    path = own_folder.checkpoints / "price_model.skops"
    for content in (pickle.dumps({"labels": []}), path.read_bytes()[:-500], b""):
        path.write_bytes(content)
        with pytest.raises(
            UserError, match=r"^the model .* is damaged or of another kind .*run tabular_linear_[^\n]*\.$"
        ):
            load_price_model(own_folder)
    path.unlink()
    with pytest.raises(UserError, match=r"^the model .* is missing: run tabular_linear_regression\.ipynb first\.$"):
        load_price_model(own_folder)


@pytest.mark.parametrize(
    "change",
    [
        {"fit": {}},
        {"fit": None},
        {"labels": []},
        {"place": ["here"]},
        {"place": [float("nan"), 0.0]},
        {"categories": [1]},
        {"categories": []},
    ],
)
def test_a_file_with_other_content_is_one_sentence(change, own_folder):
    path = own_folder.checkpoints / "price_model.skops"
    content = load(path)
    dump(content | change, path)
    with pytest.raises(UserError, match=r"^the model .* is of another kind: run tabular_linear_[^\n]* again\.$"):
        load_price_model(own_folder)


@pytest.mark.parametrize("known", [LEAF, MAIN, NOTHING])
def test_numbers_that_are_not_finite_are_refused(known, own_folder):
    path = own_folder.checkpoints / "price_model.skops"
    content = load(path)
    content["fit"]["ridges"][known].intercept_ = float("nan")
    dump(content, path)
    with pytest.raises(UserError, match=r"^the model .* is of another kind: run tabular_linear_[^\n]* again\.$"):
        load_price_model(own_folder)
