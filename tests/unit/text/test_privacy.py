"""Are personal data masked in English and Chinese, and do order numbers, prices and dates stay?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import luhn

from kerasllm.text.privacy import mask_personal_data


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("mail jane.doe+x@mail.example.co.uk, thanks", "mail <EMAIL>, thanks"),
        ("发邮件到zhang@example.com吧", "发邮件到<EMAIL>吧"),
        ("邮箱ｚｈａｎｇ＠ｅｘａｍｐｌｅ．ｃｏｍ。", "邮箱<EMAIL>。"),
        ("a@example.com and b@example.org", "<EMAIL> and <EMAIL>"),
    ],
)
def test_e_mail_addresses(text, masked):
    assert mask_personal_data(text) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Call +1 (415) 555-2671 now", "Call <PHONE> now"),
        ("my number is (415) 555-2671.", "my number is <PHONE>."),
        ("call me at 4155552671", "call me at <PHONE>"),  # bare, but the words say what it is
        ("0245056447 93 45804470", "<PHONE> <PHONE>"),  # found one after the other
        ("ring 020 7946 0958 or 02079460958", "ring <PHONE> or <PHONE>"),
        ("Berlin 030 123456 oder +49 30 901820", "Berlin <PHONE> oder <PHONE>"),
        ("tel. +358 9 591 8342 .", "tel. <PHONE> ."),  # a country whose national numbers are not known
        ("手机13812345678，随时可打", "手机<PHONE>，随时可打"),
        ("13812345678", "<PHONE>"),
        ("联系１３８１２３４５６７８谢谢", "联系<PHONE>谢谢"),
        ("电话：０１０－６２５１２３４５", "电话：<PHONE>"),
        ("+86 138 1234 5678", "<PHONE>"),
        ("paid $50, 415-555-2671", "paid $50, <PHONE>"),
    ],
)
def test_phone_numbers(text, masked):
    assert mask_personal_data(text) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("card 4111 1111 1111 1111 please", "card <CARD> please"),  # Luhn: the well-known test number of Visa
        ("card 4111-1111-1111-1111.", "card <CARD>."),
        ("卡号4111111111111111", "卡号<CARD>"),
        ("4111 1111 1111 1111 12/27", "<CARD> 12/27"),
        ("Amex 3782 822463 10005", "Amex <CARD>"),
        ("６２２２ ０２１２ ３４５６ ７８９０ １２８", "<CARD>"),
        ("card 4111 1111 1111 1112", "card 4111 1111 1111 1112"),  # the check digit is wrong
    ],
)
def test_card_numbers(text, masked):
    assert mask_personal_data(text) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("SSN 536-90-4399", "SSN <ID>"),
        ("SSN 666-90-4399", "SSN 666-90-4399"),  # 666 was never given out
        ("身份证11010519491231002X。", "身份证<ID>。"),  # the example of GB 11643-1999
        ("身份证号１１０１０５１９４９１２３１００２Ｘ", "身份证号<ID>"),
        ("身份证110105194912310021", "身份证110105194912310021"),  # the check digit is wrong
        ("IBAN GB82 WEST 1234 5698 7654 32 PLEASE", "IBAN <ID> PLEASE"),
        ("IBAN DE89370400440532013000", "IBAN <ID>"),
        ("IBAN DE88370400440532013000", "IBAN DE88370400440532013000"),
    ],
)
def test_identity_numbers_and_bank_accounts(text, masked):
    assert mask_personal_data(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no number here",
        "my order 20231105123 has not come",
        "order number is 20231105123, invoice 415-555-2671, ticket #4155552671",
        "Where is parcel 1Z999AA10123456784?",
        "我的订单号是20231105123，快递单号：415555267100",
        "订单号 13812345678 没到",
        "it costs $1,234,567.89 or 1234567.89 USD, £4155552671",
        "共1,380,000.50元，涨了12.5%，约13812345678元",
        "on 2023-11-05 14:30:00 and 05.11.2023 12:30 and 11/05/2023",
        "２０２３年１１月５日１４：３０",
        "sales rose to 1 234 567 from 1,100,000 in 2009-2010",
        "support is at 68390-68400, gas for 0600 - 0700 CET, 600519 and 000001 SZ",
        "version 1.2.3.4, address 192.168.100.200",
        "user@localhost @handle #1 @ 5pm",
    ],
)
def test_other_numbers_and_texts_stay_as_they_are(text):
    assert mask_personal_data(text) == text


def test_several_kinds_in_one_text_and_nothing_around_them_changes():
    text = "Ａｎｎ (ann@example.com, +44 20 7946 0958) paid order 20231105123 with 4111 1111 1111 1111 on 2023-11-05。"
    masked = "Ａｎｎ (<EMAIL>, <PHONE>) paid order 20231105123 with <CARD> on 2023-11-05。"
    assert mask_personal_data(text) == masked


@given(st.integers(min_value=10**13, max_value=10**14 - 1), st.sampled_from(["", " ", "-"]))
def test_every_visa_number_with_a_right_check_digit_is_masked(account, separator):
    digits = f"4{account}"
    number = digits + luhn.calc_check_digit(digits)
    written = separator.join(number[start : start + 4] for start in range(0, 16, 4))
    assert mask_personal_data(f"pay with {written} now") == "pay with <CARD> now"


@given(st.text(alphabet="0123456789 -+().@a中，。:/０９", max_size=60))
def test_masking_twice_is_masking_once(text):
    once = mask_personal_data(text)
    assert mask_personal_data(once) == once
