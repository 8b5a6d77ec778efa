"""Texts as tokens of which each is learnt or not: conversations, and documents packed into blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spry.core.errors import DataError
from spry.data.chat import Chat, Piece, Plain, apart
from spry.data.conversations import Conversation
from spry.data.tokens import tokenise

_CHUNK = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenSequence:
    """Tokens in their order.

    Args:
        ids: Shape (T,).
        learnt: Whether each is to be predicted from those before it, shape (T,); of no effect on the first.
    """

    ids: NDArray[np.int32]
    learnt: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def targets(self) -> int:
        """How many tokens are predicted."""
        return int(self.learnt[1:].sum())

    def part(self, start: int, stop: int) -> TokenSequence:
        return TokenSequence(ids=self.ids[start:stop], learnt=self.learnt[start:stop])


def documents(texts: Sequence[str], tokenizer: Any) -> list[TokenSequence]:
    """Tokenise documents, with the tokenizer's own marks and an end token after each; all is learnt but a begin token.

    Raises:
        DataError: If the tokenizer has no end token, or a text no tokens.
    """
    end = end_token(tokenizer)
    begin = tokenizer.bos_token_id
    found = []
    for start in range(0, len(texts), _CHUNK):
        rows = tokenise(texts[start : start + _CHUNK], tokenizer, first=start + 1).fields["input_ids"]
        for row in rows:
            ids = np.asarray(row if row[-1] == end else [*row, end], dtype=np.int32)
            learnt = np.ones(len(ids), dtype=np.bool_)
            learnt[0] = begin == end or ids[0] != begin
            found.append(TokenSequence(ids=ids, learnt=learnt))
    return found


def end_token(tokenizer: Any) -> int:
    """The token that ends a text: that of the end, or else the one that separates texts."""
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    if end is None:
        raise DataError("The tokenizer has no end token to put between documents. Set its eos_token.")
    return end


def packed(sequences: Iterable[TokenSequence], length: int) -> list[TokenSequence]:
    """Join sequences, and cut what results into blocks of so many tokens.

    Nothing fills them up, so a block may begin and end within a document, and may hold several, which see each other.
    The last block is shorter; it is dropped only if it has no token to predict.
    """
    if length < 2:
        raise DataError(
            f"A block of {length} tokens was asked for. Allowed: at least 2, to predict one of them."
        )
    parts = list(sequences)
    if not parts:
        return []
    whole = TokenSequence(
        ids=np.concatenate([part.ids for part in parts]),
        learnt=np.concatenate([part.learnt for part in parts]),
    )
    blocks = [whole.part(start, start + length) for start in range(0, len(whole), length)]
    return blocks if blocks[-1].targets else blocks[:-1]


def conversed(turns: Sequence[Conversation], tokenizer: Any, writer: Chat | Plain) -> list[TokenSequence]:
    """Tokenise conversations as a writer renders them; the answers are learnt, and the mark that ends each.

    Words that spell a special token are read as words.

    Raises:
        DataError: If a conversation cannot be rendered; it names its number.
    """
    marks, pieces = _marks(tokenizer), []
    for number, one in enumerate(turns, start=1):
        try:
            pieces.append(writer.pieces(apart(one, marks)))
        except DataError as error:
            raise DataError(f"Example {number}: {error}") from error
    found: list[TokenSequence] = []
    for start in range(0, len(pieces), _CHUNK):
        found += _tokenised(pieces[start : start + _CHUNK], tokenizer, chat=isinstance(writer, Chat))
    return found


def prompts(texts: Sequence[Any], tokenizer: Any, writer: Chat | Plain | None) -> list[TokenSequence]:
    """Tokenise what a model is to go on with: conversations up to an answer, or, without a writer, texts.

    Nothing of it is learnt.
    """
    found = []
    for text in texts:
        chat = isinstance(writer, Chat)
        written = text if writer is None else writer.prompt(apart(text, _marks(tokenizer)))
        ids = tokenizer(written, add_special_tokens=not chat, split_special_tokens=not chat)["input_ids"]
        ids = ids[:-1] if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id and not chat else ids
        found.append(
            TokenSequence(ids=np.asarray(ids, dtype=np.int32), learnt=np.zeros(len(ids), dtype=np.bool_))
        )
    return found


def _marks(tokenizer: Any) -> list[str]:
    return [mark for mark in map(str, tokenizer.all_special_tokens) if mark.strip()]


def _tokenised(rows: Sequence[Sequence[Piece]], tokenizer: Any, *, chat: bool) -> list[TokenSequence]:
    """Tokenise rendered texts whole, as a model will read them, and see in which piece each token begins."""
    texts = ["".join(piece.text for piece in row) for row in rows]
    # a template writes the marks itself, and they must be read as marks
    options = {"add_special_tokens": not chat, "split_special_tokens": not chat, "verbose": False}
    if not tokenizer.is_fast:
        return [_by_piece(row, tokenizer, options) for row in rows]
    read = tokenizer(texts, return_offsets_mapping=True, padding=False, **options)
    found = []
    for row, ids, offsets in zip(rows, read["input_ids"], read["offset_mapping"], strict=True):
        learnt = _in_learnt(row, np.asarray(offsets).reshape(-1, 2))
        found.append(TokenSequence(ids=np.asarray(ids, dtype=np.int32), learnt=learnt))
    return found if chat else [_ended(one, tokenizer) for one in found]


def _in_learnt(row: Sequence[Piece], offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether tokens begin in a piece that is learnt; those without text are marks that the tokenizer adds."""
    ends = np.cumsum([len(piece.text) for piece in row])
    flags = np.asarray([*(piece.learnt for piece in row), False])
    return flags[np.searchsorted(ends, offsets[:, 0], side="right")] & (offsets[:, 1] > offsets[:, 0])


def _by_piece(row: Sequence[Piece], tokenizer: Any, options: dict[str, Any]) -> TokenSequence:
    """Tokenise piece by piece, where the tokenizer does not tell which text a token is of."""
    add = options["add_special_tokens"]
    parts = []
    for at, piece in enumerate(row):
        own = {**options, "add_special_tokens": add and at == 0}
        parts.append((tokenizer(piece.text, **own)["input_ids"], piece.learnt))
    ids = np.asarray([i for part, _ in parts for i in part], dtype=np.int32)
    learnt = np.asarray([flag for part, flag in parts for _ in part], dtype=np.bool_)
    one = TokenSequence(ids=ids, learnt=learnt)
    return _ended(one, tokenizer) if add else one


def _ended(one: TokenSequence, tokenizer: Any) -> TokenSequence:
    """Let an answer end in the end token, which is learnt as well."""
    end = end_token(tokenizer)
    ids, learnt = (
        (one.ids[:-1], one.learnt[:-1]) if len(one) and one.ids[-1] == end else (one.ids, one.learnt)
    )
    return TokenSequence(
        ids=np.append(ids, np.int32(end)).astype(np.int32), learnt=np.append(learnt, np.bool_(True))
    )
