"""listing_text.py: no banner remains and nothing of the seller's is lost; names, prices and queries by rule."""

import re
import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from marketplace.data_folder import QueryError
from marketplace.listing_text import (
    MAX_CHARACTERS,
    MAX_NAME,
    clean_description,
    clean_product_name,
    clean_text,
    is_null,
    joined_text,
    normalised_text,
    parse_price,
    query_parts,
)

BANNERS = (
    "Posted by a seller in Health & Beauty, Bath & Body in Poole. 25 February 2022",
    "Posted by Sarah in Consoles, PS4 (Sony Playstation 4) in St. Albans. February 25, 2022",
    "Posted by J & T in Other Goods in Stoke-on-Trent. 1. May 2021",
    "Posted by Matthew.Bracknell. 25 February 2022",
    "Posted by a seller in Ovens, Hobs & Cookers, Other Ovens, Hobs & Cookers.",
)


@pytest.mark.parametrize("banner", BANNERS)
@pytest.mark.parametrize("after", ["", " can deliver", " & a stool. Both for £9.", "\rCash only"])
def test_the_banner_goes_and_the_sellers_text_stays(banner, after):
    for before in ("", "A chair with arms. ", "A chair", "Chair £5!\r\r"):
        assert clean_description(before + banner + after) == clean_text(before + after)


@pytest.mark.parametrize(
    "text",
    [
        "It can be posted by Royal Mail in 2 days. 25 February 2022 is too late.",
        "Posted by Royal Mail in a padded bag.",
        "Happy to get it Posted by Friday.\n\nBought on 25 February 2022.",
        "I had it Posted by Jo in London on 3 May 2021.",
    ],
)
def test_the_sellers_own_words_on_posting_stay(text):
    assert clean_description(text) == text


@pytest.mark.parametrize(
    "text", ["Posted by a in A ", "Posted by A.A.A.A in A&A&A ", "Posted by A in A in ", "a | in "]
)
def test_no_text_of_100_kb_takes_long(text):
    text = text * (100_000 // len(text))
    started = time.monotonic()
    clean_description("Posted by Jo in " + text)
    clean_product_name(text + "| Gumtree")
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("Oak table | in Wokingham, Berkshire | Gumtree", "Oak table"),
        ("Oak table | good | in Hull | Gumtree ", "Oak table | good"),
        ("Oak\r table | Gumtree", "Oak table"),
        ("Gumtree", "Gumtree"),
        (" | in Hull | Gumtree", ""),
    ],
)
def test_the_page_title_goes_from_the_name(name, clean):
    assert clean_product_name(name) == clean


@pytest.mark.parametrize(
    ("text", "price"),
    [
        *(("£1,250.00", 1250.0), ("1250", 1250.0), ("£5", 5.0), ("GBP 20", 20.0), ("20 GBP", 20.0), ("£0.5", 0.5)),
        *((text, None) for text in ("£1.250", "1,25", "-3", "FREE", "POA", "€5", "£5 each", "inf", "1 250", "٢", "")),
    ],
)
def test_prices_are_pounds_or_none(text, price):
    assert parse_price(text) == price


def test_what_says_nothing_is_null():
    assert all(map(is_null, ["", "  ", "\xa0", "N/A", "n/a ", "null", "NULL", "None", "nan", "NaN"]))
    assert not any(map(is_null, ["0", "-", "none left", "Nan bread"]))


def test_the_name_of_a_query_is_given_or_its_first_line():
    assert query_parts("  Oak table\r\nFour legs.\nCash ") == ("Oak table", "Four legs.\nCash")
    assert query_parts("Four legs.", "Oak table | Gumtree") == ("Oak table", "Four legs.")
    assert query_parts("Oak table", " ") == ("Oak table", "")
    name, description = query_parts("table " * 30)
    assert len(name) <= MAX_NAME and f"{name} {description}" == ("table " * 30).strip()
    name, description = query_parts("x" * 100)
    assert (len(name), len(description)) == (MAX_NAME, 100 - MAX_NAME)
    assert joined_text("Oak table", "Four legs.") == "Oak table. Four legs."
    assert joined_text("Oak table", "") == "Oak table"


@pytest.mark.parametrize(("text", "words"), [(" \r\n", "empty"), ("x" * (MAX_CHARACTERS + 1), "20,000 characters")])
def test_a_query_without_words_or_too_long_is_refused(text, words):
    with pytest.raises(QueryError, match=words):
        query_parts(text)


@given(st.text())
@example("  Émile's  TABLE,\n№ 5_½ ﬁne 😀 Straße ẞ İ ǅ _a_ ² x٣")
def test_normalised_text_is_what_the_design_says(text):
    folded = unicodedata.normalize("NFKC", text).casefold()
    assert normalised_text(text) == " ".join(re.sub(r"[\W_]", " ", folded).split())


PARTS = st.sampled_from(
    [*BANNERS, "Posted by", " in ", "Ok!", "\r", "\u2028", "\u200b", "\ud83d", "\x00", "\xa0", "  "]
)


@settings(max_examples=200)
@given(st.lists(PARTS | st.text(max_size=5), max_size=12).map("".join))
def test_clean_text_is_utf8_and_stays_as_it_is(text):
    clean = clean_text(text)
    clean.encode("utf-8")
    assert clean_text(clean) == clean == clean.strip() and not re.search(r"[\r\x00\u2028]|  ", clean)
