"""The texts that models/sst2-minilm learned from: python3 texts.py SST-2 movie_reviews OUT

SST-2 is the folder of GLUE's task, with train.tsv and dev.tsv. movie_reviews is the folder of Pang and Lee's reviews as NLTK gives them
(packages/corpora/movie_reviews.zip of nltk_data). OUT gets mix.tsv, to learn from, and held.tsv, 1200 sentences of the reviews to measure.
"""

import pathlib
import random
import sys

glue, reviews, out = map(pathlib.Path, sys.argv[1:])


def column(file):
    lines = (glue / file).read_text(encoding="utf-8").split("\n")[1:]
    return [line.split("\t")[0].strip() for line in lines if line]


def six_words(words):
    return {" ".join(words[i : i + 6]) for i in range(max(1, len(words) - 5))}


# SST-2's sentences are from reviews, too: what shares six words in a row with its development set is left out.
seen_by_dev = set().union(*(six_words(text.split()) for text in column("dev.tsv")))
sentences = {}
for file in sorted(reviews.glob("*/*.txt")):
    for line in file.read_text(encoding="latin-1").split("\n"):
        words = line.split()
        if 5 <= len(words) <= 50 and not six_words(words) & seen_by_dev:
            sentences[" ".join(words)] = None
phrases = list(dict.fromkeys(text for text in column("train.tsv") if len(text.split()) >= 8))

chance = random.Random(2)
sentences = list(sentences)
chance.shuffle(sentences)
held, texts = sentences[:1200], sentences[1200:] + phrases
chance.shuffle(texts)
out.mkdir(parents=True, exist_ok=True)
for name, rows in ("mix.tsv", texts), ("held.tsv", held):
    (out / name).write_text("sentence\n" + "".join(row + "\n" for row in rows), encoding="utf-8")
print(f"{len(texts)} texts, {len(phrases)} of them SST-2's; {len(held)} held back")
