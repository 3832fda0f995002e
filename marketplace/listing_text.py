"""Functions on one text of a listing: keys, cleaning, normalisation for comparisons, and parsing of prices."""

import re
import unicodedata
import uuid
from typing import Any

from marketplace.data_folder import QueryError

MAX_CHARACTERS = 20_000  # of the text of a query
MAX_NAME = 80  # characters of a name that is taken from the text
NULL_TEXTS = frozenset({"", "n/a", "null", "none", "nan", "<na>", "\\n"})

# Bytes of Windows-1252 that were read as Latin-1 or, with surrogateescape, as UTF-8.
WINDOWS_1252 = re.compile("[\x80-\x9f\udc80-\udcff]")
# Control characters and marks of writing direction: nothing is lost without them.
INVISIBLE = re.compile("[\x00-\x08\x0e-\x1f\x7f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufffe\uffff]")
# Lone surrogates and private-use characters stand for something that cannot be read.
UNREADABLE = re.compile("[\ud800-\udfff\ue000-\uf8ff]")
LINE_BREAK = re.compile("\r\n?|[\x0b\x0c\u2028\u2029]")
SPACES = re.compile(r"[^\S\n]+")
SPACE_AROUND_BREAK = re.compile(r" ?\n ?")
WORD = re.compile(r"[^\W_]+")

# The page's title: `Oak table | in Wokingham, Berkshire | Gumtree`.
PAGE_TITLE = re.compile(r"(?: ?\| in [^|]*)? ?\| Gumtree$")

# `£1,250.00`, `1250`, `GBP 20`, `20 GBP`, `£1,250 ono`, and a number as programs write it: `1.000` of a numeric(10, 3)
# is 1. Not `£1.250`, which may be 1250 or 1.25.
PRICE = re.compile(
    r"(?:£|GBP)? ?([0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(\.[0-9]{1,2})? ?(?:GBP)?(?: ?(?:ono|o\.n\.o\.?|or nearest offer))?"
    r"|[0-9]+\.[0-9]+",
    re.IGNORECASE,
)
CATEGORY = re.compile(r"(?![\[{]).*[^\W\d_].*")  # has a letter, and is no list and no object
PLAIN_KEY = re.compile("[0-9a-z_-]+")
UUID = re.compile(r"\\x[0-9a-f]{32}|\{?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?", re.IGNORECASE)

# The site's banner, `Posted by SELLER in CATEGORY in TOWN. DATE`.
MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
DATE = rf"(?:[0-9]{{1,2}}\.? {MONTH}|{MONTH} [0-9]{{1,2}},) [0-9]{{4}}"
INSIDE = r"(?:[^.\n]|\bSt\.)"  # of a sentence
BANNER = re.compile(
    rf"Posted by {INSIDE}{{1,60}}? in {INSIDE}{{1,250}}\. {DATE}"
    rf"|Posted by \S{{1,60}}\. {DATE}"
    rf"|Posted by a seller in {INSIDE}{{1,250}}(?:\.|$)",
    re.MULTILINE,
)


def is_null(text: str) -> bool:
    """Whether a text stands for a missing value: blank, `N/A`, `null`, `None`, `nan`, in any case."""
    return text.strip().casefold() in NULL_TEXTS


def decode_windows(text: str) -> str:
    """A text with the characters that its bytes of Windows-1252 mean: 80 is a euro, 92 an apostrophe."""
    return WINDOWS_1252.sub(lambda match: bytes([ord(match[0]) & 0xFF]).decode("cp1252", "ignore"), text)


def key_text(key: Any) -> str | None:
    """The one form of a key, by which products and images are joined, whatever type a table gives it: `1.0` is `1`, a
    UUID has hyphens and small letters, a text is in Unicode form NFKC without invisible characters and outer blanks."""
    if isinstance(key, str) and PLAIN_KEY.fullmatch(key):  # nearly all, and twenty times as fast
        return key
    if key is None or key != key:
        return None
    if isinstance(key, bytes):
        key = uuid.UUID(bytes=key) if len(key) == 16 else key.decode(errors="surrogateescape")
    text = unicodedata.normalize("NFKC", decode_windows(str(key)))
    text = " ".join("".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf")).split())
    if UUID.fullmatch(text):
        return str(uuid.UUID(text.removeprefix("\\x")))
    return re.sub(r"^(-?[0-9]+)\.0+$", r"\1", text)


def clean_text(text: str) -> str:
    """A text of readable characters, with line feeds as line ends, single spaces, and no space at the ends."""
    text = UNREADABLE.sub("", INVISIBLE.sub("", LINE_BREAK.sub("\n", decode_windows(text))))
    return SPACE_AROUND_BREAK.sub("\n", SPACES.sub(" ", text)).strip()


def clean_line(text: str) -> str:
    """A clean text on one line."""
    return " ".join(clean_text(text).split())


def clean_product_name(name: str) -> str:
    """A product's name on one line, without the page title's ` | in Town, County | Gumtree`."""
    return PAGE_TITLE.sub("", clean_line(name)).strip()


def clean_description(description: str) -> str:
    """The seller's own text, cleaned, without the site's banner, which names the category.

    The seller's text before and after the banner is kept.
    """
    return clean_text(BANNER.sub("", clean_text(description)))


def query_text(text: str) -> str:
    """What somebody writes about a product, cleaned as a description; raises QueryError when it is empty or has more
    than `MAX_CHARACTERS` characters."""
    if len(text) > MAX_CHARACTERS:
        raise QueryError(f"the text has more than {MAX_CHARACTERS:,} characters: give a shorter one.")
    words = clean_description(text)
    if not words:
        raise QueryError("the text is empty: give some words about the product.")
    return words


def query_parts(text: str, name: str | None = None) -> tuple[str, str]:
    """Name and description of a product that somebody describes, both cleaned; the description may be empty.

    Without a name, it is the first line of the text, cut at `MAX_NAME` characters. Raises QueryError as `query_text`.
    """
    words = query_text(text)
    if name is not None and (given := clean_product_name(name)):
        return given, words
    line = words.split("\n", maxsplit=1)[0]
    if len(line) > MAX_NAME:
        line = line[: MAX_NAME + 1].rsplit(" ", maxsplit=1)[0][:MAX_NAME]
    return line.strip(), words[len(line) :].strip()


def joined_text(name: str, description: str) -> str:
    """Name and description in one text, as the models read it."""
    return f"{name}. {description}" if description else name


def normalised_text(text: str) -> str:
    """A text for comparison: NFKC, casefolded, only letters and digits, single spaces."""
    return " ".join(WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def parse_price(price: str) -> float | None:
    """A price in pounds, or None where it is no amount in pounds (`POA`, `€5`, `£5 each`, `£1.250`)."""
    match = PRICE.fullmatch(" ".join(INVISIBLE.sub("", decode_windows(price)).split()))
    return float((match[1] or match[0]).replace(",", "") + (match[2] or "")) if match else None
