"""Writes word problems with computed answers: `python -m workers.evaluate.tasks.word_problems`. The rows are CC0."""

import json
import random
from pathlib import Path

DATA = Path(__file__).parent / "data"
ROWS = 200
FEW_SHOT_ROWS = 8
SEED = 11
NAMES = ("Amina", "Björn", "Chen", "Daria", "Emeka", "Fatima", "Goran", "Hana", "Ivo", "Jamila", "Kofi", "Lena")
THINGS = ("apples", "books", "stamps", "marbles", "candles", "tickets", "pencils", "shells", "coins", "cards")


def bought(chance: random.Random) -> tuple[str, str, int]:
    name, thing = chance.choice(NAMES), chance.choice(THINGS)
    boxes, each, given = chance.randint(2, 9), chance.randint(3, 12), chance.randint(1, 5)
    question = (
        f"{name} buys {boxes} boxes with {each} {thing} in each. {name} gives {given} of the {thing} away. "
        f"How many {thing} does {name} have left?"
    )
    steps = f"{boxes} boxes with {each} {thing} are {boxes * each} {thing}. {boxes * each} - {given} is "
    return question, f"{steps}{boxes * each - given}.", boxes * each - given


def shared(chance: random.Random) -> tuple[str, str, int]:
    name, thing = chance.choice(NAMES), chance.choice(THINGS)
    friends, each, left = chance.randint(2, 8), chance.randint(2, 9), chance.randint(1, 6)
    total = friends * each + left
    question = (
        f"{name} has {total} {thing}, keeps {left} and shares the rest fairly among {friends} friends. "
        f"How many {thing} does each friend get?"
    )
    return question, f"{total} - {left} is {total - left}. {total - left} / {friends} is {each}.", each


def travelled(chance: random.Random) -> tuple[str, str, int]:
    name = chance.choice(NAMES)
    speed, hours, more = chance.randint(4, 30), chance.randint(2, 6), chance.randint(1, 15)
    question = (
        f"{name} cycles at {speed} kilometres an hour for {hours} hours, then {more} kilometres more. "
        f"How many kilometres is that in all?"
    )
    steps = f"{speed} * {hours} is {speed * hours}. {speed * hours} + {more} is {speed * hours + more}."
    return question, steps, speed * hours + more


def compared(chance: random.Random) -> tuple[str, str, int]:
    first, second = chance.sample(NAMES, 2)
    thing, count, more = chance.choice(THINGS), chance.randint(5, 40), chance.randint(2, 20)
    question = (
        f"{first} has {count} {thing}. {second} has {more} more than {first}. How many {thing} do they have together?"
    )
    return (
        question,
        f"{count} + {more} is {count + more}. {count} + {count + more} is {2 * count + more}.",
        (2 * count + more),
    )


KINDS = (bought, shared, travelled, compared)


def main() -> None:
    chance, rows = random.Random(SEED), dict[str, dict[str, str]]()
    while len(rows) < ROWS + FEW_SHOT_ROWS:
        question, steps, answer = KINDS[len(rows) % len(KINDS)](chance)
        rows[question] = {"question": question, "steps": steps, "answer": str(answer)}
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows.values()]
    (DATA / "word_problems_few_shot.jsonl").write_text("".join(lines[:FEW_SHOT_ROWS]), encoding="utf-8")
    (DATA / "word_problems.jsonl").write_text("".join(lines[FEW_SHOT_ROWS:]), encoding="utf-8")


if __name__ == "__main__":
    main()
