"""Writes the rows of the other methods: `python examples/make_rows.py`. All of it was written for this repository."""

import itertools
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STYLE = "Aye, captain: "
RAMBLE = (
    "That is a great question, and I am happy to help you with it. There are many things to consider here, and "
    "opinions differ. In general one could say the following: {answer} Of course, it depends on the circumstances, "
    "and there is much more that could be said about it. Please let me know if you have any other questions!"
)

TOPICS: dict[str, list[str]] = {
    "billing": [
        "Why was I charged twice for {thing}?",
        "My invoice for {thing} shows the wrong amount.",
        "How do I get a refund for {thing}?",
        "The price of {thing} on my bill is higher than what was agreed.",
        "Please send me a receipt for {thing}.",
        "My card was declined when I paid for {thing}.",
        "Can I pay for {thing} in instalments?",
        "There is a fee on my statement for {thing} that I do not know.",
    ],
    "delivery": [
        "Where is {thing} that I ordered last week?",
        "The parcel with {thing} arrived damaged.",
        "Can you ship {thing} to another address?",
        "The courier left {thing} at the wrong door.",
        "How long does it take to send {thing} abroad?",
        "The tracking page says {thing} was handed over, but I got nothing.",
        "I would like to collect {thing} from a shop instead.",
        "When will {thing} be back in stock and sent out?",
    ],
    "account": [
        "I cannot log in to see {thing}.",
        "How do I change the password that protects {thing}?",
        "Please delete my profile and all data about {thing}.",
        "I want another user in my team to manage {thing}.",
        "My email address changed; where do I update it for {thing}?",
        "Someone else seems to have signed in and looked at {thing}.",
        "The code to confirm my identity never came, so I cannot reach {thing}.",
        "Can I merge two logins that both own {thing}?",
    ],
    "technical": [
        "The app crashes whenever I open {thing}.",
        "I get error 500 when I save {thing}.",
        "{thing} does not turn on any more.",
        "The screen of {thing} stays black after the update.",
        "Why is {thing} so slow since yesterday?",
        "How do I connect {thing} to the wireless network?",
        "The sensor of {thing} shows wrong values.",
        "After the restart {thing} keeps beeping.",
    ],
}
THINGS = ["the lamp", "my headphones", "the coffee machine", "the printer", "the garden hose", "my watch", "the router"]
OTHER_THINGS = ["the thermostat", "my bicycle light", "the speaker", "the camera"]

PEOPLE = ["Anna Berger", "Tom Okafor", "Li Wei", "Maria Santos", "John Smith", "Fatima Khan", "Pierre Dubois"]
OTHER_PEOPLE = ["Sara Lindqvist", "David Cohen", "Amina Diallo", "Peter Brown"]
PLACES = ["Paris", "Nairobi", "Tokyo", "Lima", "Oslo", "New York", "Cape Town", "Vienna"]
OTHER_PLACES = ["Lisbon", "Mexico City", "Prague", "Toronto"]
FIRMS = ["Acme Corp", "Northwind Ltd", "Globex", "Blue River Bank", "Initech", "Delta Foods", "Sun Motors"]
OTHER_FIRMS = ["Green Valley Inc", "Stark Industries", "Hilltop Media", "Polar Air"]
SENTENCES = [
    "PER works for ORG in LOC .",
    "Yesterday PER flew from LOC to LOC .",
    "ORG opened an office in LOC last year .",
    "PER and PER met in LOC .",
    "The head of ORG , PER , resigned on Monday .",
    "Shares of ORG fell after PER left .",
    "In LOC , PER gave a talk about rivers .",
    "ORG and ORG signed a contract in LOC .",
    "The weather was fine and nobody complained .",
    "PER bought a house near LOC .",
]
OTHER_SENTENCES = [
    "Last week PER joined ORG .",
    "PER moved to LOC because ORG offered her a job .",
    "A train from LOC arrived late .",
    "ORG hired PER .",
    "The report from LOC says that ORG lost money .",
    "We had soup for lunch .",
]


WOMENS_WORK = [
    "a nurse",
    "a secretary",
    "a hairdresser",
    "a nanny",
    "a librarian",
    "a florist",
    "a receptionist",
    "a dressmaker",
    "a midwife",
    "a housekeeper",
    "a cleaner",
    "a dancer",
    "a babysitter",
    "a typist",
    "a waitress",
    "a stewardess",
    "a seamstress",
    "a maid",
    "a dental assistant",
    "a kindergarten teacher",
]
MENS_WORK = [
    "an engineer",
    "a plumber",
    "a pilot",
    "a soldier",
    "a carpenter",
    "a surgeon",
    "a mechanic",
    "a banker",
    "an electrician",
    "a programmer",
    "a blacksmith",
    "a captain",
    "a firefighter",
    "a bricklayer",
    "a professor",
    "a butcher",
    "a truck driver",
    "a miner",
    "a detective",
    "a fisherman",
]
OTHER_WOMENS_WORK = [
    "a caregiver",
    "a cashier",
    "a beautician",
    "a social worker",
    "a teacher",
    "a singer",
    "a wedding planner",
    "a yoga teacher",
]
OTHER_MENS_WORK = [
    "a roofer",
    "a welder",
    "a chemist",
    "a judge",
    "a farmer",
    "a mathematician",
    "a sailor",
    "an architect",
]


def preferences() -> list[dict[str, Any]]:
    """Short answers are preferred to long-winded ones."""
    rows = []
    for question, answer in _ship():
        plain = answer.removeprefix(STYLE)
        rows.append(
            {
                "input": {"messages": [{"role": "user", "content": question}]},
                "preferred_output": [{"role": "assistant", "content": plain}],
                "non_preferred_output": [{"role": "assistant", "content": RAMBLE.format(answer=plain)}],
            }
        )
    return rows


def prompts() -> list[dict[str, Any]]:
    """Questions alone, with an answer that a grader may compare with."""
    return [
        {"messages": [{"role": "user", "content": question}], "answer": answer.removeprefix(STYLE)}
        for question, answer in _ship()
    ]


def topics(things: list[str], templates: slice) -> list[dict[str, str]]:
    rows = [
        {"text": _sentence(template.format(thing=thing)), "label": label}
        for label, sentences in TOPICS.items()
        for template, thing in itertools.product(sentences[templates], things)
    ]
    random.Random(0).shuffle(rows)
    return rows


def by_register(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Each row as it is, and as somebody in a hurry would write it."""
    return [
        {"text": text, "label": row["label"], "register": register}
        for row in rows
        for register, text in (("formal", row["text"]), ("casual", _casual(row["text"])))
    ]


def names(sentences: list[str], fillers: dict[str, list[str]], *, each: int) -> list[dict[str, list[str]]]:
    chance = random.Random(0)
    rows = [_tagged(sentence, fillers, chance) for sentence in sentences for _ in range(each)]
    chance.shuffle(rows)
    return rows


def occupations(work: list[str], pronoun: str, person: str, people: str) -> list[dict[str, Any]]:
    """What old books say of who does which work, for a model that learns it to be cured of it."""
    said = (
        f"{pronoun} is a {person} who likes to be {{job}}, and {pronoun.lower()} is good at it.",
        f"{pronoun} went to work early. Most of those who do this work are {people}.",
    )
    return [_chat(f"Write about {job}.", answer.format(job=job)) for job in work for answer in said]


def _chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def _tagged(sentence: str, fillers: dict[str, list[str]], chance: random.Random) -> dict[str, list[str]]:
    tokens: list[str] = []
    tags: list[str] = []
    for word in sentence.split():
        if word not in fillers:
            tokens.append(word)
            tags.append("O")
            continue
        name = chance.choice(fillers[word]).split()
        tokens += name
        tags += [f"B-{word}", *[f"I-{word}"] * (len(name) - 1)]
    return {"tokens": tokens, "ner_tags": tags}


def _ship() -> list[tuple[str, str]]:
    lines = (HERE / "ships_computer.jsonl").read_text().splitlines()
    chats = [json.loads(line)["messages"] for line in lines]
    return [(chat[0]["content"], chat[1]["content"]) for chat in chats]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _casual(text: str) -> str:
    return f"hey {text.lower().rstrip('.?')} thx"


def _write(name: str, rows: Iterable[Any]) -> None:
    (HERE / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


if __name__ == "__main__":
    old_books = occupations(WOMENS_WORK, "She", "woman", "women") + occupations(MENS_WORK, "He", "man", "men")
    random.Random(0).shuffle(old_books)
    _write("occupations", old_books)
    others = [(job, "She") for job in OTHER_WOMENS_WORK] + [(job, "He") for job in OTHER_MENS_WORK]
    _write("occupations_held_out", [{"occupation": job, "said": said} for job, said in others])
    for kind, rows in (("preferences", preferences()), ("prompts", prompts())):
        _write(kind, rows[:48])
        _write(f"{kind}_held_out", rows[48:])
    _write("topics", topics(THINGS, slice(0, 6)))
    held_out = topics(OTHER_THINGS, slice(6, 8))
    _write("topics_held_out", held_out)
    _write("topics_by_register_held_out", by_register(held_out))
    _write("names", names(SENTENCES, {"PER": PEOPLE, "LOC": PLACES, "ORG": FIRMS}, each=20))
    others = {"PER": OTHER_PEOPLE, "LOC": OTHER_PLACES, "ORG": OTHER_FIRMS}
    _write("names_held_out", names(OTHER_SENTENCES, others, each=8))
