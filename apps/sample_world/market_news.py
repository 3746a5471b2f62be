"""How is a market report told? Documents whose sentences follow from each other, and single labelled sentences."""

# ruff: noqa: E501 - tables of phrases read best one entry to a line

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from apps.sample_world.chinese import CHINESE
from apps.sample_world.english import ENGLISH
from apps.sample_world.grammar import BAD, GOOD, LABELS, NEUTRAL, Grammar, Scene, say, sentence, statement, topics
from apps.sample_world.world import Company, Dice, World

GRAMMARS = {"en": ENGLISH, "zh": CHINESE}
LABEL_NOISE = 0.04  # share of the labelled sentences that carry a wrong label, in train and test alike

_TITLES: Mapping[str, Mapping[str, str]] = {
    "en": {
        "results": "{company} and its figures for {period}", "orders": "{company}: news on orders for {product}",
        "products": "{company} and its {product}", "staff": "Staff at {company} in {town}",
        "finance": "The money of {company}", "law": "{company} before the authorities",
        "plants": "The plants of {company}",
    },
    "zh": {
        "results": "{company}{period}业绩", "orders": "{company}{product}订单动态", "products": "{company}与{product}",
        "staff": "{company}员工动态", "finance": "{company}资金情况", "law": "{company}与监管部门", "plants": "{company}工厂动态",
    },
}  # fmt: skip

_BACKGROUND = {
    "en": (
        "{company} makes {product} and {second_product} in {town}.",
        "The company has its seat in {town} and is led by {head}.",
        "{head} has led {company} since {year}.",
        "Its largest customer for {product} is {partner}.",
        "In the market for {product} its main rival is {rival}.",
        "It needs a good deal of {input} for its {product}.",
    ),
    "zh": (
        "{company}在{town}生产{product}和{second_product}。", "公司总部位于{town}，由{head}领导。", "{head}自{year}年起领导{company}。",
        "{product}的最大客户是{partner}。", "在{product}市场上，{rival}是它的主要对手。", "生产{product}需要大量{input}。",
    ),
}  # fmt: skip

_REACTIONS: Mapping[str, Mapping[int, tuple[str, ...]]] = {
    "en": {
        GOOD: (
            "The shares of {company} gained {percent} percent after the news.",
            "\"This is a good day for {town},\" said {head}.",
            "{head} said the company was stronger than ever in {product}.",
            "Analyst {analyst} advised investors to buy the share.",
            "{partner} welcomed the news and wants to order more {product}.",
        ),
        BAD: (
            "The shares of {company} lost {percent} percent after the news.",
            "\"We are disappointed, and we will learn from it,\" said {head}.",
            "{head} admitted that the business with {product} was in trouble.",
            "Analyst {analyst} advised investors to sell the share.",
            "{partner} is worried and may look for another supplier of {product}.",
        ),
        NEUTRAL: (
            "The shares of {company} hardly moved after the news.",
            "\"There is nothing more to add at present,\" said {head}.",
            "{head} said the plans for {product} had not changed.",
            "Analyst {analyst} left the advice on the share as it was.",
            "{partner} did not wish to comment.",
        ),
    },
    "zh": {
        GOOD: (
            "消息公布后，{company}股价上涨{percent}%。", "{head}说：“今天对{town}来说是个好日子。”", "{head}表示，公司在{product}领域比以往更强。",
            "分析师{analyst}建议投资者买入该股。", "{partner}对此表示欢迎，并打算订购更多{product}。",
        ),
        BAD: (
            "消息公布后，{company}股价下跌{percent}%。", "{head}说：“我们感到失望，会从中吸取教训。”", "{head}承认，{product}业务遇到了困难。",
            "分析师{analyst}建议投资者卖出该股。", "{partner}感到担忧，可能另找{product}供应商。",
        ),
        NEUTRAL: (
            "消息公布后，{company}股价几乎没有变动。", "{head}说：“目前没有更多消息可以补充。”", "{head}表示，{product}的计划没有改变。",
            "分析师{analyst}维持对该股的评级。", "{partner}不愿置评。",
        ),
    },
}  # fmt: skip

_OUTLOOK = {
    "en": (
        "{head} will speak about the plans for {product} on {day}.",
        "For {year} the company plans to spend {amount} on its {product}.",
        "The next figures are due on {day}.",
        "The people of {town} now look to what {head} will do next.",
    ),
    "zh": (
        "{head}将在{day}介绍{product}的计划。", "公司计划在{year}年为{product}投入{amount}。", "下一份业绩报告将于{day}公布。",
        "{town}的居民都在关注{head}下一步的行动。",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Labelled:
    """One labelled sentence."""

    text: str
    label: str
    topic: str
    language: str


def reports(dice: Dice, world: World, language: str) -> Iterator[str]:
    """Endless documents."""
    while True:
        yield _report(dice, world, language)


def labelled_sentences(dice: Dice, world: World, companies: tuple[Company, ...], language: str) -> Iterator[Labelled]:
    """Endless labelled sentences about some companies; `LABEL_NOISE` of the labels are wrong on purpose."""
    grammar: Grammar = GRAMMARS[language]
    while True:
        scene = Scene(dice, world, dice.pick(companies), grammar)
        said = statement(scene, dice.pick(topics(grammar)))
        label = said.sentiment
        if dice.chance(LABEL_NOISE):
            label = dice.pick([other for other in LABELS if other != label])
        yield Labelled(sentence(said.text, grammar), LABELS[label], said.topic, language)


def _report(dice: Dice, world: World, language: str) -> str:
    """A document: title line, then paragraphs on one company and one topic: what happened, reactions, background."""
    grammar = GRAMMARS[language]
    scene = Scene(dice, world, dice.pick(world.companies), grammar)
    topic = dice.pick(topics(grammar))
    space = " " if language == "en" else ""
    lines = [f"<DOC> {say(_TITLES[language][topic], scene)}"]
    for part in range(dice.between(2, 4)):
        lead = statement(scene, topic)
        told = [sentence(lead.text, grammar)]
        told += [say(form, scene) for form in dice.some(_REACTIONS[language][lead.sentiment], dice.between(1, 2))]
        told += [say(form, scene) for form in dice.some(_BACKGROUND[language], dice.between(1, 2) if part < 2 else 0)]
        lines.append(space.join(told))
    lines.append(space.join(say(form, scene) for form in dice.some(_OUTLOOK[language], dice.between(1, 2))))
    return "\n".join(lines) + "\n"
