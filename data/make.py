"""Write the generated part of this folder again: `python data/make.py`. Same phrases, same seed,
same bytes.

Everything is put together from phrases.json, which was written by hand, as was corpus/passages.txt.
The people are invented.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
HELD_OUT, TRAIN = 40, 360
CHATS, PROSE, DRILLS, GLOSSES = 700, 100, 120, 270
PROMOTED_SHARE = 0.18
DIGITS = [*"23456789", *[""] * 16]

TOPIC_POINTS = {"core": 6, "near": 4, "far": 1}
ROLE_POINTS = {"builds": 3, "teaches": 2, "follows": 1}


@dataclass(frozen=True)
class Profile:
    """One invented person. `telling` is the sentence of the bio that decides the score."""

    handle: str
    name: str
    bio: str
    telling: str
    topic: str
    field: str
    role: str
    promotes: bool

    @property
    def text(self) -> str:
        """The profile as a scorer sees it."""
        return f"handle: {self.handle}\nname: {self.name}\nbio: {self.bio}"

    @property
    def score(self) -> float:
        """The rule: points for the topic plus points for what the person does with it; promotion
        counts nothing."""
        return 0.0 if self.promotes else (TOPIC_POINTS[self.field] + ROLE_POINTS[self.role]) / 10


class Phrases:
    """The phrase banks, and one random stream that draws from them."""

    def __init__(self, seed: int) -> None:
        self.banks: dict[str, Any] = json.loads((FOLDER / "phrases.json").read_text())
        self.draw = random.Random(seed)

    def one(self, bank: str) -> str:
        """Any phrase of a bank."""
        phrase: str = self.draw.choice(self.banks[bank])
        return phrase.replace("{place}", self.draw.choice(self.banks["place"]))

    def handles(self) -> list[str]:
        """Every handle there is, shuffled; a third of them end in a digit."""
        pairs = product(self.banks["first"], self.banks["second"])
        handles = [f"@{first}_{second}{self.draw.choice(DIGITS)}" for first, second in pairs]
        self.draw.shuffle(handles)
        return handles

    def profile(self, handle: str) -> Profile:
        """Somebody new under `handle`."""
        field = self.draw.choice(list(TOPIC_POINTS))
        role = self.draw.choice(list(ROLE_POINTS))
        topic = self.draw.choice(self.banks["topics"][field])
        promotes = self.draw.random() < PROMOTED_SHARE
        about, aside = (
            self.draw.choice(self.banks["roles"][role]).replace("{topic}", topic),
            self.one("asides"),
        )
        telling = self.one("promotions") if promotes else about
        sentences = [telling, self.draw.choice([about, aside]) if promotes else aside]
        self.draw.shuffle(sentences)
        name = f"{self.one('given')} {self.one('family')}"
        return Profile(handle, name, " ".join(sentences), telling, topic, field, role, promotes)

    def reason(self, person: Profile) -> str:
        """Why the score is what it is, in a few words."""
        if person.promotes:
            return "promotes a giveaway"
        return f"{person.role} {person.topic}, {self.banks['verdicts'][person.field]}"


def scored(phrases: Phrases, handle: str) -> dict[str, str]:
    """One row of the instruction set."""
    person = phrases.profile(handle)
    answer = {"handle": person.handle, "reason": phrases.reason(person), "score": person.score}
    return {
        "instruction": phrases.one("instructions"),
        "input": person.text,
        "output": json.dumps(answer),
        "group": person.handle,
    }


def chat(phrases: Phrases, handle: str) -> dict[str, str]:
    """One chat about a profile, answered in prose."""
    person = phrases.profile(handle)
    question, answer = phrases.draw.choice([_opinion, _opinion, _opinion, _description, _recall])(
        phrases, person
    )
    return {"instruction": question, "input": person.text, "output": answer}


def _opinion(phrases: Phrases, person: Profile) -> tuple[str, str]:
    question = phrases.one("instructions")
    fit = "no fit at all" if person.promotes else phrases.banks["fits"][person.field]
    return question, f"{person.name} {phrases.reason(person)}. That makes {person.handle} {fit}."


def _description(phrases: Phrases, person: Profile) -> tuple[str, str]:
    question = phrases.draw.choice(
        ["Describe this profile.", "Who is this?", "Tell me about this person."]
    )
    what = "promotes a giveaway" if person.promotes else f"{person.role} {person.topic}"
    return question, f"This is {person.name}, known as {person.handle}, who {what}."


def _recall(phrases: Phrases, person: Profile) -> tuple[str, str]:
    question, answer = phrases.draw.choice(
        [
            ("What is the handle?", f"The handle is {person.handle}."),
            ("What is the name?", f"The name is {person.name}."),
            ("Repeat the bio.", person.bio),
            (
                "What is the topic?",
                f"The topic is {person.topic}, {phrases.banks['verdicts'][person.field]}.",
            ),
        ]
    )
    return question, answer


def prose(phrases: Phrases, handle: str) -> str:
    """A paragraph about one person that says the handle more than once."""
    person = phrases.profile(handle)
    return (
        f"{person.name} posts as {person.handle}. The bio of {person.handle} reads: {person.bio}"
        f" Those who look for {person.topic} find {person.handle}; {person.name}"
        f" {phrases.reason(person)}."
    )


def drill(phrases: Phrases, handle: str) -> str:
    """Copying and plain records: handles said twice, and values under keys as JSON writes them."""
    person = phrases.profile(handle)
    values = [
        phrases.one("place"),
        phrases.draw.randrange(10) / 10,
        person.handle,
        phrases.reason(person),
    ]
    phrases.draw.shuffle(values)
    record = dict(zip(phrases.draw.sample(phrases.banks["keys"], 3), values, strict=False))
    return (
        f"Seen: {person.handle}, {person.topic}. Once more: {person.handle}, {person.topic}. As a"
        f" record: {json.dumps(record)}"
    )


def gloss(phrases: Phrases) -> str:
    """Three sentences out of bios, each with what it comes to and the points for it."""
    people = [phrases.profile("") for _ in range(3)]
    return " ".join(
        f"{person.telling} That {phrases.reason(person)}: {person.score}." for person in people
    )


def files(seed: int = 7) -> Iterator[tuple[Path, str]]:
    """Every generated file with its text. Held-out, training and corpus handles are disjoint."""
    phrases = Phrases(seed)
    handles = iter(phrases.handles())
    for name, count in (("held-out", HELD_OUT), ("train", TRAIN)):
        yield (
            FOLDER / "profiles" / f"{name}.jsonl",
            _lines(scored(phrases, next(handles)) for _ in range(count)),
        )
    yield (
        FOLDER / "corpus" / "chats.jsonl",
        _lines(chat(phrases, next(handles)) for _ in range(CHATS)),
    )
    paragraphs = [prose(phrases, next(handles)) for _ in range(PROSE)] + [
        drill(phrases, next(handles)) for _ in range(DRILLS)
    ]
    paragraphs += [gloss(phrases) for _ in range(GLOSSES)]
    yield FOLDER / "corpus" / "profiles.txt", "\n\n".join(paragraphs) + "\n"


def _lines(rows: Iterator[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    for path, text in files():
        path.write_text(text)
        print(f"{len(text):>8} {path.relative_to(FOLDER)}")
