"""What must not stand in a stored log? E-mail addresses, phone, card and identity numbers, replaced by their kind.

Numbers are found by their check digits and by the numbering plans of some countries, so that order numbers, prices and
dates stay. Full-width digits and letters are read like plain ones. No TensorFlow here.
"""

import re
from collections.abc import Callable, Iterator

import phonenumbers
from stdnum import iban, luhn
from stdnum.cn import ric
from stdnum.us import ssn

REGIONS = ("US", "GB", "CN", "DE")  # whose national phone numbers are known; +49 ... is known of every country

FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: ord(" ")}
SUSPECT = re.compile(r"@|[0-9](?:[^0-9]{0,3}[0-9]){5}")  # what has neither holds nothing of ours

EMAIL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,6}[A-Za-z]{2,24}")
BANK_ACCOUNT = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?(?![A-Za-z0-9])"
)
RESIDENT = re.compile(r"(?<![A-Za-z0-9])[1-9][0-9]{16}[0-9Xx](?![A-Za-z0-9])")
SOCIAL_SECURITY = re.compile(r"(?<![0-9-])[0-9]{3}([- ])[0-9]{2}\1[0-9]{4}(?![0-9-])")
CARD = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{1,3})?"  # the last group may be a check code
    r"|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5}|[0-9]{6}[ -][0-9]{12,13}|[0-9]{13,19})(?![A-Za-z0-9])"
)
# Of Visa, Mastercard, American Express, Diners Club, JCB, Discover, UnionPay, Maestro (ISO/IEC 7812)
CARD_ISSUER = re.compile(r"4|5[0-8]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)|3[0-9]|6")

# Numbers that are no phone numbers, however much they look like one.
NO_PHONE = re.compile(
    r"""
    (?: (?<![A-Z]) (?: order|invoice|tracking|ticket|reference|ref|booking|parcel|shipment )
      | 订单|单号|编号|运单|快递|流水 )
    (?: [\s:#.]* \b (?:numbers?|no|num|nr|id|code|is|was) \b | 号码?|单|[是为] )* [\s:#.]* [A-Z0-9-]* [0-9] [A-Z0-9-]*
    | (?<![0-9]) (?:19|20)[0-9]{2} [-/.年] [0-9]{1,2} [-/.月] [0-9]{1,2} (?![0-9])  # 2023-11-05
    | (?<![0-9]) [0-9]{1,2} ([-/.]) [0-9]{1,2} \1 (?:[0-9]{2}){1,2} (?![0-9])  # 05.11.2023
    | (?<![0-9]) [0-9]{1,2} : [0-9]{2} (?: : [0-9]{2} )? (?![0-9])  # 14:30
    | (?<![0-9+-]) (?: [0-9]{3}\s?-\s?[0-9]{3} | [0-9]{4}\s?-\s?[0-9]{4} | [0-9]{5}\s?-\s?[0-9]{5} )  # a range
      (?![0-9-])
    | [$€£¥] \s? [0-9] [0-9,.]*
    | (?<![0-9]) [0-9] [0-9,.]* \s? (?:元|块|万|亿|%|USD|EUR|GBP|CNY|RMB)
    | (?<![0-9]) [0-9]{1,3} (?:,[0-9]{3})+  # 1,234
    | (?<![0-9.]) [0-9]+ \. [0-9]{1,2} (?![0-9.])  # 19.99
    """,
    re.VERBOSE | re.IGNORECASE,
)
PHONE_CUE = re.compile(
    r"(?<!<)(?:phone|mobile|cell|tel|call|text|whatsapp|number is|电话|手机|致电|拨打|联系)\W*(?:\w+\W+){0,3}$",
    re.IGNORECASE,
)
PHONE_LIKE = re.compile(r"[+(]?[0-9](?:[ ().\-/]{0,3}[0-9]){6,}")
CHINESE_MOBILE = re.compile(r"1[3-9][0-9]{9}")


def mask_personal_data(text: str) -> str:
    """The text with <EMAIL>, <PHONE>, <CARD> and <ID> in place of what they name.

    <ID>: Chinese resident numbers, US social security numbers, bank accounts (IBAN). A phone number without separators
    is known by its plus sign, a leading zero, the form of a Chinese mobile, or a word before it such as "call".
    """
    plain = text.translate(FULL_WIDTH)  # as long as text: places in one are places in the other
    if not SUSPECT.search(plain):
        return text
    found: list[tuple[int, int, str]] = []
    for mark, spans in FINDERS:
        while places := list(spans(plain)):  # again, since one number may hide the next
            found += [(start, stop, mark) for start, stop in places]
            for start, stop in places:
                plain = plain[:start] + "\0" * (stop - start) + plain[stop:]
    for start, stop, mark in sorted(found, reverse=True):
        text = text[:start] + mark + text[stop:]
    return text


def _emails(plain: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in EMAIL.finditer(plain))


def _bank_accounts(plain: str) -> Iterator[tuple[int, int]]:
    for match in BANK_ACCOUNT.finditer(plain):
        account = match.group()
        while len(account) >= 15 and not iban.is_valid(account):  # a word in capitals may follow
            account = account[: max(account.rfind(" "), account.rfind("-"), 0)]
        if len(account) >= 15:
            yield match.start(), match.start() + len(account)


def _identities(plain: str) -> Iterator[tuple[int, int]]:
    yield from (match.span() for match in RESIDENT.finditer(plain) if ric.is_valid(match.group()))
    yield from (
        match.span() for match in SOCIAL_SECURITY.finditer(plain) if ssn.is_valid(match.group().replace(" ", "-"))
    )


def _cards(plain: str) -> Iterator[tuple[int, int]]:
    for start, stop in (match.span() for match in CARD.finditer(plain)):
        for end in (stop, start + len("1234 1234 1234 1234")):
            digits = plain[start:end].replace(" ", "").replace("-", "")
            if end <= stop and CARD_ISSUER.match(digits) and luhn.is_valid(digits):
                yield start, end
                break


def _phones(plain: str) -> Iterator[tuple[int, int]]:
    plain = NO_PHONE.sub(lambda match: "\0" * len(match.group()), plain)
    if not PHONE_LIKE.search(plain):
        return
    spans = {(match.start, match.end) for region in REGIONS for match in phonenumbers.PhoneNumberMatcher(plain, region)}
    last = 0
    for start, stop in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start >= last and _is_phone(plain, start, stop):
            last = stop
            yield start, stop


def _is_phone(plain: str, start: int, stop: int) -> bool:
    number = plain[start:stop]
    return (
        not number.isdigit()
        or number.startswith("0")
        or CHINESE_MOBILE.fullmatch(number) is not None
        or PHONE_CUE.search(plain[max(0, start - 40) : start]) is not None
    )


FINDERS: tuple[tuple[str, Callable[[str], Iterator[tuple[int, int]]]], ...] = (
    ("<EMAIL>", _emails),
    ("<ID>", _bank_accounts),
    ("<ID>", _identities),
    ("<CARD>", _cards),
    ("<PHONE>", _phones),
)
