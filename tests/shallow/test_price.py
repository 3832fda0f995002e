"""The price model: what it learns, its interval, its file, and the estimate of one listing."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from priced_listings import PRICES, listings
from skops.io import dump

from marketplace.data_folder import DataFolder, QueryError, UserError
from marketplace.gazetteer import locate
from shallow.price import (
    ALPHAS,
    COVERAGE,
    MIN_LISTINGS,
    CategoryLevel,
    PriceModel,
    fit_price_model,
    half_width,
    half_widths,
    load_price_model,
    save_price_model,
    with_category,
)

LEAF, MAIN, NONE = CategoryLevel


@pytest.fixture(scope="module")
def products() -> pd.DataFrame:
    return listings()


@pytest.fixture(scope="module")
def fit(products):
    return fit_price_model(products)


@pytest.fixture(scope="module")
def folder(fit, products, tmp_path_factory) -> DataFolder:
    folder = DataFolder(tmp_path_factory.mktemp("price"))
    save_price_model(folder, fit, products)
    return folder


@pytest.fixture(scope="module")
def model(folder) -> PriceModel:
    return load_price_model(folder)


def test_the_more_of_the_category_is_given_the_narrower_the_interval(fit):
    narrow, wide, widest = (fit.half_widths[level][""] for level in CategoryLevel)
    assert narrow < wide < widest
    assert all(ridge.alpha in ALPHAS for ridge in fit.ridges.values())


@pytest.mark.parametrize("level", CategoryLevel)
def test_four_in_five_test_listings_lie_in_the_interval(fit, level):
    test = listings(600, seed=1)
    predicted, widths = fit.predict(test, level)
    assert predicted.shape == widths.shape == (600,) and (widths > 0).all()
    assert 0.65 < (np.abs(np.log(test["price"]) - predicted) <= widths).mean() < 0.95


def test_it_learns_category_and_word(fit, products):
    test = products.iloc[:1]
    of = {name: fit.predict(test.assign(category=name, main_category=name.split(" / ")[0]))[0] for name in PRICES}
    assert of["Garden / Tools / Spades"] < of["Garden / Ponds / Pumps"] < of["Computers / Laptops"]
    words = [fit.predict(test.assign(product_name=name, text=name))[0] for name in ("thing used", "thing new")]
    assert words[0] < words[1]


def test_what_is_left_out_of_the_category_changes_nothing(fit, products):
    one, other = (
        products.iloc[:1].assign(category=name, main_category=name.split(" / ")[0]) for name in list(PRICES)[::2]
    )
    assert fit.predict(one, NONE) == fit.predict(other, NONE)
    assert fit.predict(one, MAIN) != fit.predict(other, MAIN)
    assert fit.predict(one, MAIN) == fit.predict(one.assign(category="Garden / Ponds / Pumps"), MAIN)
    assert with_category(one, MAIN)["level_2"].tolist() == ["Garden"]
    assert with_category(one)["level_2"].tolist() == ["Garden / Tools"]


def test_only_train_is_learnt_from(fit, products):
    test = products["split"] == "test"
    again = fit_price_model(
        products.assign(price=products["price"].mask(test, 9999), text=products["text"].mask(test, "x"))
    )
    assert again.half_widths == fit.half_widths
    assert np.array_equal(again.ridges[LEAF].coef_, fit.ridges[LEAF].coef_)


def test_equal_descriptions_are_never_in_both_parts_of_a_fold():
    """Four copies of a listing, whose words give its price to everyone who has seen one of them."""
    once = listings(40, noise=1).assign(text=lambda table: "number" + table.index.astype(str))
    copies = pd.concat([once] * 4, ignore_index=True).assign(split="train")
    grouped = fit_price_model(copies).residuals[LEAF]
    torn = fit_price_model(copies.assign(group=copies.index.astype(str))).residuals[LEAF]
    assert np.std(torn) < 0.8 * np.std(grouped)


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=60), st.floats(0.05, 0.95))
def test_the_half_width_holds_at_least_its_share_of_the_residuals(residuals, coverage):
    width = half_width(np.array(residuals), coverage)
    inside = np.mean(np.abs(residuals) <= width)
    assert inside >= min(1, np.ceil((len(residuals) + 1) * coverage) / len(residuals)) - 1e-9
    assert width in np.abs(residuals)


def test_large_categories_have_an_interval_of_their_own():
    names = np.repeat(["large", "small"], [MIN_LISTINGS, MIN_LISTINGS - 1])
    assert half_widths(np.where(names == "large", 1.0, 2.0), names) == {"large": 1.0, "": 2.0}


@pytest.mark.parametrize("location", [None, "Reading, Berkshire"])
@pytest.mark.parametrize("level", CategoryLevel)
def test_an_estimate_is_what_the_fit_predicts_and_its_factors_multiply_to_it(level, location, fit, model, products):
    listing = products[products["split"] == "train"].iloc[0]
    category = {LEAF: listing["category"], MAIN: listing["main_category"], NONE: None}[level]
    name, description = listing["text"].split(". ")
    estimate = model.estimate(description, category, location, name)
    assert (estimate.coverage, estimate.category, estimate.location) == (COVERAGE, category, location)
    place = model.place
    if location is not None:
        town = locate(location)
        place = [town.latitude, town.longitude]
    row = products[products["id"] == listing["id"]].assign(latitude=place[0], longitude=place[1])
    predicted, width = fit.predict(row, level)
    assert estimate.price == pytest.approx(np.exp(predicted[0]))
    assert (
        estimate.high / estimate.price
        == pytest.approx(np.exp(width[0]))
        == pytest.approx(estimate.price / estimate.low)
    )
    factors = model.factors(row, level, {"category": category, "place": location})
    product = np.prod([one.factor for one in factors])
    assert np.exp(fit.ridges[level].intercept_) * product == pytest.approx(estimate.price, rel=1e-6)
    strength = [abs(np.log(one.factor)) for one in factors]
    assert estimate.factors == factors[:5] and strength == sorted(strength, reverse=True)
    features = [one.feature for one in factors]
    assert len(set(features)) == len(features)
    assert (f"category: {category}" in features) == (category is not None)
    assert (f"place: {location}" in features) == (location is not None)


def test_a_full_stop_does_not_end_a_name_and_a_name_may_be_given(model):
    with_stop, without = (model.estimate(text) for text in ("Approx. new thing", "Approx new thing"))
    assert with_stop == without
    apart = model.estimate("used", name="thing new")
    assert apart == model.estimate("thing new\nused") != model.estimate("thing new. used")


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


def test_an_unknown_category_place_or_text_is_one_sentence(model):
    for category in ("", "Boats / Mirrors"):
        with pytest.raises(QueryError, match=r"^the training data has no category .*: choose one of [^\n]*\.$"):
            model.estimate("a thing", category)
    with pytest.raises(QueryError, match=r"^the place 'Reading R.* is unknown: write it as in a listing, [^\n]*\.$"):
        model.estimate("a thing", location="Reading " * 1000)
    with pytest.raises(QueryError, match=r"^the text is empty: [^\n]*\.$"):
        model.estimate(" \n")


@settings(max_examples=60, deadline=None)
@given(st.text(), st.sampled_from([None, "Garden"]) | st.text(), st.sampled_from([None, "Leeds"]) | st.text())
def test_any_text_gives_a_price_or_one_sentence(model, text, category, location):
    try:
        estimate = model.estimate(text, category, location)
    except QueryError as error:
        assert "\n" not in str(error)
    else:
        assert 0 < estimate.low < estimate.price < estimate.high < np.inf


def test_texts_without_a_word_are_one_sentence(products):
    with pytest.raises(UserError, match=r"^no text of train has a word that TF-IDF keeps: [^\n]*\.$"):
        fit_price_model(products.assign(product_name="!", text="! ? !"))


def test_a_missing_and_an_unreadable_file_say_which_notebook_writes_it(tmp_path):
    folder = DataFolder(tmp_path)
    with pytest.raises(UserError, match=r"^the model .* is missing: run tabular_linear_regression\.ipynb first\.$"):
        load_price_model(folder)
    folder.checkpoints.mkdir()
    dump({"fit": OSError}, folder.price_model)
    with pytest.raises(UserError, match=r"^the model .* is unreadable .*: run tabular_linear_[^\n]* again\.$"):
        load_price_model(folder)
