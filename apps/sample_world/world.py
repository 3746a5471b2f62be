"""Who and what is there in the sample world? Companies, towns, people and products, each with an English and a Chinese name.

All of it is invented. Only `random.Random.random()` and exact arithmetic are used, so the same seed gives the same bytes
on every machine and every version of Python.
"""

# ruff: noqa: E501, SIM905 - tables of phrases read best one entry to a line

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Thing = TypeVar("Thing")


class Dice:
    """Seeded choices that do not depend on how a version of Python implements `choice` and `shuffle`."""

    def __init__(self, *seed: object) -> None:
        self._random = random.Random("/".join(map(str, seed))).random

    def below(self, stop: int) -> int:
        """An integer in [0, stop)."""
        return int(self._random() * stop)

    def between(self, first: int, last: int) -> int:
        """An integer in [first, last]."""
        return first + self.below(last - first + 1)

    def chance(self, share: float) -> bool:
        """True in that share of the calls."""
        return self._random() < share

    def pick(self, things: Sequence[Thing]) -> Thing:
        """One of the things."""
        return things[self.below(len(things))]

    def some(self, things: Sequence[Thing], count: int) -> list[Thing]:
        """That many different things, in random order."""
        pool = list(things)
        return [pool.pop(self.below(len(pool))) for _ in range(min(count, len(pool)))]

    def bell(self) -> float:
        """Roughly a standard normal number: a sum of twelve uniform ones, exact on every machine."""
        return sum(self._random() for _ in range(12)) - 6.0


@dataclass(frozen=True)
class Name:
    """One thing's names in both languages."""

    en: str
    zh: str

    def __getitem__(self, language: str) -> str:
        return self.en if language == "en" else self.zh


@dataclass(frozen=True)
class Industry:
    """A trade: what its companies are called, make and buy."""

    suffix: Name
    trade: Name
    products: tuple[Name, ...]
    input: Name


@dataclass(frozen=True)
class Town:
    """A place with a river and a trade that it is known for."""

    name: Name
    river: Name
    region: Name
    known_for: Name
    founded: int
    thousands: int


@dataclass(frozen=True)
class Company:
    """A company, its head, its seat and what it makes."""

    name: Name
    industry: Industry
    head: Name
    town: Town
    founded: int
    employees: int


def _names(*pairs: str) -> tuple[Name, ...]:
    return tuple(Name(*pair.split("|")) for pair in pairs)


INDUSTRIES = tuple(
    Industry(Name(*suffix.split("|")), Name(*trade.split("|")), _names(*products), Name(*needed.split("|")))
    for suffix, trade, products, needed in (
        ("Electronics|电子", "electronics|电子", ("circuit boards|电路板", "sensors|传感器", "chargers|充电器"), "copper|铜"),
        ("Software|软件", "software|软件", ("payroll software|薪资软件", "map services|地图服务", "search tools|检索工具"), "computing time|算力"),
        ("Energy|能源", "energy|能源", ("wind turbines|风力发电机", "heat pumps|热泵", "batteries|电池"), "steel|钢材"),
        ("Foods|食品", "food|食品", ("oat biscuits|燕麦饼干", "frozen soups|冷冻汤料", "fruit juices|果汁"), "wheat|小麦"),
        ("Bank|银行", "banking|银行业", ("home loans|住房贷款", "savings accounts|储蓄账户", "credit cards|信用卡"), "deposits|存款"),
        ("Shipping|航运", "shipping|航运", ("container services|集装箱运输", "ferry lines|渡轮航线", "cold storage|冷链仓储"), "fuel|燃油"),
        ("Pharma|制药", "medicine|制药", ("vaccines|疫苗", "painkillers|止痛药", "eye drops|滴眼液"), "raw compounds|原料药"),
        ("Paper|纸业", "paper|造纸", ("packaging board|包装纸板", "printing paper|印刷纸", "paper towels|纸巾"), "pulp|纸浆"),
        ("Motors|汽车", "vehicles|汽车", ("delivery vans|货车", "city buses|公交车", "tractors|拖拉机"), "aluminium|铝材"),
        ("Textiles|纺织", "textiles|纺织", ("work clothes|工作服", "carpets|地毯", "sports shoes|运动鞋"), "cotton|棉花"),
        ("Telecom|通信", "telecommunications|通信", ("mobile plans|手机套餐", "fibre lines|光纤宽带", "satellite links|卫星通信"), "fibre cable|光缆"),
        ("Construction|建设", "construction|建筑", ("bridges|桥梁", "office towers|写字楼", "school buildings|校舍"), "cement|水泥"),
    )
)  # fmt: skip

_EN_HEADS = tuple(
    "Nor Vel Tam Kes Bran Ost Lum Rav Hal Dor Sel Mir Quen Arv Pel Jor Fen Zan Cal Tor Wes Ild Gar Ven".split()
)
_EN_TAILS = tuple("vela ton mark dale era onix holm ika stad ley oria und ex wick ara mont".split())
_ZH_HEADS = tuple("北 维 塔 柯 远 欧 明 珊 潮 东 赛 米 泉 雅 培 嘉 峰 展 棠 腾 文 怡 佳 苇".split())
_ZH_TAILS = tuple("维 通 马 达 信 宁 和 佳 泰 利 润 德 思 威 诺 蒙".split())
_EN_FIRST = tuple(
    "Anna Peter Maria John Elena Oskar Lucy Daniel Ruth Victor Clara Henry Nina Simon Paula Marcus".split()
)
_EN_LAST = tuple(
    "Halden Brook Moreau Lindqvist Carter Novak Ferris Okoro Tanaka Weaver Rossi Berger Santos Keller".split()
)
_ZH_FIRST = tuple("李 王 张 刘 陈 杨 赵 黄 周 吴 徐 孙 胡 朱 高 林".split())
_ZH_LAST = tuple("晓明 雅文 建国 丽华 志远 思琪 海峰 美玲 文博 晨曦 国强 雪梅 子涵 俊杰".split())
_EN_TOWN = tuple("Alder Birch Stone Clear Green River Silver North East High Maple Salt".split())
_EN_TOWN_END = tuple("ford bridge haven field port".split())
_ZH_TOWN = tuple("桤 桦 石 清 绿 河 银 北 东 高 枫 盐".split())
_ZH_TOWN_END = tuple("渡 桥 港 原 口".split())
_RIVERS = _names(
    "the Aven|阿文河", "the Lorne|洛恩河", "the Mira|米拉河", "the Tessel|特塞尔河", "the Oda|奥达河", "the Wend|文德河"
)
_REGIONS = _names(
    "the northern plain|北部平原",
    "the eastern hills|东部丘陵",
    "the southern coast|南部海岸",
    "the western valley|西部山谷",
)
_KNOWN_FOR = _names(
    "its fish market|鱼市", "its glass works|玻璃工坊", "its old university|古老的大学", "its apple orchards|苹果园",
    "its railway museum|铁路博物馆", "its tea houses|茶馆", "its summer festival|夏季庆典", "its clock tower|钟楼",
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """Everything that texts are written about."""

    companies: tuple[Company, ...]
    unseen: tuple[Company, ...]  # only test texts speak of these
    towns: tuple[Town, ...]


def make_world(seed: int, num_companies: int = 120, num_unseen: int = 40) -> World:
    """The world of a seed: sixty towns and the companies in them."""
    dice = Dice(seed, "world")
    towns = tuple(
        Town(
            Name(en + en_end, zh + zh_end), dice.pick(_RIVERS), dice.pick(_REGIONS), dice.pick(_KNOWN_FOR),
            dice.between(1100, 1850), dice.between(12, 900),
        )
        for en, zh in zip(_EN_TOWN, _ZH_TOWN, strict=True)
        for en_end, zh_end in zip(_EN_TOWN_END, _ZH_TOWN_END, strict=True)
    )  # fmt: skip
    stems = [
        Name(en + en_end, zh + zh_end)
        for en, zh in zip(_EN_HEADS, _ZH_HEADS, strict=True)
        for en_end, zh_end in zip(_EN_TAILS, _ZH_TAILS, strict=True)
    ]
    companies = [_company(dice, stem, towns) for stem in dice.some(stems, num_companies + num_unseen)]
    return World(tuple(companies[:num_companies]), tuple(companies[num_companies:]), towns)


def make_person(dice: Dice) -> Name:
    """Somebody with an English and a Chinese name."""
    return Name(f"{dice.pick(_EN_FIRST)} {dice.pick(_EN_LAST)}", dice.pick(_ZH_FIRST) + dice.pick(_ZH_LAST))


def _company(dice: Dice, stem: Name, towns: tuple[Town, ...]) -> Company:
    industry = dice.pick(INDUSTRIES)
    name = Name(f"{stem.en} {industry.suffix.en}", stem.zh + industry.suffix.zh)
    return Company(
        name, industry, make_person(dice), dice.pick(towns), dice.between(1890, 2015), dice.between(2, 400) * 50
    )
