"""Which sentences can be said about a company? The forms of a statement; english.py and chinese.py hold the words.

A statement's sentiment follows from its parts: a measure that is good or bad when it rises, a direction, and forms that
keep the sense (it may happen), turn it round (it did not happen) or take it away (nobody says). In a contrast the main
clause decides. Counting words is therefore not enough to tell the sentiment; order and negation matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from apps.sample_world.world import Company, Dice, Name, World, make_person

GOOD, NEUTRAL, BAD = 1, 0, -1
LABELS = {GOOD: "positive", NEUTRAL: "neutral", BAD: "negative"}

Verb = tuple[str, str]  # as it happened, as it may happen ("won an order", "win an order")


@dataclass(frozen=True)
class Events:
    """What can happen to a company under one topic."""

    good: tuple[Verb, ...]
    bad: tuple[Verb, ...]
    neutral: tuple[Verb, ...]


@dataclass(frozen=True)
class Grammar:
    """The words and forms of one language."""

    language: str
    metrics: tuple[tuple[str, int], ...]  # a measure, and 1 if its rise is good or -1 if it is bad
    rise: tuple[Verb, ...]
    fall: tuple[Verb, ...]
    hoped: str
    feared: str
    moved: tuple[str, ...]  # forms with {metric} and {verb}
    not_moved: tuple[str, ...]  # with {metric}, {verb} as it may happen, and {feeling}: turns the sense round
    steady: tuple[str, ...]  # with {metric}: neutral
    events: Mapping[str, Events]
    happened: tuple[str, ...]  # forms with {verb} as it happened
    may_happen: tuple[str, ...]  # with {verb} as it may happen: keeps the sense
    did_not_happen: tuple[str, ...]  # with {feeling}: turns the sense round
    unknown: tuple[str, ...]  # takes the sense away
    contrast: tuple[str, ...]  # with {aside} and {main}: the main clause decides
    periods: tuple[str, ...]
    days: tuple[str, ...]
    amounts: tuple[str, ...]  # with {number}
    end: str  # of a sentence


@dataclass(frozen=True)
class Statement:
    """One clause without its full stop."""

    text: str
    sentiment: int
    topic: str


class Scene(dict[str, str]):
    """What the slots of a form are filled with: fixed for who and where, drawn anew for every number."""

    def __init__(self, dice: Dice, world: World, company: Company, grammar: Grammar) -> None:
        """Chooses the people, the product and the partner of one story."""
        self.dice, self.grammar = dice, grammar
        language = grammar.language
        product, second = dice.some(company.industry.products, 2)
        partner, rival = dice.some(world.companies, 2)
        facts: dict[str, Name] = {
            "company": company.name, "head": company.head, "town": company.town.name, "product": product,
            "second_product": second, "trade": company.industry.trade, "input": company.industry.input,
            "partner": partner.name, "rival": rival.name, "new_head": make_person(dice), "analyst": make_person(dice),
            "site": dice.pick(world.towns).name,
        }  # fmt: skip
        period = dice.pick(grammar.periods)
        super().__init__({key: name[language] for key, name in facts.items()} | {"period": period})

    def __missing__(self, key: str) -> str:
        """A fresh number or date."""
        dice, grammar = self.dice, self.grammar
        if key == "percent":
            return f"{dice.between(1, 48)}" if dice.chance(0.5) else f"{dice.between(10, 480) / 10:.1f}"
        if key == "amount":
            return dice.pick(grammar.amounts).format(number=dice.between(2, 96) * dice.pick((1, 5, 10)))
        if key == "day":
            return dice.pick(grammar.days)
        if key == "count":
            return str(dice.between(2, 90) * 10)
        if key == "year":
            return str(dice.between(2016, 2024))
        if key == "low":
            return str(dice.between(10, 49))
        if key == "high":
            return str(dice.between(50, 99))
        raise KeyError(key)


def say(form: str, scene: Scene, **slots: str) -> str:
    """Fills a form; slots may themselves hold slots."""
    for _ in range(2):
        form = form.format_map(_Both(scene, slots))
    return form


class _Both(dict[str, str]):
    def __init__(self, scene: Scene, slots: Mapping[str, str]) -> None:
        super().__init__(slots)
        self._scene = scene

    def __missing__(self, key: str) -> str:
        return self._scene[key]


def sentence(statement: str, grammar: Grammar) -> str:
    """A clause as a sentence: capital letter and full stop."""
    return statement[0].upper() + statement[1:] + grammar.end


def measure(scene: Scene, topic: str = "results") -> Statement:
    """Something that is measured rose, fell, or stayed."""
    dice, grammar = scene.dice, scene.grammar
    metric, sign = dice.pick(grammar.metrics)
    if dice.chance(0.2):
        return Statement(say(dice.pick(grammar.steady), scene, metric=metric), NEUTRAL, topic)
    direction = dice.pick((GOOD, BAD))
    verb = dice.pick(grammar.rise if direction == GOOD else grammar.fall)
    sense = sign * direction
    if dice.chance(0.25):
        feeling = grammar.hoped if sense == GOOD else grammar.feared
        form = dice.pick(grammar.not_moved)
        return Statement(say(form, scene, metric=metric, verb=verb[1], feeling=feeling), -sense, topic)
    return Statement(say(dice.pick(grammar.moved), scene, metric=metric, verb=verb[0]), sense, topic)


def event(scene: Scene, topic: str) -> Statement:
    """Something happened, may happen, did not happen, or nobody says."""
    dice, grammar = scene.dice, scene.grammar
    sense = dice.pick((GOOD, BAD, NEUTRAL))
    events = grammar.events[topic]
    verb = dice.pick({GOOD: events.good, BAD: events.bad, NEUTRAL: events.neutral}[sense])
    feeling = grammar.hoped if sense == GOOD else grammar.feared
    roll = dice.below(20)
    if roll < 12 or sense == NEUTRAL:
        return Statement(say(dice.pick(grammar.happened), scene, verb=verb[0]), sense, topic)
    if roll < 15:
        return Statement(say(dice.pick(grammar.may_happen), scene, verb=verb[1]), sense, topic)
    if roll < 18:
        form = dice.pick(grammar.did_not_happen)
        return Statement(say(form, scene, verb=verb[1], feeling=feeling), -sense, topic)
    return Statement(say(dice.pick(grammar.unknown), scene, verb=verb[1]), NEUTRAL, topic)


def statement(scene: Scene, topic: str) -> Statement:
    """A statement on the topic, at times a contrast of two."""
    main = _plain(scene, topic)
    if not scene.dice.chance(0.2):
        return main
    aside = _plain(scene, topic)
    form = scene.dice.pick(scene.grammar.contrast)
    return Statement(form.format(aside=aside.text, main=main.text), main.sentiment, topic)


def _plain(scene: Scene, topic: str) -> Statement:
    return measure(scene) if topic == "results" else event(scene, topic)


def topics(grammar: Grammar) -> tuple[str, ...]:
    """All topics: the measured results, and those of the events."""
    return ("results", *grammar.events)
