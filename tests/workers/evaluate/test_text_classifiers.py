"""The training of the text classifiers: what is held out stays unseen, and what is learned is found again."""

import random

from contracts.text_classifiers import TextClassifiers
from workers.evaluate.text_classifiers.corpus import LABELS, Text
from workers.evaluate.text_classifiers.measures import Scored, false_alarms, measure
from workers.evaluate.text_classifiers.split import folds_of, split
from workers.evaluate.text_classifiers.training import FOLDS, save, train

SHARED = "one two three four five six seven eight"


def text(words: str, holds: bool = False, **fields: object) -> Text:
    return Text(words, dict.fromkeys(LABELS, holds), "test", **fields)


def made(*, rows: int) -> list[Text]:
    """Texts of chance words; those of a label name a thing that the others do not."""
    chance = random.Random(0)
    words = [f"{chance.choice('bcdfgh')}{chance.choice('aeiou')}{chance.choice('lmnprst')}ing" for _ in range(200)]
    return [
        text(f"{' '.join(chance.choices(words, k=12))} {'zebra crossing' if row % 4 == 0 else ''}", row % 4 == 0)
        for row in range(rows)
    ]


def test_texts_that_share_eight_words_or_a_group_stay_on_one_side():
    texts = [text(f"{SHARED} {row}") for row in range(40)]
    texts += [text(f"word {row}", group="same") for row in range(40)]
    training, held_out = split([*texts, *made(rows=200)])
    for kin in (texts[:40], texts[40:]):
        assert len({each in held_out for each in kin}) == 1
    assert 20 < len(held_out) < 140
    assert len(training) + len(held_out) == 280
    assert len(set(folds_of(texts, folds=FOLDS))) <= 2


def test_a_kin_of_what_is_trained_on_is_not_held_out():
    near = [text(f"{SHARED} nine", held_out=False), text(f"{SHARED} ten", held_out=True)]
    training, held_out = split(near)
    assert (len(training), held_out) == (2, [])


def test_what_is_learned_is_found_in_texts_that_were_not_seen_and_the_file_is_the_same_twice(tmp_path):
    training, held_out = made(rows=400)[:300], made(rows=400)[300:]
    folds = folds_of(training, folds=FOLDS)
    files = [tmp_path / f"{number}.npz" for number in range(2)]
    for file in files:
        save(train(training, folds=folds), file)
    assert files[0].read_bytes() == files[1].read_bytes()

    scored = Scored.by(TextClassifiers.load(files[0]), held_out)
    found = measure(scored, "harassment")
    assert (found.texts, found.positives) == (100, 25)
    assert found.f1.low > 0.9
    assert found.precision.low <= found.precision.value <= found.precision.high
    assert false_alarms(scored, "harassment", lambda _text: True) == (0, 75)
