"""Text of a submission: data of unknown size and content, that is cut and escaped where it enters."""

from __future__ import annotations

__all__ = ["MAX_TEXT", "shown"]

MAX_TEXT = 2000  # characters of whatever is shown to people


def shown(text: str, limit: int = MAX_TEXT) -> str:
    """Text of anybody's as it can be shown: what does not print is escaped, line ends apart; cut to `limit`."""
    text = text[: limit + 1]
    if not text.isprintable():
        text = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text.expandtabs(4))
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."
