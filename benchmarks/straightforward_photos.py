"""The loop that one would write first for clean_images.py; benchmarks/clean_images.py measures it, as a process too.

python benchmarks/straightforward_photos.py IMAGES OUTPUTS
"""

import sys
from pathlib import Path

from PIL import Image

SIZE = 64


def on_black(path: Path) -> Image.Image:
    """Open, resize, convert, paste."""
    image: Image.Image = Image.open(path)
    ratio = SIZE / max(image.size)
    width, height = (max(1, round(side * ratio)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS).convert("RGB")
    square = Image.new("RGB", (SIZE, SIZE))
    square.paste(image, ((SIZE - width) // 2, (SIZE - height) // 2))
    return square


def straightforward(images: Path, outputs: Path) -> None:
    outputs.mkdir(parents=True, exist_ok=True)
    for path in sorted(images.glob("*.jpg")):
        on_black(path).save(outputs / path.name)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    straightforward(*map(Path, sys.argv[1:]))
