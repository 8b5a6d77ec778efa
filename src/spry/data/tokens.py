"""Turns texts into tokens, in which no written word becomes one of the model's own marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from spry.core.errors import DataError
from spry.data.dataset import Text


class Tokenizer(Protocol):
    """A Hugging Face tokenizer, as far as it is used here."""

    all_special_ids: Any
    all_special_tokens: Any
    unk_token_id: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Mapping[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Rows of tokens by model input, and whether each row's text writes a mark such as ``[SEP]``."""

    fields: Mapping[str, list[list[int]]]
    marked: Sequence[bool]


def tokenise(
    texts: Sequence[Text], tokenizer: Tokenizer, *, max_length: int | None = None, first: int = 1
) -> Tokens:
    """Tokenise texts, all single or all pairs; only the tokenizer adds marks.

    Args:
        max_length: Tokens, marks included, after which the tokenizer cuts a text; None cuts nothing.
        first: The number of the first text, for messages.

    Raises:
        DataError: If a written mark cannot be read as words, or a text has no token.
    """
    sides = _sides(texts)
    marks = [mark for mark in map(str, tokenizer.all_special_tokens) if mark.strip()]
    marked = [any(mark in side[row] for side in sides for mark in marks) for row in range(len(texts))]
    own = _marks(_rows([[""] for _ in sides], tokenizer, max_length), tokenizer)[0]
    rows = _rows(sides, tokenizer, max_length)
    # a tokenizer that has its marks in the vocabulary, as T5's has, finds them there in spite of the option
    if max(_marks(rows, tokenizer)) > own:
        rows = _rows([[_apart(text, marks) for text in side] for side in sides], tokenizer, max_length)
        found = _marks(rows, tokenizer)
        if max(found) > own:
            raise DataError(
                f"Example {first + found.index(max(found))} writes a special token of the model as words "
                f"({', '.join(marks)}), and its tokenizer cannot read it as text. Change the spelling in the text."
            )
    if [] in rows["input_ids"]:
        empty = rows["input_ids"].index([])
        raise DataError(
            f"Example {first + empty} has no token in this model: {texts[empty]!r}. Leave it out."
        )
    fields = {name: rows[name] for name in ("input_ids", "token_type_ids") if name in rows}
    return Tokens(fields=fields, marked=marked)


def _sides(texts: Sequence[Text]) -> list[list[str]]:
    if isinstance(texts[0], str):
        return [[str(text) for text in texts]]
    return [[text[side] for text in texts] for side in (0, 1)]


def _rows(sides: Sequence[list[str]], tokenizer: Tokenizer, max_length: int | None) -> Mapping[str, Any]:
    cut = {"truncation": max_length is not None, "max_length": max_length}
    # not verbose: it would warn of texts that are longer than the model takes, which are cut later
    return tokenizer(*sides, **cut, padding=False, split_special_tokens=True, verbose=False)


def _marks(rows: Mapping[str, Any], tokenizer: Tokenizer) -> list[int]:
    """Count each row's marks; an unknown word is none."""
    marks = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    return [sum(token in marks for token in ids) for ids in rows["input_ids"]]


def _apart(text: str, marks: Sequence[str]) -> str:
    for mark in marks:
        text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text
