"""Tables as JSON lists of records: reading and writing them, and the columns of the clean products table."""

from pathlib import Path

import pandas as pd

from marketplace.data_folder import UserError, read_json, write_whole

CLEAN_COLUMNS = (  # of products_table_clean.json
    *("id", "product_name", "product_description", "category", "main_category", "main_category_code"),
    *("price", "location", "latitude", "longitude", "split"),
)
ROWS_AT_ONCE = 50_000


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as a JSON list of records, whole or not at all.

    The rows are encoded in parts: the JSON text of a large table takes more memory than the table.
    """
    with write_whole(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write("[")
        for start in range(0, len(table), ROWS_AT_ONCE):
            rows = table.iloc[start : start + ROWS_AT_ONCE]
            records = rows.to_json(orient="records", force_ascii=False, double_precision=15)
            file.write(("," if start else "") + records[1:-1])
        file.write("]\n")


def read_table(path: Path, made_by: str, columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a table; texts stay texts. `made_by` is the script to run when the file is missing.

    An empty table has `columns`. Raises UserError when the file is missing, is no table, or lacks one of `columns`.
    """
    records = read_json(path, made_by)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise UserError(f"{path} is not readable as a table: delete it and run {made_by} again.")
    table = pd.DataFrame(records, columns=None if records else list(columns))
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}: delete it and run {made_by} again.")
    return table
