"""A small table of listings, as `load_products` gives it, whose prices follow from category and words."""

import numpy as np
import pandas as pd

PRICES = {"Garden / Tools / Spades": 10.0, "Garden / Ponds / Pumps": 40.0, "Computers / Laptops": 400.0}


def listings(count: int = 120, noise: float = 0.2, seed: int = 0) -> pd.DataFrame:
    """Listings of three leaf categories, whose price is that of the category, times 2 with the word "new", times
    log-normal noise; the texts say nothing else."""
    generator = np.random.default_rng(seed)
    categories = generator.choice(list(PRICES), count)
    new = generator.random(count) < 0.5
    names = np.where(new, "thing new", "thing used")
    price = [PRICES[name] for name in categories] * np.where(new, 2, 1) * np.exp(generator.normal(0, noise, count))
    return pd.DataFrame(
        {
            "id": [str(row) for row in range(count)],
            "product_name": names,
            "text": [f"{name}. number{row} offered" for row, name in enumerate(names)],
            "category": categories,
            "main_category": [name.split(" / ")[0] for name in categories],
            "price": price,
            "location": generator.choice(["Reading, Berkshire", "Leeds, West Yorkshire"], count),
            "latitude": generator.uniform(51, 55, count),
            "longitude": generator.uniform(-2, 1, count),
            "group": [str(row) for row in range(count)],
            "split": np.array(["train"] * 6 + ["validation", "test"])[np.arange(count) % 8],
        }
    )
