"""Rows of the sample marketplace's two tables, made chunk by chunk so that memory does not grow with the listings."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sample_marketplace.drawing import COLOURS, PhotoSpec
from sample_marketplace.kinds import CATEGORY_SIZES, KINDS
from sample_marketplace.places import draw_place
from sample_marketplace.texts import (
    CONDITIONS,
    draw_clarity,
    draw_price,
    pick,
    price_text,
    write_banner,
    write_description,
    write_title,
)

PRODUCT_COLUMNS = (
    "id", "product_name", "category", "product_description", "price", "location", "page_id", "create_time",
)  # fmt: skip
IMAGE_COLUMNS = ("id", "product_id", "bucket_link", "image_ref", "create_time")
FIELDS_WITH_GAPS = ("category", "location", "product_description", "price", "product_name")

CHUNK = 5000  # listings; part of what a seed means, so changing it changes the rows
MISSING_SHARE, DUPLICATE_SHARE, BANNER_SHARE = 0.05, 0.01, 0.08
NO_PHOTO_SHARE, ONE_PHOTO_SHARE = 0.04, 0.16  # the others have two photos: 1.76 on average
BUCKET = "https://photos.sample-marketplace.invalid/images"
FIRST_DAY = datetime(2022, 2, 25)
BANNER_LONGEST = 400  # characters of a description that the banner follows; longer ones are cut


def _cumulative_weights() -> list[float]:
    """Cumulative weights of KINDS: the size of a category is divided among its kinds by their shares."""
    total = {
        category: sum(kind.share for kind in KINDS if kind.main_category == category) for category in CATEGORY_SIZES
    }
    weights = (CATEGORY_SIZES[kind.main_category] * kind.share / total[kind.main_category] for kind in KINDS)
    return list(itertools.accumulate(weights))


@dataclass
class Chunk:
    """Rows of both tables, as tuples in column order, and the specifications of the photos.

    `copied_photos` maps an image id to the image id whose file it repeats, byte for byte.
    """

    products: list[tuple] = field(default_factory=list)
    images: list[tuple] = field(default_factory=list)
    photos: list[PhotoSpec] = field(default_factory=list)
    copied_photos: dict[str, str] = field(default_factory=dict)


def new_id(rng: random.Random) -> str:
    """A version 4 UUID drawn from `rng`."""
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _time(rng: random.Random) -> str:
    moment = FIRST_DAY + timedelta(seconds=int(rng.random() * 2 * 86400))
    return f"{moment:%Y-%m-%d %H:%M:%S}.000000"


def image_row(rng: random.Random, image_id: str, product_id: str, time: str) -> tuple:
    letters = f"{rng.getrandbits(48):012x}"
    return image_id, product_id, f"{BUCKET}/{image_id}.jpg", f"{letters[:6]}AAOSw{letters[6:]}", time


def _draw_listing(rng: random.Random, chunk: Chunk, page_id: int, descriptions: set[str]) -> None:
    """Add one listing with its photos; its description is new, and is added to `descriptions`."""
    kind = rng.choices(KINDS, cum_weights=_CUMULATIVE_WEIGHTS)[0]
    clarity, colour, condition = draw_clarity(rng), pick(rng, _COLOUR_NAMES), pick(rng, _CONDITION_NAMES)
    town, location = draw_place(rng)
    price = draw_price(rng, kind, condition)
    title = write_title(rng, kind, clarity, colour, condition)
    description = write_description(rng, kind, clarity, colour, condition, town, price)
    while description in descriptions:
        description = write_description(rng, kind, clarity, colour, condition, town, price)
    descriptions.add(description)
    if rng.random() < BANNER_SHARE:
        description = write_banner(rng, description[:BANNER_LONGEST].rstrip(), title, kind.category, town)

    product_id, time = new_id(rng), _time(rng)
    row = {
        "id": product_id,
        "product_name": f"{title} | in {location} | Gumtree",
        "category": kind.category,
        "product_description": description,
        "price": price_text(price),
        "location": location,
        "page_id": page_id,
        "create_time": time,
    }
    if rng.random() < MISSING_SHARE:
        row[pick(rng, FIELDS_WITH_GAPS)] = "N/A"
    chunk.products.append(tuple(row.values()))

    for _ in range(_photo_count(rng)):
        image_id = new_id(rng)
        chunk.images.append(image_row(rng, image_id, product_id, time))
        chunk.photos.append(PhotoSpec(image_id, kind.shape, colour, f"thing/{product_id}", f"photo/{image_id}"))


def _photo_count(rng: random.Random) -> int:
    chance = rng.random()
    if chance < NO_PHOTO_SHARE:
        return 0
    return 1 if chance < NO_PHOTO_SHARE + ONE_PHOTO_SHARE else 2


def _add_duplicates(rng: random.Random, chunk: Chunk, count: int) -> None:
    """Append copies of listings under another id: some with the same photo, some with another, some with none."""
    photos_by_product: dict[str, list[str]] = {}
    for image in chunk.images:
        photos_by_product.setdefault(image[1], []).append(image[0])
    specs = {spec.image_id: spec for spec in chunk.photos}
    whole = [row for row in chunk.products if "N/A" not in row]
    for row in rng.sample(whole, min(count, len(whole))):
        copy = (new_id(rng), *row[1:6], row[6] + 1, _time(rng))
        chunk.products.append(copy)
        originals = photos_by_product.get(row[0], [])
        chance = rng.random()
        if not originals or chance > 0.8:
            continue
        image_id = new_id(rng)
        chunk.images.append(image_row(rng, image_id, copy[0], copy[7]))
        if chance < 0.5:
            chunk.copied_photos[image_id] = originals[0]
        else:
            chunk.photos.append(replace(specs[originals[0]], image_id=image_id, photo_seed=f"photo/{image_id}"))


def make_chunk(seed: int, number: int, listings: int, with_photos: bool = True) -> Chunk:
    """Make `listings` rows of products, copies included; the same for the same arguments.

    Without photos the rows are the same, and `photos` and `copied_photos` are empty.
    """
    rng = random.Random(f"sample marketplace/{seed}/{number}")
    chunk = Chunk()
    descriptions: set[str] = set()
    copies = round(listings * DUPLICATE_SHARE)
    page_id = 1_300_000_000 + number * CHUNK * 40
    for _ in range(listings - copies):
        page_id += 2 + int(rng.random() * 36)
        _draw_listing(rng, chunk, page_id, descriptions)
    _add_duplicates(rng, chunk, copies)
    rng.shuffle(chunk.products)
    if not with_photos:
        chunk.photos, chunk.copied_photos = [], {}
    return chunk


def chunk_sizes(listings: int) -> Iterator[tuple[int, int]]:
    """Numbers and sizes of the chunks that have `listings` rows together."""
    for number, start in enumerate(range(0, listings, CHUNK)):
        yield number, min(CHUNK, listings - start)


_COLOUR_NAMES, _CONDITION_NAMES, _CUMULATIVE_WEIGHTS = tuple(COLOURS), tuple(CONDITIONS), _cumulative_weights()
