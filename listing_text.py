"""The texts of a listing: made clean, made comparable, and read as a price or as a split.

Plain functions on one text each; `clean_tabular_data.py` applies them to the columns of the products table.
"""

import hashlib
import math
import re
import unicodedata

NULL_TEXTS = frozenset({"", "n/a", "null", "none", "nan", "<na>"})

# Control characters, marks of writing direction, lone surrogates and private-use bullets: nothing that can be read.
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
    "|[\ud800-\udfff\ue000-\uf8ff\ufffe\uffff]"
)
LINE_BREAK = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
SPACES = re.compile(r"[^\S\n]+")
SPACE_AROUND_BREAK = re.compile(r" ?\n ?")
WORD = re.compile(r"[^\W_]+")

# The site's page title: `Oak table | in Wokingham, Berkshire | Gumtree`.
PAGE_TITLE = re.compile(r"(?:\s*\|\s*in\b[^|]*)?\s*\|\s*Gumtree\s*$", re.IGNORECASE)

MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
DATE = (
    rf"(?:\d{{1,2}}(?:st|nd|rd|th)?\.?\s(?:of\s)?{MONTH},?\s\d{{4}}"  # 25 February 2022, 25. February 2022, 3rd Mar 2022
    rf"|{MONTH}\s\d{{1,2}}(?:st|nd|rd|th)?,?\s\d{{4}}"  # February 25, 2022
    r"|\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?Z?)?"  # 2022-02-25
    r"|\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4})"  # 25/02/2022
    r"(?![\w/])"
)
SELLER = r"(?:a seller|[A-Z0-9][^\s,]*(?:\s[^\s,]+){0,3}?)"
# What stands after "in": up to the end of the sentence; the stop of an abbreviation (St. Albans) ends none.
SENTENCE = r"[A-Z0-9\"'(&](?:[^.!?\n]|\.(?=\S)|(?<=\bSt)\.){0,200}?"
PLACE = (
    r"[A-Z][\w'’.-]*(?:[ -](?:(?:and|by|cum|in|le|la|of|on|the|under|upon|with|y|St\.)\b[ -]?)*[A-Z(][\w'’)-]*){0,5}"
)
DATED_BANNER = re.compile(rf"Posted by {SELLER}(?: in {SENTENCE})?[.,]? ?[-–—]? ?{DATE}\.?")
# Without a date only the whole sentence tells the banner from a seller's own words.
UNDATED_BANNER = re.compile(
    rf"(?:Posted by a seller|(?:(?<=^)|(?<=[.!?\n)])|(?<=[.!?)]\s))Posted by (?!{'(?i:royal mail|post|courier|hermes|evri|dpd|ups|yodel|parcelforce|recorded|signed|special|first|second|1st|2nd)'}){SELLER})"
    rf" in (?:{SENTENCE} in )?{PLACE}(?:\.(?!\w)|(?=\n)|$)",
    re.MULTILINE,
)

PRICE = re.compile(r"(?:£|GBP)?\s*([+-]?)\s*(?:£|GBP)?\s*(\d{1,3}(?:,\d{3})+|\d+)(\.\d*)?\s*(?:£|GBP)?", re.IGNORECASE)


def is_null(text: str) -> bool:
    """Whether a text only says that there is nothing: blank, `N/A`, `null`, `None`, `nan`, in any case."""
    return text.strip().casefold() in NULL_TEXTS


def clean_text(text: str) -> str:
    """Readable characters only, lines ended by one line feed, single spaces, nothing at the ends."""
    text = INVISIBLE.sub("", LINE_BREAK.sub("\n", text))
    return SPACE_AROUND_BREAK.sub("\n", SPACES.sub(" ", text)).strip()


def clean_product_name(name: str) -> str:
    """The product's name on one line, without the page title's ` | in Town, County | Gumtree`."""
    name = " ".join(clean_text(name).split())
    while (shorter := PAGE_TITLE.sub("", name).strip()) != name:
        name = shorter
    return name


def clean_description(description: str) -> str:
    """The seller's own text: clean, and without the site's banner, which names the category.

    The banner is `Posted by SELLER in CATEGORY in TOWN. DATE`, where category, town or date may be missing and
    text of the seller's may stand before and after it. A seller's own words (`posted by Royal Mail`) stay.
    """
    text = clean_text(description)
    if "Posted by" not in text:
        return text
    while (shorter := UNDATED_BANNER.sub("", DATED_BANNER.sub("", text))) != text:
        text = clean_text(shorter)
    return text


def normalised_text(text: str) -> str:
    """A text as it is compared: NFKC, casefolded, only letters and digits, single spaces."""
    return " ".join(WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def split_of(normalised: str) -> str:
    """The split of a normalised description: 70% "train", 15% "validation", 15% "test", by its sha256.

    The same text has the same split on every machine, in any order of rows and in any larger table.
    """
    part = int(hashlib.sha256(normalised.encode("utf-8")).hexdigest()[:8], 16) % 100
    return "train" if part < 70 else "validation" if part < 85 else "test"


def parse_price(price: object) -> float | None:
    """Pounds of a price, or None where it is no amount in pounds.

    `£1,250.00`, `1250`, ` £5 `, `GBP 20`, `20 GBP`, `-3` and JSON numbers are amounts, and `FREE` is 0. Anything
    else is none: `inf`, `POA`, `€5`, `£5 each`, and commas that part no thousands (`1,25`).
    """
    if isinstance(price, int | float):
        return float(price) if not isinstance(price, bool) and math.isfinite(price) else None
    text = unicodedata.normalize("NFKC", str(price)).strip()
    if text.casefold() == "free":
        return 0.0
    match = PRICE.fullmatch(text)
    if match is None:
        return None
    sign, whole, pence = match.groups()
    amount = float(f"{sign}{whole.replace(',', '')}{pence or ''}")
    return amount if math.isfinite(amount) else None
