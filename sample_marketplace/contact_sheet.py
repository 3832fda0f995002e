"""A contact sheet of the sample marketplace: examples of its photos by category, with labels."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from marketplace.data_folder import write_whole
from sample_marketplace.drawing import COLOURS, PhotoSpec, draw_photo
from sample_marketplace.kinds import CATEGORY_SIZES, KINDS

TILE, GAP, LABEL = 88, 3, 150


def write_contact_sheet(path: Path, seed: int, columns: int = 12) -> None:
    """Draw one line of photos a main category, each of its kinds in turn, and write them as one picture."""
    height = len(CATEGORY_SIZES) * (TILE + GAP) + GAP
    sheet = Image.new("RGB", (LABEL + columns * (TILE + GAP) + GAP, height), (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    names = list(COLOURS)
    for line, category in enumerate(sorted(CATEGORY_SIZES)):
        y = GAP + line * (TILE + GAP)
        words = category.replace(" & ", " &\n", 1).replace(", ", ",\n")
        draw.multiline_text((GAP, y + TILE / 2), words, fill=(20, 20, 20), font=font, anchor="lm")
        kinds = [kind for kind in KINDS if kind.main_category == category]
        for column in range(columns):
            kind, name = kinds[column % len(kinds)], f"{seed}/{line}/{column}"
            colour = names[(line * 5 + column * 3) % len(names)]
            photo = draw_photo(PhotoSpec("", kind.shape, colour, f"thing/{name}", f"photo/{name}"))
            tile = ImageOps.pad(photo, (TILE, TILE), color=(0, 0, 0))
            sheet.paste(tile, (LABEL + GAP + column * (TILE + GAP), y))
    with write_whole(path) as partial:
        sheet.quantize(112, method=Image.Quantize.FASTOCTREE).save(partial, "PNG", optimize=True)
