"""Plain text as documents: what blank lines divide, or else a document a line."""

from __future__ import annotations

import re

ENDINGS_OF_TEXT = (".txt", ".text", ".md")
"""File endings that promise text without columns."""
_BLANK = re.compile(r"\n[^\S\n]*\n\s*")


def split_documents(text: str) -> tuple[list[str], str]:
    """Divide text into documents, without the space around them; also says how.

    Example:
        >>> split_documents("One line.\\nAnother.\\n\\nThe next document.")[0]
        ['One line.\\nAnother.', 'The next document.']
    """
    text = text.replace("\r\n", "\n").strip()
    parts = _BLANK.split(text)
    how = "plain text, blank lines between documents"
    if len(parts) == 1:
        parts, how = text.split("\n"), "plain text, a document a line"
    return [part.strip() for part in parts if part.strip()], how
