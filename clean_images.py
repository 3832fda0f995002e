"""Make the photos ready for learning: square, RGB, on black, all of one size.

Reads:  the photos (.jpg, .png and others, see PHOTO_SUFFIXES) in images/, or in the folder given with --images
Writes: clean_images_<size>/<image id>.jpg, manifest.json in it, clean_images_<size>_report.json

    python clean_images.py --data-dir data --size 64
"""

from pathlib import Path

from marketplace.command_line import argument_parser, positive_int, print_report, run
from marketplace.data_folder import DataFolder
from marketplace.photos import PHOTO_SIZE, clean_folder, default_workers


def main() -> None:
    parser = argument_parser("Make the photos ready for learning: square, RGB, on black, all of one size.")
    parser.add_argument("--size", type=positive_int, default=PHOTO_SIZE, metavar="PIXELS", help="side of each")
    parser.add_argument("--workers", type=positive_int, default=default_workers(), metavar="N", help="processes")
    parser.add_argument("--images", type=Path, metavar="DIR", help="raw photos (default: images in the data folder)")
    parser.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="use a Dask cluster that shares the data folder")
    arguments = parser.parse_args()
    folder = DataFolder(arguments.data_dir)
    images = arguments.images or folder.images
    print_report(clean_folder(images, folder, arguments.size, arguments.workers, arguments.scheduler))


if __name__ == "__main__":
    run(main)
