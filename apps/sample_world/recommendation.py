"""What do the users of the sample world like? Items described in two languages, tastes, and ratings in order of time."""

# ruff: noqa: E501 - tables of phrases read best one entry to a line

from collections.abc import Iterator
from dataclasses import dataclass

from apps.sample_world.world import Dice, Name

GENRES = {
    "crime": ("detective|侦探", "a missing letter|一封失踪的信", "the police give up|警方放弃了调查"),
    "romance": ("florist|花店店主", "an old love|一段旧情", "a wedding is called off|一场婚礼被取消"),
    "science": ("astronomer|天文学家", "a signal from space|来自太空的信号", "the telescope goes dark|望远镜突然失灵"),
    "history": ("blacksmith|铁匠", "a forgotten war|一场被遗忘的战争", "the king returns|国王归来"),
    "comedy": ("waiter|服务员", "a mixed-up suitcase|一只拿错的箱子", "everyone loses their way|所有人都迷了路"),
    "nature": ("forest ranger|护林员", "the last wolves|最后的狼群", "the river floods|河水泛滥"),
    "sport": ("goalkeeper|守门员", "a second chance|第二次机会", "the coach resigns|教练辞职"),
    "music": ("violinist|小提琴手", "a lost melody|一段失传的旋律", "the concert hall burns|音乐厅失火"),
}
_ADJECTIVES = (
    "Silent|寂静的",
    "Last|最后的",
    "Golden|金色的",
    "Hidden|隐秘的",
    "Distant|遥远的",
    "Broken|破碎的",
    "First|最初的",
    "Blue|蓝色的",
)
_NOUNS = (
    "Harbour|港湾",
    "Garden|花园",
    "Winter|冬天",
    "Journey|旅程",
    "Window|窗",
    "Bridge|桥",
    "Summer|夏天",
    "Star|星",
    "Letter|信",
    "Road|路",
)
_FIRST_TIMESTAMP = 1_600_000_000  # seconds; September 2020


@dataclass(frozen=True)
class Item:
    """A film: what it is called, what it is about, how good it is and when it came out."""

    item_id: int
    title: Name
    genres: tuple[str, ...]
    synopsis: Name
    quality: float
    released: int  # seconds


def make_items(dice: Dice, count: int) -> list[Item]:
    """Films in order of their release."""
    return [_item(dice, number + 1, count) for number in range(count)]


def ratings(dice: Dice, items: list[Item], num_users: int) -> Iterator[tuple[int, int, int, int]]:
    """Rows user_id, item_id, rating 1 to 5, timestamp; sorted by time for each user.

    A user likes some genres and dislikes others, rates more of what he likes, and his taste drifts a little.
    """
    for user in range(1, num_users + 1):
        taste = {genre: dice.bell() for genre in GENRES}
        drift = dice.pick(tuple(GENRES))
        moment = _FIRST_TIMESTAMP + dice.below(200) * 86_400
        strictness = 0.4 * dice.bell()
        seen: set[int] = set()
        for _ in range(dice.between(20, 60)):
            moment += dice.between(600, 900_000)
            taste[drift] += 0.03
            out = [item for item in dice.some(items, 5) if item.released <= moment and item.item_id not in seen]
            if not out:
                continue
            item = max(out, key=lambda item: _liking(taste, item))
            seen.add(item.item_id)
            score = 2.9 + strictness + 0.8 * _liking(taste, item) + 0.5 * dice.bell()
            yield user, item.item_id, max(1, min(5, int(score + 0.5))), moment


def _liking(taste: dict[str, float], item: Item) -> float:
    return sum(taste[genre] for genre in item.genres) / len(item.genres) + item.quality


def _item(dice: Dice, number: int, count: int) -> Item:
    genres = tuple(dice.some(tuple(GENRES), dice.between(1, 2)))
    hero, matter, turn = (Name(*text.split("|")) for text in GENRES[genres[0]])
    other = Name(*GENRES[genres[-1]][1].split("|"))
    adjective, noun = (Name(*dice.pick(words).split("|")) for words in (_ADJECTIVES, _NOUNS))
    en = f"A {hero.en} is drawn into the story of {matter.en}. When {turn.en}, only the {hero.en} can help."
    zh = f"一名{hero.zh}卷入了{matter.zh}的故事。当{turn.zh}时，只有这名{hero.zh}能够帮忙。"
    if len(genres) > 1:
        en, zh = f"{en} Then {other.en} changes everything.", f"{zh}随后，{other.zh}改变了一切。"
    title = Name(f"The {adjective.en} {noun.en} {number}", f"{adjective.zh}{noun.zh}{number}")
    released = _FIRST_TIMESTAMP - 86_400 * 400 + number * (86_400 * 700 // count)
    return Item(number, title, genres, Name(en, zh), 0.5 * dice.bell(), released)
