"""What are the English words and forms of the sample world?"""

# ruff: noqa: E501 - tables of phrases read best one entry to a line

from apps.sample_world.grammar import Events, Grammar, Verb


def _verbs(*pairs: str) -> tuple[Verb, ...]:
    """Reads `won/win an order` as ("won an order", "win an order")."""
    heads_and_tails = (pair.partition(" ") for pair in pairs)
    return tuple(
        (f"{head.split('/')[0]} {tail}".strip(), f"{head.split('/')[-1]} {tail}".strip())
        for head, _, tail in heads_and_tails
    )


ENGLISH = Grammar(
    language="en",
    metrics=(
        ("net profit", 1), ("operating profit", 1), ("revenue", 1), ("turnover", 1), ("gross margin", 1),
        ("cash flow", 1), ("order backlog", 1), ("output of {product}", 1), ("market share", 1),
        ("operating loss", -1), ("net debt", -1), ("spending on {input}", -1), ("scrap rate", -1),
        ("number of customer complaints", -1), ("cost per unit", -1), ("stock of unsold {product}", -1),
    ),
    rise=_verbs("rose/rise", "climbed/climb", "increased/increase", "grew/grow", "went/go up", "jumped/jump"),
    fall=_verbs("fell/fall", "dropped/drop", "decreased/decrease", "shrank/shrink", "went/go down", "declined/decline"),
    hoped="hoped",
    feared="feared",
    moved=(
        "{company} said its {metric} {verb} by {percent} percent in {period}",
        "the {metric} of {company} {verb} {percent} percent in {period}",
        "in {period} the {metric} at {company} {verb} by {percent} percent",
        "{company} reports that its {metric} {verb} by {percent} percent from a year earlier",
        "compared with {period}, the {metric} of {company} {verb} by {percent} percent",
    ),
    not_moved=(
        "the {metric} of {company} did not {verb} in {period} as analysts had {feeling}",
        "{company} said its {metric} did not {verb} as {feeling}",
    ),
    steady=(
        "the {metric} of {company} was unchanged in {period}",
        "{company} will publish its {metric} for {period} on {day}",
        "{company} said its {metric} in {period} was in line with the year before",
        "{company} has changed the way in which it calculates its {metric}",
    ),
    events={
        "orders": Events(
            good=_verbs(
                "won/win an order worth {amount} from {partner}", "renewed/renew its contract with {partner}",
                "beat/beat {rival} to a contract for {product}", "signed/sign {count} new customers for its {product}",
            ),
            bad=_verbs(
                "lost/lose an order worth {amount} to {rival}", "had/have a contract cancelled by {partner}",
                "delayed/delay the delivery of {product} to {partner}", "lost/lose {partner} as a customer",
            ),
            neutral=_verbs(
                "took/take part in a tender for {product} in {site}", "handed/hand over {product} to {partner} as planned",
                "signed/sign a frame agreement with {partner} without fixed volumes",
            ),
        ),
        "products": Events(
            good=_verbs(
                "received/receive approval to sell its {product} abroad", "sold/sell out its first series of {product}",
                "won/win a design prize for its {product}", "doubled/double the guarantee period of its {product}",
            ),
            bad=_verbs(
                "recalled/recall {count} deliveries of {product}", "stopped/stop the sale of {product} after a defect",
                "found/find a fault in its {product}", "withdrew/withdraw its {product} from the market",
            ),
            neutral=_verbs(
                "showed/show its {product} at the fair in {site}", "renamed/rename its line of {product}",
                "moved/move the display of {product} to {site}",
            ),
        ),
        "staff": Events(
            good=_verbs(
                "hired/hire {count} people in {site}", "raised/raise wages after a record year",
                "ended/end the strike in {site}", "opened/open a training centre in {site}",
            ),
            bad=_verbs(
                "cut/cut {count} jobs in {site}", "lost/lose its finance chief after a dispute",
                "sent/send {count} workers home without pay", "faced/face a strike in {site}",
            ),
            neutral=_verbs(
                "named/name {new_head} as head of the {site} office", "invited/invite staff to a meeting on {day}",
                "moved/move its personnel department to {site}",
            ),
        ),
        "finance": Events(
            good=_verbs(
                "raised/raise its dividend by {percent} percent", "repaid/repay a loan of {amount} early",
                "secured/secure a credit line of {amount} on better terms", "earned/earn a higher credit rating",
            ),
            bad=_verbs(
                "cancelled/cancel its dividend", "missed/miss an interest payment of {amount}",
                "broke/break the terms of a loan of {amount}", "wrote/write off {amount} on its {second_product}",
            ),
            neutral=_verbs(
                "called/call its annual meeting in {town}", "set/set the record date of its dividend to {day}",
                "moved/move its accounts from {rival} to another bank",
            ),
        ),
        "law": Events(
            good=_verbs(
                "won/win a patent case against {rival}", "settled/settle a dispute with {partner} without payment",
                "received/receive the permit for its plant in {site}", "had/have a fine of {amount} lifted",
            ),
            bad=_verbs(
                "paid/pay a fine of {amount}", "lost/lose a patent case against {rival}",
                "became/become the subject of a tax inquiry", "had/have its permit in {site} withdrawn",
            ),
            neutral=_verbs(
                "answered/answer questions of the authority in {site}", "filed/file its yearly statement with the court",
                "asked/ask the authority for a list of the rules",
            ),
        ),
        "plants": Events(
            good=_verbs(
                "opened/open a plant for {product} in {site}", "restarted/restart its plant in {site} ahead of plan",
                "expanded/expand its works in {town}", "reached/reach full output in {site}",
            ),
            bad=_verbs(
                "closed/close its plant in {site}", "halted/halt the making of {product} after a fire",
                "ran/run short of {input} in {site}", "lost/lose {count} hours of output to power cuts",
            ),
            neutral=_verbs(
                "moved/move its stores from {town} to {site}", "inspected/inspect its plant in {site} as every year",
                "rented/rent a hall in {site}",
            ),
        ),
    },
    happened=(
        "{company} {verb}", "{company} said on {day} that it {verb}", "in {period} {company} {verb}",
        "according to {head}, {company} {verb}", "{company} of {town} {verb} on {day}",
        "the {trade} company {company} {verb}",
    ),
    may_happen=(
        "{company} may {verb} before the end of {year}", "analysts expect {company} to {verb}",
        "{company} is about to {verb}", "{analyst} believes that {company} will {verb}",
    ),
    did_not_happen=(
        "{company} did not {verb}, as analysts had {feeling}",
        "contrary to what many had {feeling}, {company} will not {verb}",
    ),
    unknown=(
        "{company} declined to say whether it would {verb}",
        "it is not known whether {company} will {verb}",
    ),
    contrast=("although {aside}, {main}", "while {aside}, {main}", "{aside}, but {main}"),
    periods=(
        "the first quarter", "the second quarter", "the third quarter", "the fourth quarter", "the first half",
        "the second half", "the first nine months", "the full year",
    ),
    days=("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "March 3", "May 12", "June 20", "October 9", "December 1"),
    amounts=("{number} million euros", "{number} million yuan", "{number} million dollars", "{number},000 euros"),
    end=".",
)  # fmt: skip
