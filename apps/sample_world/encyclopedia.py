"""What does the sample world's encyclopedia say? One article per town and company, in either language."""

# ruff: noqa: E501 - tables of phrases read best one entry to a line

from collections.abc import Iterator

from apps.sample_world.world import Company, Dice, Town, World

_FLOWERS = (("lilies", "百合"), ("maples", "枫树"), ("plum trees", "梅树"), ("roses", "玫瑰"), ("bamboo", "竹子"))
_SEASONS = (("spring", "春天"), ("summer", "夏天"), ("autumn", "秋天"), ("winter", "冬天"))
_DISHES = (
    ("smoked fish", "熏鱼"),
    ("apple cake", "苹果糕"),
    ("lamb soup", "羊肉汤"),
    ("rice noodles", "米粉"),
    ("rye bread", "黑麦面包"),
)


def articles(dice: Dice, world: World, language: str) -> Iterator[str]:
    """Every town and every company of the world, as `<DOC>` documents; endless, with other details in later rounds."""
    while True:
        for town in world.towns:
            yield _town(dice, world, town, language)
        for company in world.companies:
            yield _company(dice, company, language)


def _town(dice: Dice, world: World, town: Town, language: str) -> str:
    here = [company for company in world.companies if company.town == town]
    flower, season, dish = dice.pick(_FLOWERS), dice.pick(_SEASONS), dice.pick(_DISHES)
    bridge, visitors = town.founded + dice.between(60, 150), dice.between(5, 95)
    name, river, region, known_for = (thing[language] for thing in (town.name, town.river, town.region, town.known_for))
    if language == "en":
        people = f"About {town.thousands},000 people live there, and {visitors},000 visitors come in a year."
        work = [f"{company.name.en} makes {company.industry.products[0].en} there." for company in here]
        paragraphs = [
            f"{name} is a town on {river} in {region}. It is known for {known_for}. {people}",
            f"The town was founded in {town.founded}. A stone bridge over {river} followed in {bridge}. "
            f"After the bridge was built, {name} grew quickly.",
            f"In {season[0]} the streets of {name} are full of {flower[0]}. A dish that every guest should try is "
            f"{dish[0]}. The people of {name} eat it when the boats return on {river}.",
            *([" ".join([f"Many people of {name} work in industry.", *work])] if work else []),
        ]
        order = [0, 1, *dice.some(range(2, len(paragraphs)), 2)]
    else:
        people = f"那里约有{town.thousands}千名居民，每年有{visitors}千名游客到访。"
        work = [f"{company.name.zh}在那里生产{company.industry.products[0].zh}。" for company in here]
        paragraphs = [
            f"{name}是{region}{river}畔的一座城镇。它以{known_for}闻名。{people}",
            f"这座城镇建于{town.founded}年。{bridge}年，{river}上建起了一座石桥。石桥建成以后，{name}发展很快。",
            f"每到{season[1]}，{name}的街道两旁满是{flower[1]}。每位客人都应该尝尝这里的{dish[1]}。"
            f"渔船回到{river}时，{name}的居民就会吃这道菜。",
            *(["".join([f"{name}的许多居民在工厂上班。", *work])] if work else []),
        ]
        order = [0, 1, *dice.some(range(2, len(paragraphs)), 2)]
    return "\n".join([f"<DOC> {name}", *(paragraphs[part] for part in order)]) + "\n"


def _company(dice: Dice, company: Company, language: str) -> str:
    first, second, third = dice.some(company.industry.products, 3)
    expanded = company.founded + dice.between(3, 15)
    floated = expanded + dice.between(2, 20)
    share = dice.between(20, 80)
    name, trade, town, head = (
        thing[language] for thing in (company.name, company.industry.trade, company.town.name, company.head)
    )
    needed = company.industry.input[language]
    if language == "en":
        paragraphs = [
            f"{name} is a company in the {trade} trade. It was founded in {town} in {company.founded}. "
            f"Today it employs {company.employees} people.",
            f"At first the company only made {first.en}. In {expanded} it began to make {second.en} as well. "
            f"Since {floated} its shares have been traded, and {third.en} have been added since then.",
            f"The head of the company is {head}. {head} comes from {town} and began as an apprentice in the same works. "
            f"Under {head} the share of {first.en} in all sales has grown to {share} percent.",
            f"The works use {needed}, which reaches {town} by ship on {company.town.river.en}. "
            f"When {needed} becomes dear, {first.en} become dear too.",
        ]
    else:
        paragraphs = [
            f"{name}是一家{trade}企业。公司于{company.founded}年在{town}成立。如今公司有{company.employees}名员工。",
            f"起初，公司只生产{first.zh}。{expanded}年，公司开始生产{second.zh}。{floated}年公司股票上市，此后又增加了{third.zh}。",
            f"公司的负责人是{head}。{head}是{town}人，最早在同一家工厂当学徒。在{head}的领导下，{first.zh}占销售额的比例升至{share}%。",
            f"工厂使用的{needed}经{company.town.river.zh}水运到{town}。{needed}涨价时，{first.zh}也会涨价。",
        ]
    return "\n".join([f"<DOC> {name}", *paragraphs]) + "\n"
