"""rank_products.py: queries, filters, the table, the gallery page, and an index that is made anew when it must be."""

import base64
import io
import json
import os
import re
import shutil
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from repository import run_script
from untrained_networks import write_untrained_checkpoints

import rank_products
from marketplace.data_folder import DataFolder, UserError, read_json, write_json
from marketplace.gazetteer import distance_km, locate
from ranking.index import index_path, load_index

EVIL = 'Lamp <script>alert("1")</script> \x1b[31mred & bright'


@pytest.fixture(scope="module")
def folder(sample_folder, tmp_path_factory) -> DataFolder:
    """A prepared data folder with untrained networks, one listing posted twice, one with a hostile name, an index."""
    copy = DataFolder(shutil.copytree(sample_folder, tmp_path_factory.mktemp("ranking") / "data"))
    listings = read_json(copy.products_table_clean, "")
    twice = listings[0] | {"id": "00000000-posted-twice", "location": "Leeds, West Yorkshire"}
    evil = listings[1] | {"id": "00000000-evil", "product_name": EVIL, "product_description": EVIL, "price": 0.5}
    write_json(copy.products_table_clean, [*listings, twice, evil])
    write_untrained_checkpoints(copy)
    rank_products.open_index(copy)
    return copy


@pytest.fixture
def rank(folder, monkeypatch, capsys):
    """Call the command in this process: `rank("--text", "lamp")` gives what it prints, out and err."""

    def call(*arguments, data_dir=folder.path):
        monkeypatch.setattr(sys, "argv", ["rank_products.py", "--data-dir", str(data_dir), *map(str, arguments)])
        rank_products.main()
        return capsys.readouterr()

    return call


@pytest.fixture
def results(rank):
    return lambda *arguments: json.loads(rank(*arguments, "--json").out)["results"]


@pytest.fixture(scope="module")
def listings(folder) -> pd.DataFrame:
    return pd.DataFrame(read_json(folder.products_table_clean, "")).set_index("id")


def a_photo_of(folder) -> tuple[str, str]:
    """A listing with a photo, and that photo's id."""
    index = load_index(folder)
    assert index is not None
    return index.listings["id"][index.image_rows[0]], str(index.image_ids[0])


def copy_without_image_model(folder, target, *others: str) -> DataFolder:
    """A copy of the folder without the model that takes the most time."""
    return DataFolder(shutil.copytree(folder.path, target, ignore=shutil.ignore_patterns("image_model*", *others)))


def test_json_is_what_the_docs_promise(results, listings):
    found = results("--text", "a bicycle for a child")
    assert [result["rank"] for result in found] == list(range(1, 11))
    assert sorted((result["score"] for result in found), reverse=True) == [result["score"] for result in found]
    for result in found:
        assert set(result) == {"rank", "id", "score", "product_name", "main_category", "category", "price", "location"}
        assert listings.loc[result["id"], "price"] == result["price"]


def test_a_name_and_a_text_find_the_listing_that_they_are_from(results, listings):
    for listing in listings.index[5:8]:
        name, text = listings.loc[listing, ["product_name", "product_description"]]
        assert results("--name", name, "--text", text, "--top", 1)[0]["id"] == listing


def test_text_photo_and_listing_work_together(results, folder):
    listing, photo = a_photo_of(folder)
    image = ["--image", folder.images / f"{photo}.jpg"]
    queries = (["--text", "garden bench"], image, ["--text", "garden bench", *image, "--product", listing])
    by_text, by_photo, together = ([result["id"] for result in results(*query)] for query in queries)
    assert by_text != together != by_photo != by_text
    assert listing not in together


def test_filters_keep_what_they_promise_and_lose_nothing_else(results, listings):
    reading = locate("Reading, Berkshire")
    category = listings["main_category"].mode()[0]
    distances = distance_km(reading.latitude, reading.longitude, listings["latitude"], listings["longitude"])
    meets = (listings["main_category"] == category) & (listings["price"] <= 80) & (distances <= 300)
    options = ["--category", category.upper(), "--max-price", 80, "--near", "Reading, Berkshire", "--within", 300]
    found = results("--text", "anything at all", "--top", 500, *options)
    assert all(meets[result["id"]] for result in found)
    assert len(found) >= 0.9 * meets.sum()  # all but near-duplicates
    assert all(abs(result["distance_km"] - distances[result["id"]]) < 0.1 for result in found)


def test_a_category_can_be_a_path_down_to_a_leaf(results, listings):
    leaf = listings["category"].mode()[0]
    assert {result["category"] for result in results("--text", "nice", "--category", leaf)} == {leaf}


def test_a_listing_posted_twice_is_shown_once_and_counted(rank, listings):
    original = next(name for name in listings.index if not name.startswith("00000000-"))
    printed = rank("--text", listings.loc[original, "product_description"], "--top", 400, "--json")
    shown = [result["id"] for result in json.loads(printed.out)["results"]]
    assert len({original, "00000000-posted-twice"} & set(shown)) == 1
    assert json.loads(printed.out)["hidden_duplicates"] > 0 and "near-duplicates not shown" in printed.err
    shown = json.loads(rank("--product", "00000000-posted-twice", "--top", 400, "--json").out)["photos"]
    assert not {original, "00000000-posted-twice"} & set(shown) and len(shown) > 200


def test_the_id_of_a_duplicate_that_was_left_out_means_the_kept_one(rank, folder):
    duplicate, kept = next(iter(read_json(folder.duplicates, "").items()))
    printed = rank("--product", duplicate, "--json")
    assert json.loads(printed.out) == json.loads(rank("--product", kept, "--json").out)
    assert f"the listing {duplicate} is a duplicate of {kept}" in printed.err


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("place", [[], ["--near", "Leeds, West Yorkshire"]])
def test_the_table_fits_the_terminal(rank, monkeypatch, columns, place):
    monkeypatch.setenv("COLUMNS", str(columns))
    printed = rank("--product", "00000000-evil", *place)
    lines = printed.out.splitlines()
    assert len(lines) == 11
    assert all(len(line) <= columns for line in lines)
    assert lines[1].startswith("  1 ")
    assert (" km " in lines[1]) == bool(place)
    assert "loaded in" in printed.err
    assert re.search(r"searched \d+ of \d+ listings in \d+ ms", printed.err)


def test_a_hostile_name_does_not_reach_the_terminal(rank):
    printed = rank("--text", "lamp red bright alert script", "--max-price", 0.5, "--top", 50)
    assert "Lamp <script>" in printed.out
    assert "\x1b" not in printed.out
    assert "of 50 listings" in printed.err  # fewer than asked for


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.words: list[str] = []
        self.attributes: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.sources += [value for name, value in attributes if name in ("src", "href", "srcset", "action", "data")]

    def handle_data(self, data):
        self.words.append(data)


def test_the_gallery_is_one_page_that_needs_nothing_else(rank, folder, tmp_path):
    path = tmp_path / "pages" / "ranking.html"
    listing, _ = a_photo_of(folder)
    rank("--product", listing, "--top", 400, "--gallery", path)
    page = Page(path.read_text(encoding="utf-8"))
    assert [file.name for file in path.parent.iterdir()] == ["ranking.html"]
    assert "script" not in page.tags
    assert not {name for name, _ in page.attributes if name.startswith("on")}
    assert "link" not in page.tags
    assert "http" not in path.read_text().replace("https://", "http://").split("<body>")[0]
    assert 'Lamp <script>alert("1")</script>' in "".join(page.words)
    assert len(page.sources) > 100
    for source in page.sources:
        head, _, content = source.partition(",")
        assert head == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as image:
            image.load()
            assert image.size == (240, 240)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--text", "lamp", "--near", "Atlantis, Nowhere"], "the place 'Atlantis, Nowhere' is unknown"),
        (["--text", "lamp", "--within", "5"], "a distance needs a place"),
        (["--product", "nothing"], "no listing has the id 'nothing'"),
        (["--product", "00000000-evil", "--category", "Cars"], "no listing is in 'Cars'"),
        (["--product", "00000000-evil", "--max-price", "0.001", "--gallery", "none.html"], "no listing meets these"),
    ],
)
def test_a_query_that_cannot_be_answered_is_one_sentence(rank, arguments, sentence):
    with pytest.raises(UserError, match=rf"^{sentence}[^\n]*$"):
        rank(*arguments)


@pytest.mark.parametrize("arguments", [[], ["--text", "lamp", "--gallery", "notes.txt"]])
def test_wrong_arguments_are_explained(rank, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        rank(*arguments)
    assert ended.value.code == 2
    assert "usage: rank_products.py" in capsys.readouterr().err


def test_a_listing_is_ranked_without_heavy_libraries(folder):
    code = (
        "import runpy, sys; runpy.run_path('rank_products.py', run_name='__main__'); "
        "print({'torch', 'sklearn', 'scipy', 'pandas'} & set(sys.modules))"
    )
    result = run_script("-c", code, "--data-dir", folder.path, "--product", "00000000-evil")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    "name", ["images_table.json", "clean_images_64/manifest.json", "checkpoints/text_model_best.pt"]
)
def test_an_index_older_than_its_sources_is_stale(folder, name):
    file = folder.path / name
    before = file.stat()
    try:
        os.utime(file, ns=(before.st_atime_ns, index_path(folder).stat().st_mtime_ns + 1))
        assert load_index(folder) is None
    finally:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load_index(folder) is not None


def test_a_stale_index_is_made_anew(rank, folder, tmp_path):
    copy = copy_without_image_model(folder, tmp_path / "data")
    os.utime(copy.products_table_clean)
    printed = rank("--product", "00000000-evil", "--json", data_dir=copy.path)
    assert "built in" in printed.err
    assert len(json.loads(printed.out)["results"]) == 10
    assert "loaded in" in rank("--product", "00000000-evil", data_dir=copy.path).err


def test_an_index_that_is_unreadable_older_or_of_other_listings_counts_as_missing(folder, tmp_path):
    copy = DataFolder(shutil.copytree(folder.path, tmp_path / "data", ignore=shutil.ignore_patterns("image*", "*.pt")))
    path, content = index_path(copy), index_path(folder).read_bytes()
    assert load_index(copy) is not None
    path.write_bytes(content[:-1000])
    assert load_index(copy) is None
    np.savez(path, version=np.array(4), metadata=np.array([{"a": 1}], dtype=object))  # pickled
    assert load_index(copy) is None
    path.write_bytes(content)
    listings = read_json(copy.products_table_clean, "")
    write_json(copy.products_table_clean, [listings[0] | {"id": "another"}, *listings[1:]])
    os.utime(copy.products_table_clean, ns=(0, 0))
    assert load_index(copy) is None


def test_a_folder_with_the_text_model_alone_ranks_by_text(rank, folder, listings, tmp_path):
    copy = copy_without_image_model(folder, tmp_path / "data")
    name = listings.index[5]
    printed = rank("--text", listings.loc[name, "product_description"], "--json", data_dir=copy.path)
    assert name in [result["id"] for result in json.loads(printed.out)["results"]]
    _, photo = a_photo_of(folder)
    with pytest.raises(UserError, match="has no image model"):
        rank("--image", folder.images / f"{photo}.jpg", data_dir=copy.path)
