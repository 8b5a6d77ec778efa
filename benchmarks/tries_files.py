"""Files as people really have them, cut from the benchmark's data: what the tries of ``tries.py`` are run on."""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path

NEWS = {"0": "World", "1": "Sports", "2": "Business", "3": "Sci/Tech"}
MOODS = {"0": "negative", "1": "positive"}
Rows = list[dict[str, str]]


def make_files(data: Path, folder: Path) -> None:
    """Write every file that a try names into a folder; ``data`` holds the benchmark's ``.tsv.gz`` files."""
    reviews = _read(data / "sst2_train.tsv.gz", 3000)
    news = _read(data / "ag_news_train.tsv.gz", 2400)
    pairs = _read(data / "snli_dev.tsv.gz", 1500)
    draw = random.Random(0)
    rated = [
        {"body": row["sentence"], "stars": MOODS[row["label"]], "author": f"author-{draw.randrange(30)}"}
        for row in reviews
    ]
    told = [
        {"text": row["text"], "label": NEWS[row["label"]], "author": f"a{draw.randrange(40)}"} for row in news
    ]
    _csv(folder / "reviews.csv", rated)
    _csv(folder / "news.csv", told[:2000])
    _csv(folder / "news_test.csv", told[2000:])
    _csv(folder / "small.csv", rated[:200])
    _csv(folder / "pairs.csv", pairs)
    _odd(folder, rated)
    _found(folder, reviews, rated, told)


def _odd(folder: Path, rated: Rows) -> None:
    """Files with a fault each, as in the first round of tries."""
    few = rated[:200]
    latin = [{**row, "body": f"café {row['body']}"} for row in few]
    _csv(folder / "latin1.csv", latin, encoding="latin-1")
    _csv(folder / "utf16.csv", latin, encoding="utf-16-le")
    _csv(folder / "semicolon.csv", few, delimiter=";")
    _csv(folder / "bom_crlf.csv", few, encoding="utf-8-sig", lineterminator="\r\n")
    _csv(
        folder / "blank.csv",
        [{**row, "body": ""} if n in {3, 50, 51, 99} else row for n, row in enumerate(few)],
    )
    _csv(folder / "spaces.csv", [{**row, "stars": row["stars"] + " " * (n % 2)} for n, row in enumerate(few)])
    _csv(folder / "ratings.csv", [{**row, "stars": f"{n % 50 / 10}"} for n, row in enumerate(rated)])
    _csv(folder / "every_label.csv", [{**row, "stars": f"id {n}"} for n, row in enumerate(few)])
    _csv(folder / "one_class.csv", [{**row, "stars": "good"} for row in few])
    _csv(folder / "unseen.csv", [{**row, "stars": "superb"} for row in few])
    (folder / "empty.csv").write_text("")
    (folder / "header.csv").write_text("body,stars\n")
    (folder / "notes.txt").write_text("These are my notes.\nThey are no table.\n")


def _found(folder: Path, reviews: Rows, rated: Rows, told: Rows) -> None:
    """Files as they are found: GLUE, Kaggle, parquet, Excel on Windows, JSON of a web service, a packed log."""
    import pandas as pd
    from datasets import ClassLabel, Dataset

    (folder / "glue").mkdir(exist_ok=True)
    for name, part in (("train", reviews[:1200]), ("dev", reviews[1200:1600])):
        lines = ["sentence\tlabel", *(f"{row['sentence']}\t{row['label']}" for row in part)]
        (folder / "glue" / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    kaggle = [
        {"id": str(n), "review": f'He said "{row["body"]}" 😀,\nand left.', "sentiment": row["stars"]}
        for n, row in enumerate(rated[:1200])
    ]
    _csv(folder / "kaggle.csv", kaggle, quoting=csv.QUOTE_ALL)
    excel = [{"Text": f"„{row['body']}“ – naïve café", "Wertung": row["stars"]} for row in rated[:1200]]
    _csv(folder / "excel.csv", excel, encoding="cp1252", delimiter=";", lineterminator="\r\n")
    made = Dataset.from_dict({
        "text": [row["text"] for row in told],
        "label": [list(NEWS.values()).index(row["label"]) for row in told],
    }).cast_column("label", ClassLabel(names=list(NEWS.values())))
    made.train_test_split(test_size=0.2, seed=0).save_to_disk(folder / "saved")
    made.to_parquet(folder / "news.parquet")
    frame = pd.DataFrame(rated[:1200])
    frame.to_pickle(folder / "frame.pkl")
    frame.to_json(folder / "export.json", orient="records")
    with gzip.open(folder / "log.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(
            json.dumps({"message": {"text": r["body"]}, "text": r["body"], "tag": r["stars"]}) + "\n"
            for r in rated[:1200]
        )
    stars = [
        {"review": r["body"], "rating": {"negative": "1", "positive": "5"}[r["stars"]]} for r in rated[:1200]
    ]
    _csv(folder / "amazon.tsv", stars, delimiter="\t")


def _read(path: Path, rows: int) -> Rows:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [
            row
            for _, row in zip(
                range(rows), csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE), strict=False
            )
        ]


def _csv(path: Path, rows: Sequence[dict[str, str]], encoding: str = "utf-8", **form: object) -> None:
    form = {"lineterminator": "\n", **form}
    with path.open("w", encoding=encoding, errors="replace", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), **form)  # pyright: ignore[reportArgumentType]
        writer.writeheader()
        writer.writerows(rows)
