"""AG News as instructions: which topic a headline has, as chat messages, one conversation a line.

``python -m benchmarks.instruction_data FOLDER OUT`` reads ``ag_news_train.tsv.gz`` and ``ag_news_test.tsv.gz``, whose
columns are a label from 0 to 3 and a text.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

TOPICS = ("World", "Sports", "Business", "Science")
QUESTION = (
    "Which topic is this news about: World, Sports, Business or Science? Answer with one word.\n\n{text}"
)
PARTS = {"train": "ag_news_train", "test": "ag_news_test"}


def conversations(file: Path) -> Iterator[dict[str, object]]:
    """Turn the rows of a file into chats; the topic is kept, to deal by it."""
    _, *rows = gzip.decompress(file.read_bytes()).decode().rstrip("\n").split("\n")
    for row in rows:
        label, text = row.split("\t")
        topic = TOPICS[int(label)]
        yield {
            "messages": [
                {"role": "user", "content": QUESTION.format(text=text)},
                {"role": "assistant", "content": topic},
            ],
            "topic": topic,
        }


def write(folder: Path, out: Path) -> list[Path]:
    """Write both parts as JSON Lines; returns their files."""
    out.mkdir(parents=True, exist_ok=True)
    made = []
    for part, name in PARTS.items():
        lines = [json.dumps(row, ensure_ascii=False) for row in conversations(folder / f"{name}.tsv.gz")]
        made.append(out / f"ag_news_{part}.jsonl")
        made[-1].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    for file in write(given.folder, given.out):
        print(file)
