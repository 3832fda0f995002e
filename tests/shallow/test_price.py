"""The price model: what it learns, its interval, and what it does where little is known."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from priced_listings import PRICES, listings

from marketplace.data_folder import UserError
from shallow.price import (
    ALPHAS,
    KNOWN,
    LEAF,
    LEAST_OF_CATEGORY,
    MAIN,
    NOTHING,
    fit_price_model,
    half_width,
    half_widths,
    with_category,
)


@pytest.fixture(scope="module")
def products() -> pd.DataFrame:
    return listings()


@pytest.fixture(scope="module")
def fit(products):
    return fit_price_model(products)


def test_the_more_is_known_of_the_category_the_narrower_the_interval(fit):
    narrow, wide, widest = (fit.half_widths[known][""] for known in (LEAF, MAIN, NOTHING))
    assert narrow < wide < widest
    assert all(ridge.alpha in ALPHAS for ridge in fit.ridges.values())


@pytest.mark.parametrize("known", KNOWN)
def test_four_in_five_test_listings_lie_in_the_interval(fit, products, known):
    test = listings(600, seed=1)
    predicted, reach = fit.predict(test, known)
    assert predicted.shape == reach.shape == (600,) and (reach > 0).all()
    inside = np.abs(np.log(test["price"]) - predicted) <= reach
    assert 0.65 < inside.mean() < 0.95


def test_noisier_prices_have_a_wider_interval(fit):
    noisy = fit_price_model(listings(noise=0.8))
    assert noisy.half_widths[LEAF][""] > 1.5 * fit.half_widths[LEAF][""]


def test_it_learns_category_and_word(fit, products):
    test = products.iloc[:1]
    of = {name: fit.predict(test.assign(category=name, main_category=name.split(" / ")[0]))[0] for name in PRICES}
    assert of["Garden / Tools / Spades"] < of["Garden / Ponds / Pumps"] < of["Computers / Laptops"]
    words = [fit.predict(test.assign(product_name=name, text=name))[0] for name in ("thing used", "thing new")]
    assert words[0] < words[1]


def test_what_is_unknown_of_the_category_changes_nothing(fit, products):
    one, other = (
        products.iloc[:1].assign(category=name, main_category=name.split(" / ")[0]) for name in list(PRICES)[::2]
    )
    assert fit.predict(one, NOTHING) == fit.predict(other, NOTHING)
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
    """Four copies of a listing, whose words tell its price to everyone who has seen one of them."""
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
    names = np.repeat(["large", "small"], [LEAST_OF_CATEGORY, LEAST_OF_CATEGORY - 1])
    found = half_widths(np.where(names == "large", 1.0, 2.0), names)
    assert found == {"large": 1.0, "": 2.0}


def test_texts_without_a_word_are_one_sentence(products):
    with pytest.raises(UserError, match=r"^no text of train has a word that TF-IDF keeps: [^\n]*\.$"):
        fit_price_model(products.assign(product_name="!", text="! ? !"))
