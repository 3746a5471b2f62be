"""What do customers of the sample world ask, and how are they answered? Intents, question-reply pairs and dialogues."""

# ruff: noqa: E501 - tables of phrases read best one entry to a line

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from apps.sample_world.world import INDUSTRIES, Dice, make_person


@dataclass(frozen=True)
class Intent:
    """What a customer wants: ways to ask, ways to reply, and what is asked back in a dialogue, in one language."""

    questions: tuple[str, ...]
    replies: tuple[str, ...]
    asks_back: str


INTENTS: Mapping[str, Mapping[str, Intent]] = {
    "en": {
        "where_is_my_order": Intent(
            ("where is my order of {product}", "my {product} have not arrived yet", "I ordered {product} {days} days ago and nothing has come", "can you track parcel {number} for me"),
            ("Your order {number} left our store {days} days ago and will reach you on {day}.", "I am sorry for the delay. Parcel {number} is with the carrier and is due on {day}."),
            "Could you give me the order number, please?",
        ),
        "cancel_order": Intent(
            ("please cancel my order {number}", "I do not want the {product} any more", "how can I call off my order of {product}", "can I still stop order {number}"),
            ("I have cancelled order {number}; the money comes back within {days} days.", "Order {number} has already been sent. Refuse the parcel and we will refund you."),
            "Has the parcel reached you already?",
        ),
        "return_goods": Intent(
            ("how do I send the {product} back", "I would like to return my {product}", "the {product} do not fit, can they go back", "is it possible to return order {number}"),
            ("You can return {product} within {days} days. Print the label and hand the parcel to the carrier.", "Returns are free for {days} days; the label for order {number} is in your account."),
            "Are the goods unused and in their box?",
        ),
        "broken_goods": Intent(
            ("my {product} arrived broken", "the {product} stopped working after {days} days", "there is a crack in the {product} I bought", "order {number} came damaged"),
            ("I am sorry to hear that. We will send new {product} on {day} at no cost.", "Please send us a picture; we replace broken {product} within {days} days."),
            "Could you describe the damage?",
        ),
        "refund_status": Intent(
            ("when will I get my money back", "I sent the {product} back and have no refund yet", "the refund for order {number} is missing", "how long does a refund take"),
            ("The refund of {amount} euros for order {number} was sent on {day}.", "A refund takes up to {days} days once the {product} have reached us."),
            "On which day did you hand in the parcel?",
        ),
        "change_address": Intent(
            ("I have moved, how do I change my address", "please deliver order {number} to another address", "my new address is not in my account", "can the {product} go to my office instead"),
            ("I have changed the address of order {number}.", "Open your account and choose addresses; orders that have left keep the old one."),
            "What is the new address?",
        ),
        "wrong_charge": Intent(
            ("I was charged twice for order {number}", "there is a charge of {amount} euros that I do not know", "why did I pay {amount} euros for the {product}", "my bill for {product} is too high"),
            ("One of the two charges of {amount} euros was only a hold and ends on {day}.", "You are right. We send {amount} euros back within {days} days."),
            "Which card did you pay with?",
        ),
        "opening_hours": Intent(
            ("when is your shop open", "are you open on {day}", "until what time can I call you", "what are your opening hours this week"),
            ("Our shop is open from nine to six, and on {day} until eight.", "You can call us on every working day from eight to seven."),
            "Which of our shops do you mean?",
        ),
        "forgot_password": Intent(
            ("I cannot log in to my account", "I forgot my password", "the login page does not take my password", "how do I set a new password"),
            ("Choose 'new password' on the login page; the mail arrives within {days} minutes.", "I have sent you a link to set a new password. It is valid until {day}."),
            "Which mail address is the account under?",
        ),
        "talk_to_person": Intent(
            ("I want to talk to a person", "can somebody call me about my {product}", "please connect me with the service team", "is there a human I can speak to"),
            ("{name} from our team will call you on {day}.", "I am connecting you now; the wait is about {days} minutes."),
            "What number can we reach you at?",
        ),
        "product_question": Intent(
            ("are the {product} in stock", "how much do the {product} cost", "do you sell {product} for schools", "what is the guarantee on your {product}"),
            ("Yes, {product} are in stock and cost {amount} euros.", "Our {product} have a guarantee of {days} months."),
            "How many do you need?",
        ),
        "thanks": Intent(
            ("thank you, that helped", "great service, the {product} are lovely", "thanks, everything is clear now", "many thanks for the quick reply"),
            ("You are welcome. Enjoy your {product}!", "Glad to help. Have a good {day}!"),
            "Is there anything else I can do for you?",
        ),
    },
    "zh": {
        "where_is_my_order": Intent(
            ("我订的{product}到哪里了", "我的{product}怎么还没到", "{days}天前下单的{product}一直没有收到", "请帮我查一下包裹{number}"),
            ("您的订单{number}已于{days}天前发出，预计{day}送达。", "很抱歉让您久等，包裹{number}正在配送途中，预计{day}送到。"),
            "请问您的订单号是多少？",
        ),
        "cancel_order": Intent(
            ("请取消我的订单{number}", "我不想要{product}了", "怎么撤销{product}的订单", "订单{number}现在还能取消吗"),
            ("订单{number}已经取消，款项将在{days}天内退回。", "订单{number}已经发出，请您拒收包裹，我们会为您退款。"),
            "请问您已经收到包裹了吗？",
        ),
        "return_goods": Intent(
            ("{product}怎么退货", "我想退掉买的{product}", "{product}不合适，可以退吗", "订单{number}能不能退货"),
            ("{product}支持{days}天内退货，请打印退货单并交给快递员。", "{days}天内退货免运费，订单{number}的退货单在您的账户里。"),
            "请问商品还没有使用过吧？",
        ),
        "broken_goods": Intent(
            ("收到的{product}是坏的", "{product}用了{days}天就坏了", "我买的{product}上有裂痕", "订单{number}的商品破损了"),
            ("非常抱歉，我们将在{day}免费为您补发{product}。", "请发一张照片给我们，破损的{product}可在{days}天内更换。"),
            "能说一下损坏的情况吗？",
        ),
        "refund_status": Intent(
            ("我的退款什么时候到账", "{product}已经退回，还没有收到退款", "订单{number}的退款没有到", "退款需要多长时间"),
            ("订单{number}的{amount}元退款已于{day}汇出。", "我们收到{product}之后，{days}天内完成退款。"),
            "请问您是哪天寄出的？",
        ),
        "change_address": Intent(
            ("我搬家了，怎么修改地址", "请把订单{number}送到另一个地址", "账户里没有我的新地址", "{product}可以改送到公司吗"),
            ("订单{number}的地址已经修改。", "请在账户中选择地址管理，已发出的订单仍按原地址配送。"),
            "请问新地址是哪里？",
        ),
        "wrong_charge": Intent(
            ("订单{number}扣了两次款", "有一笔{amount}元的扣款我不认识", "为什么{product}收了我{amount}元", "{product}的账单金额太高了"),
            ("其中一笔{amount}元只是预授权，{day}会自动取消。", "您说得对，我们会在{days}天内退还{amount}元。"),
            "请问您是用哪张卡付款的？",
        ),
        "opening_hours": Intent(
            ("你们店几点开门", "{day}营业吗", "电话客服到几点下班", "这周的营业时间是什么"),
            ("本店营业时间为九点到十八点，{day}延长到二十点。", "工作日八点到十九点都可以打电话给我们。"),
            "请问您说的是哪一家店？",
        ),
        "forgot_password": Intent(
            ("我登录不了账户", "我忘记密码了", "登录页面提示密码错误", "怎么设置新密码"),
            ("请在登录页面点击忘记密码，邮件会在{days}分钟内送达。", "设置新密码的链接已经发给您，有效期到{day}。"),
            "请问账户的邮箱是什么？",
        ),
        "talk_to_person": Intent(
            ("我要找人工客服", "能让人打电话跟我说说{product}吗", "请帮我转接客服人员", "有没有真人可以说话"),
            ("我们的同事{name}会在{day}给您打电话。", "正在为您转接，大约需要等待{days}分钟。"),
            "请问您的联系电话是多少？",
        ),
        "product_question": Intent(
            ("{product}有货吗", "{product}多少钱", "你们的{product}卖给学校吗", "{product}保修多久"),
            ("有货，{product}的价格是{amount}元。", "我们的{product}保修{days}个月。"),
            "请问您需要多少？",
        ),
        "thanks": Intent(
            ("谢谢，问题解决了", "服务很好，{product}很不错", "谢谢，我都明白了", "感谢你们这么快回复"),
            ("不客气，祝您使用愉快！", "很高兴能帮到您，祝您{day}愉快！"),
            "请问还有什么可以帮您？",
        ),
    },
}  # fmt: skip

_OPENINGS = {
    "en": ("", "", "", "hello, ", "hi, ", "good morning, ", "excuse me, ", "sorry to bother you, ", "please help: "),
    "zh": ("", "", "", "你好，", "您好，", "请问一下，", "麻烦问一下，", "不好意思，", "急，"),
}
_CLOSINGS = {
    "en": ("", "", "", "?", " please", ", thanks", ", it is urgent", " as soon as possible"),
    "zh": ("", "", "", "？", "，谢谢", "，比较着急", "，请尽快", "，麻烦了"),
}
_DAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
    "zh": ("周一", "周二", "周三", "周四", "周五", "周六"),
}


_SERVICES = ("software", "banking", "shipping", "telecommunications", "construction")  # trades that send no parcels
_GOODS = [thing for trade in INDUSTRIES if trade.trade.en not in _SERVICES for thing in trade.products]


@dataclass(frozen=True)
class Exchange:
    """One question with its intent and a reply that fits it."""

    question: str
    reply: str
    intent: str
    language: str


def exchanges(dice: Dice, language: str) -> Iterator[Exchange]:
    """Endless questions with replies; product, order number and day agree within one exchange."""
    names = tuple(INTENTS[language])
    while True:
        name = dice.pick(names)
        yield _exchange(dice, language, name, _slots(dice, language))


def dialogues(dice: Dice, language: str) -> Iterator[dict[str, object]]:
    """Endless dialogues: a question, a question back, an answer with the order number, a reply, at times thanks."""
    wishes = [name for name in INTENTS[language] if name != "thanks"]
    number = 0
    while True:
        number += 1
        slots = _slots(dice, language)
        name = dice.pick(wishes)
        said = _exchange(dice, language, name, slots)
        answer = {"en": "It is about order {number}, the {product}.", "zh": "是订单{number}，买的是{product}。"}[
            language
        ]
        turns = [
            ("USER", said.question, [name]), ("SYSTEM", INTENTS[language][name].asks_back, []),
            ("USER", answer.format_map(slots), [name]), ("SYSTEM", said.reply, []),
        ]  # fmt: skip
        if dice.chance(0.5):
            closing = _exchange(dice, language, "thanks", slots)
            turns += [("USER", closing.question, ["thanks"]), ("SYSTEM", closing.reply, [])]
        yield {
            "dialogue_id": f"{language}_{number:05d}",
            "language": language,
            "turns": [{"speaker": speaker, "text": text, "intent": intent} for speaker, text, intent in turns],
        }


def _exchange(dice: Dice, language: str, name: str, slots: Mapping[str, str]) -> Exchange:
    intent = INTENTS[language][name]
    question = dice.pick(_OPENINGS[language]) + dice.pick(intent.questions) + dice.pick(_CLOSINGS[language])
    return Exchange(question.format_map(slots), dice.pick(intent.replies).format_map(slots), name, language)


def _slots(dice: Dice, language: str) -> dict[str, str]:
    return {
        "product": dice.pick(_GOODS)[language], "number": str(dice.between(10000, 99999)),
        "days": str(dice.between(2, 30)), "day": dice.pick(_DAYS[language]), "amount": str(dice.between(5, 400)),
        "name": make_person(dice)[language],
    }  # fmt: skip
