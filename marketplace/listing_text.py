"""Functions on one text of a listing: cleaning, normalisation for comparisons, and parsing of prices.

`clean_tabular_data.py` applies them to the columns of the products table.
"""

import hashlib
import html
import math
import re
import unicodedata

from marketplace.data_folder import QueryError

MAX_CHARACTERS = 20_000  # of the text of a query
MAX_NAME = 80  # characters of a name that is taken from the text
NULL_TEXTS = frozenset({"", "n/a", "null", "none", "nan", "<na>"})

# Control characters, marks of writing direction, lone surrogates, private-use bullets: no readable text.
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufffe\uffff]"
    "|[\ud800-\udfff\ue000-\uf8ff]"
)
LINE_BREAK = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
SPACES = re.compile(r"[^\S\n]+")
SPACE_AROUND_BREAK = re.compile(r" ?\n ?")
WORD = re.compile(r"[^\W_]+")
# for bytes.translate: ASCII letters to small letters, digits as they are, all else to spaces
ASCII_WORDS = bytes(ord(chr(code).lower()) if chr(code).isalnum() else 32 for code in range(128)) * 2

# The page's title: `Oak table | in Wokingham, Berkshire | Gumtree`.
PAGE_TITLE = re.compile(r"(?: ?\| ?in\b[^|]*)? ?\| ?Gumtree$", re.IGNORECASE)

PRICE = re.compile(
    r"(?:£|GBP)? ?([+-]?) ?(?:£|GBP)? ?(?![1-9][0-9]{0,2}\.[0-9]{3}(?![0-9]))"  # 1.250 may be 1250 or 1.25
    r"([1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]+|(?=\.[0-9]))(\.[0-9]*)? ?(?:£|GBP)?",
    re.IGNORECASE,
)

# Parts of the site's banner, `Posted by SELLER in CATEGORY in TOWN. DATE`. Inside a sentence there is a full stop only
# within a word (Matthew.Bracknell) or after a short word with a capital (St. Albans, Mr. Brown).
MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
DATE = (
    rf"(?:[0-9]{{1,2}}(?:st|nd|rd|th)?\.? (?:of )?{MONTH},? [0-9]{{4}}"  # 25 February 2022, 25. February 2022
    rf"|{MONTH} [0-9]{{1,2}}(?:st|nd|rd|th)?,? [0-9]{{4}}"  # February 25, 2022
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9:.]+Z?)?"  # 2022-02-25
    r"|[0-9]{1,2}[/.-][0-9]{1,2}[/.-](?:[0-9]{4}|[0-9]{2}))"  # 25/02/2022
    r"(?![\w/])\.?"
)
INSIDE = r"(?:[^.!?\n]|\.(?!(?<!\b[A-Z]\.)(?<!\b[A-Z][a-z]\.)(?<!\b[A-Z][a-z]{2}\.)(?:\s|\Z)))"
CARRIER = (
    r"(?i:royal mail|post|courier|hermes|evri|dpd|ups|yodel|parcelforce|recorded|signed|special|first|second|[12])"
)
# A town or a category: capitalised words and the small words between them (Stoke-on-Trent; Men's Shoes & Boots).
NAME = (
    r"[A-Z](?:&#?\w{1,8};|[\w'’(),&/-]|\.(?!(?<!\bSt\.)(?:[\s.]|\Z))"
    r"| (?=(?:&(?:amp;)?\s+)?(?:[A-Z0-9(]|[ei][A-Z])"
    r"|(?:and|by|cum|de|for|in|la|le|of|on|the|to|under|upon|with|y)\b)){0,120}"
)
# A banner broken over lines: to its date, else to the town, else to the category. A break may stand between any two
# words of a name before the date, a further `in Town` or a full stop; else only after a comma or `and`, or beside `&`.
LINES_OF_NAME = NAME.replace("| (?=", r"|\s+(?=").replace("120", "200")
LAST_NAME = rf"{NAME}(?:(?:(?<=[,&])|(?<=&amp;)|(?<= and)|(?=\s+&(?:amp;)?\s+[A-Z]))\s+(?:&(?:amp;)?\s+)?{NAME})*"
POSTED = re.compile(r"Posted\s+by\b")
BROKEN_BANNER = re.compile(
    rf"Posted\s+by\s+(?:a\s+seller|(?!{CARRIER})\S(?:{INSIDE}|(?<=[.&])\n+|\n+(?=&)){{0,60}}?)(?:"
    rf"(?:\s+in\s+{LINES_OF_NAME}?)?[.,]?(?:\s+[-–—|])?\s*"
    + DATE.replace(" ", r"\s+")
    + rf"|\s+in\s+{LINES_OF_NAME}?\s+in\s+{LAST_NAME}|\s+in\s+{LINES_OF_NAME}?(?=\.\s|\.\Z)"
    rf"|\s+in\s+{LAST_NAME}|(?<=seller))"
)
BANNERS = (
    # with a date
    re.compile(rf"Posted by \S{INSIDE}{{0,60}}? in [A-Z]{INSIDE}{{0,200}}?(?:[.,]| [-–—|]) ?{DATE}"),
    re.compile(rf"Posted by a seller{INSIDE}{{0,200}}?[.,]? ?[-–—|]? ?{DATE}"),
    re.compile(rf"Posted by [A-Z0-9]\S{{0,40}}(?: [^\s.]{{1,40}}){{0,3}}[.,] ?{DATE}"),
    # without a date, with category and town
    re.compile(rf"Posted by a seller in [A-Z]{INSIDE}{{0,200}}? in {NAME}(?<![,&(-])\.?"),
    re.compile(rf"Posted by (?!{CARRIER})\S{INSIDE}{{0,60}}? in {NAME}? in {NAME}(?<![,&(-])\.?"),
    # without a date, with category or town: only a whole sentence, because a seller may write `Posted by` too
    re.compile(rf"Posted by a seller in {NAME}?(?:(?<!\bSt)\.(?!\d)|(?=\n)|\Z)"),
    re.compile(
        rf"(?:(?<=[.!?)\n])|(?<=[.!?)] )|\A)Posted by (?!{CARRIER})[A-Z]{INSIDE}{{0,40}}? in "
        rf"(?:[A-Z]{INSIDE}{{0,200}}? in )?{NAME}?(?:(?<!\bSt)\.(?!\d)|(?=\n)|\Z)"
    ),
    re.compile(rf"Posted by a seller(?: in {NAME})?(?<![,&(-])\.?"),
)


def is_null(text: str) -> bool:
    """Whether a text stands for a missing value: blank, `N/A`, `null`, `None`, `nan`, in any case."""
    text = text.strip()
    return len(text) < 5 and text.casefold() in NULL_TEXTS


def clean_text(text: str) -> str:
    """A text of readable characters, with line feeds as line ends, single spaces, and no space at the ends."""
    if text.isprintable() and "  " not in text:
        return text.strip()
    text = INVISIBLE.sub("", LINE_BREAK.sub("\n", text))
    return SPACE_AROUND_BREAK.sub("\n", SPACES.sub(" ", text)).strip()


def clean_line(text: str) -> str:
    """A clean text on one line."""
    text = clean_text(text)
    return " ".join(text.split()) if "\n" in text else text


def clean_product_name(name: str) -> str:
    """A product's name on one line, without the page title's ` | in Town, County | Gumtree`."""
    name = clean_line(name)
    while (shorter := PAGE_TITLE.sub("", name).strip()) != name:
        name = shorter
    return name


def clean_description(description: str) -> str:
    """The seller's own text, cleaned, without the site's banner, which names the category.

    The banner is `Posted by SELLER in CATEGORY in TOWN. DATE`. Category, town or date may be missing, the date has
    several forms, and lines may break in it. The seller's text before and after it is kept, also a sentence such as
    `Posted by Royal Mail`.
    """
    text = clean_text(description)
    while POSTED.search(text):
        shorter = joined = BROKEN_BANNER.sub(lambda banner: " ".join(banner[0].split()), text)
        for banner in BANNERS:
            shorter = banner.sub("", shorter)
        if shorter == joined:
            break
        text = clean_text(shorter)
    return text


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


def compared_text(text: str) -> str:
    """A text in the form in which two are compared: NFKC, HTML entities resolved."""
    while "&" in text and (resolved := html.unescape(text)) != text:
        text = resolved
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def normalised_text(text: str) -> str:
    """A text for comparison: NFKC, casefolded, only letters and digits, single spaces."""
    if text.isascii():  # the same in half the time
        return b" ".join(text.encode("ascii").translate(ASCII_WORDS).split()).decode("ascii")
    return " ".join(WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def split_of(normalised: str) -> str:
    """The split of a normalised description by its sha256: 70% "train", 15% "validation", 15% "test"."""
    part = int(hashlib.sha256(normalised.encode("utf-8", "surrogatepass")).hexdigest()[:8], 16) % 100
    return "train" if part < 70 else "validation" if part < 85 else "test"


def parse_price(price: str | float) -> float | None:
    """A price in pounds, or None where it is no amount in pounds.

    Amounts are `£1,250.00`, `1250`, ` £5 `, `GBP 20`, `20 GBP`, `£.50`, `-3` and numbers; `FREE` is 0. No amounts are
    `inf`, `POA`, `€5`, `£5 each`, numbers with commas that do not separate thousands (`1,25`), `1.250`, which may be
    1250, and digits that are raised or in a circle (`5²`).
    """
    if any(c.isdigit() and not c.isdecimal() for c in str(price)):
        return None
    text = clean_line(unicodedata.normalize("NFKC", str(price)))
    if text.casefold() == "free":
        return 0.0
    match = PRICE.fullmatch(text)
    if match is None:
        return None
    sign, pounds, pence = match.groups()
    amount = float(f"{sign}{pounds.replace(',', '')}{pence or ''}")
    return amount if math.isfinite(amount) else None
