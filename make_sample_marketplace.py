"""Make the sample marketplace: an embedded stand-in for the database and the photo folder.

Reads nothing. Writes marketplace.db (SQLite, tables products and images) and images/<image id>.jpg into the data
folder, by default data/sample. The same seed gives the same rows and the same decoded pixels.

    python make_sample_marketplace.py [--listings 1300] [--photos / --no-photos] [--seed 7]
"""

import argparse
from pathlib import Path

from marketplace.command_line import argument_parser, positive_int, run
from marketplace.data_folder import DataFolder
from marketplace.photos import default_workers
from sample_marketplace.contact_sheet import write_contact_sheet
from sample_marketplace.files import Settings, make_marketplace


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.set_defaults(data_dir=Path("data/sample"))
    parser.add_argument("--listings", type=positive_int, default=1300, metavar="N", help="rows of products")
    parser.add_argument("--photos", action=argparse.BooleanOptionalAction, default=True, help="draw the photos")
    parser.add_argument("--seed", type=int, default=7, help="another seed, another marketplace")
    parser.add_argument("--workers", type=positive_int, default=default_workers(), metavar="N", help="processes")
    parser.add_argument("--force", action="store_true", help="make it again though it is there")
    parser.add_argument("--contact-sheet", type=Path, metavar="FILE", help="only draw examples by category into FILE")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.contact_sheet:
        write_contact_sheet(arguments.contact_sheet, arguments.seed)
        print(f"contact sheet written to {arguments.contact_sheet}")
        return
    settings = Settings(arguments.listings, arguments.photos, arguments.seed)
    print(make_marketplace(DataFolder(arguments.data_dir), settings, arguments.workers, arguments.force))


if __name__ == "__main__":
    run(main)
