"""CSV files that are written a row at a time, and take the place of those before when they are whole."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

__all__ = ["Row", "cell", "sheet"]

Row = Callable[[Sequence[object]], None]
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@contextlib.contextmanager
def sheet(file: Path, header: Sequence[str], *, bom: bool = False) -> Iterator[Row]:
    """Gives the function that writes a row. Without a row there is no file. Raises OSError."""
    new = file.with_name(f"{file.name}.new")
    rows = 0
    with new.open("w", encoding="utf-8-sig" if bom else "utf-8", errors="replace", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(header)

        def write(row: Sequence[object]) -> None:
            nonlocal rows
            rows += 1
            writer.writerow([cell(value) for value in row])

        yield write
    if rows:
        new.replace(file)
    else:
        new.unlink()
        file.unlink(missing_ok=True)


def cell(value: object) -> str:
    """One line, that no spreadsheet takes for a formula. Numbers stay numbers."""
    if isinstance(value, int | float):
        return f"{value:g}"
    text = str(value).partition("\n")[0]
    return f"'{text}" if text.startswith(FORMULA) and text != "-" else text
