"""rank_products.py: queries, filters, the table, the gallery page, and every fault in one sentence."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from repository import ROOT, run_script
from untrained_networks import write_untrained_checkpoints

import rank_products
from marketplace.data_folder import DataFolder, UserError, read_json, write_json
from marketplace.gazetteer import Gazetteer, distance_km
from ranking.index import ProductIndex, fingerprint, index_path, load_index

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
    index = ProductIndex.load(index_path(folder))
    return next(
        (name, photos[0]) for name, photos in zip(*map(index.listings.get, ("id", "photos")), strict=True) if photos
    )


def test_json_is_what_the_readme_promises(results, listings):
    found = results("--text", "a bicycle for a child")
    assert [result["rank"] for result in found] == list(range(1, 11))
    assert sorted((result["score"] for result in found), reverse=True) == [result["score"] for result in found]
    for result in found:
        assert set(result) == {"rank", "id", "score", "product_name", "main_category", "category", "price", "location"}
        assert listings.loc[result["id"], "price"] == result["price"]


def test_a_text_finds_the_listing_that_it_is_from(results, listings):
    for name in listings.index[5:8]:
        text = f"{listings.loc[name, 'product_name']}. {listings.loc[name, 'product_description']}"
        assert results("--text", text, "--top", 1)[0]["id"] == name


def test_a_photo_finds_its_own_listing(results, folder):
    listing, photo = a_photo_of(folder)
    found = results("--image", folder.images / f"{photo}.jpg", "--top", "3")
    assert listing in [result["id"] for result in found]


def test_text_photo_and_listing_work_together(results, folder):
    listing, photo = a_photo_of(folder)
    alone = results("--text", "garden bench")
    together = results("--text", "garden bench", "--image", folder.images / f"{photo}.jpg", "--product", listing)
    assert [result["id"] for result in alone] != [result["id"] for result in together]
    assert listing not in [result["id"] for result in together]


def test_filters_keep_what_they_promise_and_lose_nothing_else(results, listings):
    reading = Gazetteer().locate("Reading, Berkshire")
    category = listings["main_category"].mode()[0]
    distances = distance_km(reading.latitude, reading.longitude, listings["latitude"], listings["longitude"])
    meets = (listings["main_category"] == category) & (listings["price"] <= 80) & (distances <= 300)
    options = ["--category", category.upper(), "--max-price", 80, "--near", "Reading, Berkshire", "--within", 300]
    found = results("--text", "anything at all", "--top", 500, *options)
    assert all(meets[result["id"]] for result in found)
    texts = listings.loc[meets, "product_description"].str.casefold()
    assert len(found) >= 0.9 * texts.nunique()  # all but those with the same photo
    assert all(abs(result["distance_km"] - distances[result["id"]]) < 0.1 for result in found)


def test_a_category_can_be_a_path_down_to_a_leaf(results, listings):
    leaf = listings["category"].mode()[0]
    assert {result["category"] for result in results("--text", "nice", "--category", leaf)} == {leaf}


def test_a_listing_posted_twice_is_shown_once_and_counted(rank, listings):
    original = next(name for name in listings.index if not name.startswith("00000000-"))
    printed = rank("--text", listings.loc[original, "product_description"], "--top", 8, "--json")
    shown = [result["id"] for result in json.loads(printed.out)["results"]]
    assert len(shown) == 8
    assert len({original, "00000000-posted-twice"} & set(shown)) == 1
    assert "near-duplicates not shown" in printed.err


def test_neither_the_query_listing_nor_its_copy_is_in_its_own_list(results, listings):
    shown = [result["id"] for result in results("--product", "00000000-posted-twice", "--top", 400)]
    original = next(name for name in listings.index if not name.startswith("00000000-"))
    assert not {original, "00000000-posted-twice"} & set(shown)
    assert len(shown) > 200


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


@pytest.mark.parametrize(
    ("line", "width", "shown"),
    [
        ("a lamp", 6, "a lamp"),
        ("a lamp", 4, "a la"),
        ("日本のランプ", 7, "日本の"),  # each character takes two columns
        ("🪑 chair", 8, "🪑 chair"),
        ("\x1b[31mred\nlamp", 20, " [31mred lamp"),
        ("", 5, ""),
    ],
)
def test_a_line_is_cut_to_the_columns_of_a_terminal(line, width, shown):
    assert rank_products.fitted(line, width) == shown


def test_a_hostile_name_does_not_reach_the_terminal(rank):
    printed = rank("--text", "lamp red bright alert script", "--max-price", 0.5)
    assert "Lamp <script>" in printed.out
    assert "\x1b" not in printed.out


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


def test_fewer_than_asked_for_is_said(rank):
    printed = rank("--text", "lamp", "--max-price", 0.5, "--top", 50)
    assert "of 50 listings" in printed.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--product", "nothing"], "no listing has the id 'nothing'"),
        (["--text", " \n "], "the text is empty"),
        (["--text", "x" * 20_001], "the text has more than 20,000 characters"),
        (["--text", "lamp", "--near", "Atlantis, Nowhere"], "no place is known as 'Atlantis, Nowhere'"),
        (["--text", "lamp", "--category", "Cars"], "no listing is in 'Cars'"),
        (["--product", "00000000-evil", "--max-price", "0.001"], "no listing meets these filters"),
        (["--product", "00000000-evil", "--max-price", "nan"], "no listing meets these filters"),
        (["--product", "00000000-evil", "--max-price", "0.001", "--gallery", "none.html"], "no listing meets these"),
        (["--image", "missing.jpg"], "missing.jpg cannot be opened"),
    ],
)
def test_faults_are_one_sentence(rank, arguments, sentence):
    with pytest.raises(UserError, match=r"^[^\n]*$") as fault:
        rank(*arguments)
    assert sentence in str(fault.value)


@pytest.mark.parametrize("content", [b"", b"not a photo", b"\xff\xd8\xff\xe0 half a photo"])
def test_an_unreadable_photo_is_one_sentence(rank, tmp_path, content):
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.jpg cannot be read"):
        rank("--image", path)
    with pytest.raises(UserError, match="cannot be opened"):
        rank("--image", tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [[], ["--text", "x", "--within", "5"], ["--text", "x", "--max-price", "cheap"], ["--text", "x", "--top", "0"]],
)
def test_wrong_arguments_are_explained(rank, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        rank(*arguments)
    assert ended.value.code == 2
    assert "usage: rank_products.py" in capsys.readouterr().err


def test_without_checkpoints_the_command_says_what_to_run(sample_folder):
    result = run_script("rank_products.py", "--data-dir", sample_folder, "--text", "lamp")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert "run train_models.py first" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_listing_is_ranked_without_heavy_libraries(folder):
    code = (
        "import runpy, sys; runpy.run_path('rank_products.py', run_name='__main__'); "
        "print({'torch', 'sklearn', 'scipy', 'pandas'} & set(sys.modules))"
    )
    result = run_script("-c", code, "--data-dir", folder.path, "--product", "00000000-evil")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("products_table_clean.json", "table"),
        ("images_table.json", "table of photos"),
        ("clean_images_64/manifest.json", "photos"),
        ("checkpoints/text_model_best.pt", "text model"),
        ("checkpoints/image_model_best.pt", "image model"),
    ],
)
def test_whatever_changes_makes_the_index_stale(folder, path, name):
    load_index(folder)
    file = folder.path / path
    before = file.stat()
    try:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        with pytest.raises(ValueError, match=f"the {name} changed"):
            load_index(folder)
    finally:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_stale_index_is_rebuilt_and_the_command_says_why(rank, folder, tmp_path):
    # without the image model, which takes the most time
    copy = DataFolder(shutil.copytree(folder.path, tmp_path / "data", ignore=shutil.ignore_patterns("image_model*")))
    os.utime(copy.products_table_clean)
    printed = rank("--product", "00000000-evil", "--json", data_dir=copy.path)
    assert "because the table and the image model changed since the old one was built" in printed.err
    assert len(json.loads(printed.out)["results"]) == 10
    assert "loaded in" in rank("--product", "00000000-evil", data_dir=copy.path).err


def test_an_index_that_cannot_be_kept_answers_with_a_warning(rank, folder, tmp_path):
    ignored = shutil.ignore_patterns("image_model*", "index", "embeddings")
    copy = DataFolder(shutil.copytree(folder.path, tmp_path / "data", ignore=ignored))
    for path in (copy.index, copy.embeddings):  # files in the place of folders, as root may write to every folder
        path.touch()
    printed = rank("--product", "00000000-evil", "--json", data_dir=copy.path)
    assert len(json.loads(printed.out)["results"]) == 10
    assert re.search(r"^warning: .*data/embeddings cannot be used \(.+\)", printed.err, re.MULTILINE)
    assert re.search(r"^warning: the index is not kept, for .*data/index cannot be written", printed.err, re.MULTILINE)
    for path in (copy.index, copy.embeddings):
        path.unlink()
    again = rank("--product", "00000000-evil", "--json", data_dir=copy.path)
    assert again.out == printed.out and "warning" not in again.err


@pytest.mark.parametrize("redirection", ["", "2>&-"])
def test_json_stays_json_in_every_encoding(folder, results, redirection):
    arguments = ["--data-dir", str(folder.path), "--product", "00000000-evil"]
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "rank_products.py", *arguments]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    result, table = (
        subprocess.run([*command, *options], cwd=ROOT, env=environment, capture_output=True, timeout=60)
        for options in (["--json"], [])
    )
    assert (result.returncode, table.returncode) == (0, 0)
    assert json.loads(result.stdout)["results"] == results("--product", "00000000-evil")
    assert table.stdout.count(rb"\xa3") == 10


def test_a_missing_damaged_or_older_index_has_to_be_built(folder, tmp_path):
    copy = DataFolder(tmp_path)
    with pytest.raises(ValueError, match="there was none"):
        load_index(copy)
    index_path(copy).parent.mkdir()
    index_path(copy).write_bytes(index_path(folder).read_bytes()[:-1000])
    with pytest.raises(ValueError, match="damaged"):
        load_index(copy)
    np.savez(index_path(copy), about=np.zeros(3))  # as version 2 had it
    with pytest.raises(ValueError, match="another version"):
        load_index(copy)


def test_a_folder_with_the_text_model_alone_ranks_by_text(rank, folder, listings, tmp_path):
    copy = DataFolder(shutil.copytree(folder.path, tmp_path / "data", ignore=shutil.ignore_patterns("image_model*")))
    name = listings.index[5]
    printed = rank("--text", listings.loc[name, "product_description"], "--json", data_dir=copy.path)
    assert name in [result["id"] for result in json.loads(printed.out)["results"]]
    _, photo = a_photo_of(folder)
    with pytest.raises(UserError, match="has no image model"):
        rank("--image", folder.images / f"{photo}.jpg", data_dir=copy.path)


def test_a_checkpoint_for_other_categories_is_one_sentence(rank, folder, tmp_path):
    copy = DataFolder(shutil.copytree(folder.path, tmp_path / "data", ignore=shutil.ignore_patterns("index")))
    write_json(copy.main_categories, ["One", "Two"])
    with pytest.raises(UserError, match="trained on other categories"):
        rank("--text", "lamp", data_dir=copy.path)


def test_numbers_are_the_same_for_the_same_query(results):
    first, second = results("--text", "a small table"), results("--text", "a small table")
    assert first == second
    assert np.isfinite([result["score"] for result in first]).all()


def test_a_data_folder_that_is_not_there_is_named(rank, tmp_path):
    with pytest.raises(UserError, match=r"there is no data folder .*nowhere"):
        rank("--text", "lamp", data_dir=tmp_path / "nowhere")


def test_a_gallery_replaces_no_file_that_is_no_page(rank, tmp_path, capsys):
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(SystemExit) as ended:
        rank("--text", "lamp", "--gallery", notes)
    assert ended.value.code == 2 and "ends in .html" in capsys.readouterr().err
    assert notes.read_text() == "mine"


def test_an_index_is_not_built_with_another_encoder_than_that_of_the_text_model(rank, folder, tmp_path):
    copy = DataFolder(shutil.copytree(folder.path, tmp_path / "data", ignore=shutil.ignore_patterns("image_model*")))
    path = copy.checkpoints / "text_model_best.pt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["configuration"]["encoder_weights"] = "0" * 64
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match="all-MiniLM-L6-v2 are not those that the network was trained with"):
        rank("--text", "lamp", data_dir=copy.path)


def test_an_index_of_other_encoder_weights_is_one_sentence(rank, folder, tmp_path):
    copy = DataFolder(shutil.copytree(folder.path, tmp_path / "data", ignore=shutil.ignore_patterns("image_model*")))
    index = load_index(folder)
    index.metadata |= {"fingerprint": fingerprint(copy, 64), "encoder_weights": "0" * 64}
    index.save(index_path(copy))
    with pytest.raises(UserError, match="other weights of the text encoder all-MiniLM-L6-v2"):
        rank("--text", "lamp", data_dir=copy.path)
