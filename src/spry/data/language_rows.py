"""Data sets for language models as rows of tokens with labels: a conversation a row, or blocks of documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spry.core.errors import DataError
from spry.data.chat import Chat, Plain
from spry.data.conversations import Conversation
from spry.data.dataset import Dataset
from spry.data.encoded import NOT_LEARNT, Encoded, needed_length
from spry.data.language_target import has_conversations
from spry.data.reading import quantity
from spry.data.sequences import TokenSequence, conversed, documents, packed, prompts

USUAL_BLOCK = 512
"""Tokens of a block at most, where no length is given."""
COVERED_WITH_ANSWERS = 0.99
"""Share of conversations that are not cut where no length is given: what is cut off them is answers."""
ASKED = "asked"
"""What a data set of prompts keeps of each example, which has no answer yet."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LanguageRows(Encoded):
    """Rows in whose ``labels`` a token stands if it is learnt, else -100.

    Args:
        tokenizer: What made the tokens, for those who want to read them.
        pieces: The documents that blocks are made of; None for conversations and prompts.
        end_of_answer: The token with which a chat template ends an answer; None where nothing but the end token does.
    """

    tokenizer: Any
    pieces: Sequence[TokenSequence] | None = None
    end_of_answer: int | None = None

    def owned(
        self, train: NDArray[np.int32], held_out: NDArray[np.int32]
    ) -> tuple[Encoded, NDArray[np.int32], NDArray[np.int32]]:
        """Pack a client's documents by themselves, so that no block has tokens of two clients, or of both its parts."""
        if self.pieces is None:
            return super().owned(train, held_out)
        assert self.max_length is not None  # blocks have a length
        pieces = self.pieces
        parts = [packed([pieces[i] for i in part], self.max_length) for part in (train, held_out)]
        places = np.arange(sum(map(len, parts)), dtype=np.int32)
        made = _of_sequences([block for part in parts for block in part], like=self)
        return made, places[: len(parts[0])], places[len(parts[0]) :]


def encode_language(
    dataset: Dataset, tokenizer: Any, *, max_length: int | None, most: int, pad: int
) -> LanguageRows:
    """Tokenise documents, packed into blocks, or conversations, cut at their end, whose answers are learnt.

    Args:
        dataset: All documents, all conversations, or, with ``ASKED`` among what is kept of each, all prompts.
        tokenizer: A Hugging Face tokenizer; where it has no chat template, a prompt and its answer are written one
            after the other.
        max_length: Tokens of a row; None takes 512 for blocks, and for conversations what 99 % do not exceed.
        most: The most tokens that the model takes.
        pad: The token that fills short rows.

    Raises:
        DataError: If conversations cannot be written, or nothing of them is left to learn.
    """
    base = LanguageRows(
        fields={},
        starts=np.zeros(1, dtype=np.int64),
        labels=None,
        pad=pad,
        dataset=dataset,
        tokenizer=tokenizer,
    )
    chats = has_conversations(dataset)
    writer = find_writer(dataset.texts, tokenizer) if chats else None
    if isinstance(writer, Chat):
        base = replace(base, end_of_answer=_end_of_answer(writer, dataset.texts[0]))
    if ASKED in dataset.more:
        length = max_length or most
        rows = prompts(dataset.texts, tokenizer, writer)
        return _of_sequences([row.part(max(0, len(row) - length), len(row)) for row in rows], like=base)
    if writer is not None:
        rows = conversed(dataset.texts, tokenizer, writer)
        return _cut(rows, base, max_length, most)
    length, pieces = max_length or min(most, USUAL_BLOCK), documents(dataset.texts, tokenizer)
    total = sum(map(len, pieces))
    note = (
        f"{quantity(len(pieces), 'document')} of {total:,} tokens are packed into blocks of {length:,}, a client's and "
        "a part's by themselves; the last block of each is shorter."
    )
    return _of_sequences(
        packed(pieces, length), like=replace(base, max_length=length, pieces=pieces, notes=(note,))
    )


def find_writer(texts: Sequence[Conversation], tokenizer: Any) -> Chat | Plain:
    """A chat template if there is one; a prompt with its answer needs none."""
    simple = all([turn.role for turn in turns] in (["user", "assistant"], ["user"]) for turns in texts)
    return Plain() if simple and not tokenizer.chat_template else Chat(tokenizer=tokenizer)


def _end_of_answer(writer: Chat, turns: Conversation) -> int | None:
    """The first special token that the template writes behind an answer; it need not be the end token."""
    words = writer.tokenizer
    asked = turns[:-1] if turns[-1].role == "assistant" else turns
    special = {number for number, token in words.added_tokens_decoder.items() if token.special}
    written = words(writer.ending(asked), add_special_tokens=False, split_special_tokens=False)["input_ids"]
    return next((token for token in written if token in special), None)


def _cut(
    rows: Sequence[TokenSequence], base: LanguageRows, max_length: int | None, most: int
) -> LanguageRows:
    """Cut long conversations at their end; those of which nothing is left to learn are left out."""
    whole = np.asarray([len(row) for row in rows], dtype=np.int64)
    length = max_length or needed_length(whole, most, covered=COVERED_WITH_ANSWERS)
    kept = [row.part(0, length) for row in rows]
    places = np.flatnonzero([row.targets > 0 for row in kept])
    if not len(places):
        raise DataError(
            f"No answer begins within the first {length:,} tokens of its example. Set model.max_length higher (the "
            f"longest example has {whole.max():,} tokens, the model takes {most:,}), or shorten the prompts."
        )
    told = {
        "left out: all of the answer lies": len(rows) - len(places),
        "learnt in part: the end of the answer lies": sum(
            0 < k.targets < r.targets for k, r in zip(kept, rows, strict=True)
        ),
    }
    notes = [
        f"{quantity(count, 'example')} {what} behind token {length:,} (model.max_length)."
        for what, count in told.items()
        if count
    ]
    base = replace(
        base,
        max_length=length,
        whole=whole[places],
        examples=places,
        notes=tuple(notes),
        covered=COVERED_WITH_ANSWERS,
    )
    return _of_sequences([kept[place] for place in places], like=base)


def _of_sequences(rows: Sequence[TokenSequence], *, like: LanguageRows) -> LanguageRows:
    empty = np.zeros(0, dtype=np.int32)
    ids = np.concatenate([empty, *(row.ids for row in rows)])
    learnt = np.concatenate([empty.astype(np.bool_), *(row.learnt for row in rows)])
    labels = np.where(learnt, ids, np.int32(NOT_LEARNT))
    fields = {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}
    return replace(like, fields=fields, starts=np.cumsum([0, *map(len, rows)], dtype=np.int64))
