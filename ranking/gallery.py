"""One self-contained web page of ranked listings: photos inside the page, no server, no script, no network."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marketplace.data_folder import DataFolder, write_whole
from marketplace.photo_cleaning import PhotoError, clean_photo

PHOTO_SIZE = 240
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


def photo_data_url(paths: Sequence[Path], size: int = PHOTO_SIZE) -> str | None:
    """The first of `paths` that can be read, as a JPEG inside a `data:` URL; None when there is none."""
    for path in paths:
        try:
            with open(path, "rb") as file:
                picture = clean_photo(file, size)
        except (PhotoError, OSError):
            continue
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=QUALITY)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return None


def photo_paths(folder: DataFolder, image_ids: Sequence[str], image_size: int) -> list[Path]:
    """Where the photos of a listing may lie: the raw ones first, for they are larger, then the clean ones."""
    raw = [folder.images / f"{name}{suffix}" for name in image_ids for suffix in (".jpg", ".jpeg", ".JPG", ".JPEG")]
    return raw + [folder.clean_images(image_size) / f"{name}.jpg" for name in image_ids]


def photo_tag(data_url: str | None, description: str) -> str:
    """A photo, or the words "no photo" in its place."""
    inside = f'<img src="{data_url}" alt="{html.escape(description)}">' if data_url else "no photo"
    return f'<div class="photo">{inside}</div>'


def gallery_page(
    heading: str, query_text: str, query_photo: str | None, results: Sequence[Mapping[str, Any]], photos: Sequence
) -> str:
    """The page as HTML. `results` are those of `rank_products.py --json`, `photos` their `data:` URLs or None."""
    cards = []
    for result, photo in zip(results, photos, strict=True):
        distance = "" if result.get("distance_km") is None else f" · {result['distance_km']:.0f} km"
        cards.append(
            f"<li>{photo_tag(photo, result['product_name'])}"
            f'<div class="text"><b>{result["rank"]}. {html.escape(result["product_name"])}</b>'
            f'<span class="price">£{result["price"]:,.2f}</span>'
            f"<small>{html.escape(result['category'])}</small>"
            f"<small>{html.escape(result['location'])}{distance} · score {result['score']:.3f}</small></div></li>"
        )
    query = f"{photo_tag(query_photo, 'the query')}" if query_photo else ""
    return (
        '<!DOCTYPE html>\n<html lang="en-GB">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(heading)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<div class="query">{query}<div><h1>{html.escape(heading)}</h1><p>{html.escape(query_text)}</p></div></div>\n'
        "<ol>\n" + "\n".join(cards) + "\n</ol>\n</body>\n</html>\n"
    )


def write_gallery(path: Path, page: str) -> None:
    """Write the page, whole or not at all."""
    with write_whole(path) as partial:
        partial.write_text(page, encoding="utf-8")
