"""A self-contained web page of ranked listings: photos inside the page, no server, no script, no network."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marketplace.data_folder import DataFolder
from marketplace.photos import PHOTO_SUFFIXES, PhotoError, clean_photo, photo_stem

PHOTO_SIZE = 240  # pixels
QUALITY = 82

STYLE = """
body { font: 16px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem;
       background: #fafaf8; color: #222 }
h1 { font-size: 1.3rem; font-weight: 600; margin: 0 0 .3rem }
.query { display: flex; gap: 1rem; align-items: center; margin-bottom: 1.5rem }
.query p { margin: 0; color: #555; max-width: 45rem; overflow-wrap: anywhere }
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: 1rem;
     grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)) }
li { background: #fff; border: 1px solid #ddd; border-radius: .5rem; overflow: hidden }
.photo { display: flex; aspect-ratio: 1; background: #000; color: #999; align-items: center; justify-content: center }
.photo img { width: 100%; height: 100%; object-fit: contain }
.query .photo { width: 9rem; flex: none; border-radius: .5rem; overflow: hidden }
.text { padding: .6rem .8rem; overflow-wrap: anywhere }
.text b { display: block; margin-bottom: .2rem }
.price { font-size: 1.1rem }
small { color: #666; display: block }
"""


def photo_jpeg(paths: Sequence[Path], size: int = PHOTO_SIZE) -> bytes | None:
    """The first of `paths` that can be read, cleaned to `size` pixels, as a JPEG file; None if there is none."""
    for path in paths:
        try:
            with open(path, "rb") as file:
                picture = clean_photo(file, size)
        except (PhotoError, OSError, ValueError):  # ValueError: no possible name of a file
            continue
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=QUALITY)
        return buffer.getvalue()
    return None


def photo_tag(paths: Sequence[Path], description: str) -> str:
    """The first of `paths` that can be read, as a JPEG inside the page; else the words "no photo"."""
    inside = "no photo"
    if (jpeg := photo_jpeg(paths)) is not None:
        content = base64.b64encode(jpeg).decode("ascii")
        inside = f'<img src="data:image/jpeg;base64,{content}" alt="{html.escape(description)}">'
    return f'<div class="photo">{inside}</div>'


def photo_paths(folder: DataFolder, image_ids: Sequence[str], image_size: int) -> list[Path]:
    """Where the photos of a listing may be: the raw ones first, for they are larger, then the clean ones."""
    stems = [stem for image_id in image_ids for stem in (image_id.replace("/", "%2F"), photo_stem(image_id))]
    names = [f"{stem}{suffix}" for stem in stems for suffix in (*PHOTO_SUFFIXES, *map(str.upper, PHOTO_SUFFIXES))]
    return [place / name for place in (folder.images, folder.clean_images(image_size)) for name in names]


def gallery_page(
    query_text: str,
    query_photos: Sequence[Path],
    results: Sequence[Mapping[str, Any]],
    result_photos: Sequence[Sequence[Path]],
) -> str:
    """The page as HTML. `results` are those of `rank_products.py --json`, `result_photos` where their photos may be."""
    cards = []
    for result, paths in zip(results, result_photos, strict=True):
        distance = f" · {result['distance_km']:.0f} km" if "distance_km" in result else ""
        cards.append(
            f"<li>{photo_tag(paths, result['product_name'])}"
            f'<div class="text"><b>{result["rank"]}. {html.escape(result["product_name"])}</b>'
            f'<span class="price">£{result["price"]:,.2f}</span>'
            f"<small>{html.escape(result['category'])}</small>"
            f"<small>{html.escape(result['location'])}{distance} · score {result['score']:.3f}</small></div></li>"
        )
    query = photo_tag(query_photos, "the query") if query_photos else ""
    return (
        '<!DOCTYPE html>\n<html lang="en-GB">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Relevant listings</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<div class="query">{query}<div><h1>Relevant listings</h1><p>{html.escape(query_text)}</p></div></div>\n'
        "<ol>\n" + "\n".join(cards) + "\n</ol>\n</body>\n</html>\n"
    )
