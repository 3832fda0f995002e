"""What is sold on the sample marketplace: main categories, their sizes, and the kinds of product in them.

Each kind has its place in the category tree, the shape that its photos show, a share within its main category,
a usual price, and the words that sellers use for it. All words here are written for the sample.
"""

from dataclasses import dataclass

from sample_marketplace.kinds_home import HOME_KINDS
from sample_marketplace.kinds_leisure import LEISURE_KINDS
from sample_marketplace.kinds_work import WORK_KINDS

# Listings by main category in the real table, 7,156 together.
CATEGORY_SIZES = {
    "Home & Garden": 834,
    "Health & Beauty": 661,
    "Office Furniture & Equipment": 640,
    "Music, Films, Books & Games": 635,
    "Computers & Software": 560,
    "Other Goods": 548,
    "DIY Tools & Materials": 545,
    "Appliances": 522,
    "Video Games & Consoles": 490,
    "Sports, Leisure & Travel": 472,
    "Phones, Mobile Phones & Telecoms": 432,
    "Baby & Kids Stuff": 420,
    "Clothes, Footwear & Accessories": 397,
}


@dataclass(frozen=True)
class Kind:
    """One kind of product.

    `category` is the whole path (`Main / Group / Leaf`), `shape` a name in `shapes.SHAPES`, `share` the part of its
    main category's listings, `price` the median in pounds for good condition.
    """

    category: str
    shape: str
    share: float
    price: float
    nouns: tuple[str, ...]
    brands: tuple[str, ...]
    features: tuple[str, ...]

    @property
    def main_category(self) -> str:
        return self.category.split(" / ")[0]


def _parse(block: str, main_category: str) -> list[Kind]:
    """Read one main category's block: a kind is five lines, as the kinds modules explain."""
    kinds = []
    for entry in block.strip().split("\n\n"):
        head, nouns, brands, *features = entry.splitlines()
        leaf, shape, share, price = head.split(" | ")
        kinds.append(
            Kind(
                category=f"{main_category} / {leaf}",
                shape=shape,
                share=float(share),
                price=float(price),
                nouns=tuple(nouns.split("; ")),
                brands=tuple(brands.split("; ")),
                features=tuple("; ".join(features).split("; ")),
            )
        )
    return kinds


KINDS = [
    kind
    for main_category, block in (HOME_KINDS | LEISURE_KINDS | WORK_KINDS).items()
    for kind in _parse(block, main_category)
]
