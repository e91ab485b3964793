"""Writes talks with a shop and what each is about: `python -m workers.evaluate.tasks.support_summaries`. CC0."""

import json
import random
from pathlib import Path

DATA = Path(__file__).parent / "data"
ROWS = 80
FEW_SHOT_ROWS = 8
SEED = 13
NAMES = ("Amina", "Björn", "Chen", "Daria", "Emeka", "Fatima", "Goran", "Hana", "Ivo", "Jamila", "Kofi", "Lena")
GOODS = ("bicycle", "kettle", "camera", "tent", "desk lamp", "suitcase", "radio", "winter coat", "printer", "guitar")
PLACES = ("Lisbon", "Oslo", "Lima", "Nairobi", "Hanoi", "Porto", "Quito", "Riga")
FAULTS = (
    "makes a grinding noise",
    "does not switch on",
    "arrived with a crack",
    "smells of smoke",
    "is the wrong size",
)
REMEDIES = {
    "send a new one": "A new one is sent",
    "give the money back": "The money is given back",
    "repair it for free": "It is repaired for free",
}
OPENINGS = ("Hello, this is {name}.", "Good morning, {name} here.", "Hi, my name is {name}.")


def broken(chance: random.Random) -> tuple[str, str]:
    name, thing, fault = chance.choice(NAMES), chance.choice(GOODS), chance.choice(FAULTS)
    remedy, outcome = chance.choice(list(REMEDIES.items()))
    days = chance.randint(2, 20)
    talk = [
        f"Customer: {chance.choice(OPENINGS).format(name=name)} I bought a {thing} and it {fault}.",
        "Shop: I am sorry to hear that. When did you buy it?",
        f"Customer: {days} days ago. I still have the receipt.",
        f"Shop: Then we will {remedy}. Is that all right?",
        "Customer: Yes, thank you very much.",
    ]
    return "\n".join(talk), f"{name}'s {thing}, bought {days} days ago, {fault}. {outcome}."


def late(chance: random.Random) -> tuple[str, str]:
    name, thing, place = chance.choice(NAMES), chance.choice(GOODS), chance.choice(PLACES)
    ordered, more = chance.randint(8, 20), chance.randint(2, 6)
    talk = [
        f"Customer: {chance.choice(OPENINGS).format(name=name)} I ordered a {thing} and it has not come.",
        "Shop: Let me look. How long ago was that?",
        f"Customer: {ordered} days ago. It should go to {place}.",
        f"Shop: I see it now. The parcel was held up and will be in {place} in {more} days.",
        "Customer: That is late, but I can wait.",
    ]
    return "\n".join(talk), (
        f"{name} ordered a {thing} {ordered} days ago, and it has not come. It will be in {place} in {more} days."
    )


def changed(chance: random.Random) -> tuple[str, str]:
    name, place = chance.choice(NAMES), chance.choice(PLACES)
    thing, other = chance.sample(GOODS, 2)
    price = chance.randint(5, 60)
    talk = [
        f"Customer: {chance.choice(OPENINGS).format(name=name)} I would like to change my order.",
        "Shop: Of course. What did you order?",
        f"Customer: A {thing}, but I would rather have a {other}, sent to {place}.",
        f"Shop: The {other} costs {price} euros more. Shall I change it?",
        "Customer: Yes, please do.",
    ]
    return "\n".join(talk), f"{name} changes an order from a {thing} to a {other}, for {price} euros more."


KINDS = (broken, late, changed)


def main() -> None:
    chance, rows = random.Random(SEED), dict[str, str]()
    while len(rows) < ROWS + FEW_SHOT_ROWS:
        talk, summary = KINDS[len(rows) % len(KINDS)](chance)
        rows[talk] = summary
    lines = [
        json.dumps({"dialogue": talk, "summary": summary}, ensure_ascii=False) + "\n" for talk, summary in rows.items()
    ]
    (DATA / "support_summaries_few_shot.jsonl").write_text("".join(lines[:FEW_SHOT_ROWS]), encoding="utf-8")
    (DATA / "support_summaries.jsonl").write_text("".join(lines[FEW_SHOT_ROWS:]), encoding="utf-8")


if __name__ == "__main__":
    main()
