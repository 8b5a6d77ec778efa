"""Conversations as text: by the tokenizer's chat template, or, for a prompt with its answer, one after the other.

A rendered conversation is cut into pieces, of which the assistant's answers are learnt, each with the mark that ends
it: a model that has not learnt to end goes on for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from spry.core.errors import DataError, first_line
from spry.data.conversations import Conversation, Turn

_REMEDIES = (
    "Give prompt and answer columns, which need no template, name a file with one (task.chat_template), or choose a "
    "model that was made for chats"
)
"""What to do where a tokenizer has no chat template."""


class Piece(NamedTuple):
    """A part of a rendered conversation, and whether it is learnt."""

    text: str
    learnt: bool


@dataclass(frozen=True, kw_only=True)
class Chat:
    """Renders conversations by the chat template of a Hugging Face tokenizer."""

    tokenizer: Any

    def __post_init__(self) -> None:
        if not self.tokenizer.chat_template:
            raise DataError(f"The tokenizer has no chat template to write messages with. {_REMEDIES}.")

    def pieces(self, turns: Conversation) -> list[Piece]:
        """Render a conversation, cut before and after each answer of an assistant.

        Where the template writes earlier turns in another way once later ones follow, the last answer alone is learnt.

        Raises:
            DataError: If the template refuses the conversation, or writes no answer as it was asked for.
        """
        answers = [place for place, turn in enumerate(turns) if turn.role == "assistant" and turn.content]
        whole = self._text(turns)
        return self._cut(turns, answers, whole) or self._cut(turns, answers[-1:], whole) or self._refuse()

    def prompt(self, turns: Conversation) -> str:
        """Render what comes before an answer, up to where the answer begins."""
        return self._text(turns, answering=True)

    def ending(self, turns: Conversation) -> str:
        """What the template writes behind an answer to these turns, to end it."""
        said = "an answer"
        return self.pieces((*turns, Turn("assistant", said)))[-1].text.partition(said)[2]

    def _cut(self, turns: Conversation, answers: Sequence[int], whole: str) -> list[Piece]:
        """Cut the whole text at some answers; no piece if these are not where they are looked for."""
        pieces: list[Piece] = []
        done = 0
        for place in answers:
            before, through = self.prompt(turns[:place]), self._text(turns[: place + 1])
            if not (whole.startswith(through) and through.startswith(before) and len(before) >= done):
                return []
            answer = through[len(before) :].rstrip()
            pieces += [Piece(whole[done : len(before)], False), Piece(answer, True)]
            done = len(before) + len(answer)
        return pieces

    def _text(self, turns: Conversation, answering: bool = False) -> str:
        from jinja2 import TemplateError

        messages = [turn._asdict() for turn in turns]
        try:
            return self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=answering
            )
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            roles = ", ".join(turn.role for turn in turns) or "none"
            raise DataError(
                f"the chat template refuses the turns {roles}: {first_line(error)}. Change the order of the turns, or "
                "name a file with another template (task.chat_template)."
            ) from error

    def _refuse(self) -> list[Piece]:
        raise DataError(
            "the chat template does not begin an answer with what it writes to ask for one "
            "(add_generation_prompt), so answers cannot be told from prompts. Name a file with another template "
            "(task.chat_template)."
        )


class Plain:
    """Writes a prompt and its answer one after the other, on lines of their own."""

    def pieces(self, turns: Conversation) -> list[Piece]:
        """Take the turns before the last as the prompt; the last is the answer, which is learnt."""
        return [Piece(self.prompt(turns[:-1]), False), Piece(turns[-1].content, True)]

    def prompt(self, turns: Conversation) -> str:
        """Join the contents of turns, with an end of line after each."""
        return "".join(f"{turn.content}\n" for turn in turns)


def apart(turns: Conversation, marks: Sequence[str]) -> Conversation:
    """Put a space into each special token that a message writes, so that it is read as words and ends no turn."""
    written = [mark for mark in marks if len(mark) > 1 and any(mark in turn.content for turn in turns)]
    for mark in sorted(written, key=len, reverse=True):
        turns = tuple(Turn(turn.role, turn.content.replace(mark, f"{mark[0]} {mark[1:]}")) for turn in turns)
    return turns
