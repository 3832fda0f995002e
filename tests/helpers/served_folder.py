"""A small trained data folder to serve, with a price model and a hostile listing."""

import shutil
from pathlib import Path

from trained_folder import trained_by_two_processes

from marketplace.data_folder import DataFolder, read_json, write_json
from marketplace.listings import load_products
from shallow.price import fit_price_model, save_price_model

EVIL = '<script>alert("1")</script><img src=x onerror=alert(2)> & lamp'
EVIL_ID = "00000000-evil"


def make_served_folder(sample_folder: Path, target: Path) -> DataFolder:
    """The folder of `trained_by_two_processes` with raw photos, in which one listing has a hostile name."""
    folder = DataFolder(shutil.copytree(trained_by_two_processes(sample_folder), target, symlinks=True))
    folder.images.symlink_to(sample_folder / "images")
    listings, photos = read_json(folder.products_table_clean, ""), read_json(folder.images_table, "")
    evil = next(listing for listing in listings if listing["id"] in {photo["product_id"] for photo in photos})
    for photo in photos:
        photo["product_id"] = EVIL_ID if photo["product_id"] == evil["id"] else photo["product_id"]
    evil |= {"id": EVIL_ID, "product_name": EVIL, "product_description": EVIL, "price": 0.5}
    write_json(folder.products_table_clean, listings)
    write_json(folder.images_table, photos)
    products = load_products(folder.path)
    save_price_model(folder, fit_price_model(products), products)
    return folder
