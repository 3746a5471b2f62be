"""Which answers go with an export, so that another machine can be compared? Texts of every sort, and parity.json."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.errors import ExportError

FORMAT_VERSION = 1  # of assets.extra/parity.json
PARITY_FILE = "parity.json"
TOLERANCE = 1e-5  # of a float that is computed in float32
BFLOAT16_TOLERANCE = 0.01  # of a probability, or of a number of an embedding
GOLDEN_TEXTS = (
    "Operating profit rose to EUR 13.1 mn from EUR 8.7 mn a year earlier.",
    "Sales FELL by 10%; the outlook isn't changed (see note 4).",
    "café naïve Ünïcode ﬁnance",
    "该公司第三季度净利润同比下降百分之十二。",
    "营业收入增长１２％，现金流改善；管理层维持全年指引不变",
    "苹果公司 Apple Inc. 发布财报 Q3 2023，revenue 增长 8%",
    "кириллица, ελληνικά, עברית, العربية, 日本語カタカナ, 한국어, हिन्दी",
    "",
    " ",
    "\t\n  \r\n",
    "😀",
    "📈🚀 to the moon 👩‍👩‍👧‍👦 🇨🇳",
    "plain text,\twith a tab, a\x00null byte, a \x1b[31mcolour\x1b[0m and \x7f",
    "zero\u200bwidth\u00a0space\ufeff and e\u0301 combined, \u202eright to left",
    "[CLS] [SEP] [MASK] [PAD] <s> </s>",
    "!?.,;:-_()'\"/\\@#$%^&*+=~`|<>{}[]",
    "0 1 -2 3.14 1e10 １２３ 一二三 ⅷ ½",
    "supercalifragilisticexpialidocious" * 8,
    "a much longer text that is cut in the end " * 200,
    "很长的文本会在末尾被截断。" * 300,
)


@dataclass(frozen=True)
class Call:
    """A signature, the inputs to send, and the outputs that the model itself gives for them.

    Attributes:
      tolerance: of a float, on the machine that exported.
    """

    signature: str
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    tolerance: float = TOLERANCE


@dataclass(frozen=True)
class Difference:
    """How far an output is from the one that was expected.

    Attributes:
      place: `signature/output`.
      largest: of floats; 0 where nothing differs.
      problem: what differs beyond numbers, or "".
    """

    place: str
    largest: float = 0.0
    problem: str = ""


def parity_json(calls: Sequence[Call]) -> str:
    """The content of parity.json: what each signature is asked, and what the model says in the process of writing."""
    listed = [
        {
            "signature": call.signature,
            "tolerance": call.tolerance,
            "inputs": {name: _to_json(array) for name, array in call.inputs.items()},
            "outputs": {name: _to_json(array) for name, array in call.outputs.items()},
        }
        for call in calls
    ]
    return json.dumps({"format_version": FORMAT_VERSION, "calls": listed}, ensure_ascii=False) + "\n"


def read_parity(path: Path) -> list[Call]:
    """The calls of a parity.json.

    Raises:
      ExportError: the file is none.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if tree["format_version"] != FORMAT_VERSION:
            raise ExportError(f"{path} has format {tree['format_version']}, this reads {FORMAT_VERSION}. Export again.")
        return [
            Call(
                one["signature"],
                {name: _from_json(array) for name, array in one["inputs"].items()},
                {name: _from_json(array) for name, array in one["outputs"].items()},
                float(one.get("tolerance", TOLERANCE)),
            )
            for one in tree["calls"]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(f"{path} is damaged ({error!r}). Export again.") from None


def differences(call: Call, served: Mapping[str, np.ndarray]) -> Iterator[Difference]:
    """Compares what was served with what a call expects, output by output."""
    for name, expected in call.outputs.items():
        place = f"{call.signature}/{name}"
        if name not in served:
            yield Difference(place, problem=f"is not served; there is {', '.join(served)}")
        elif served[name].shape != expected.shape:
            yield Difference(place, problem=f"shape {served[name].shape} served, {expected.shape} from the model")
        elif expected.dtype.kind in "fV":  # V: bfloat16
            apart = np.abs(np.subtract(served[name], expected, dtype=np.float64))
            yield Difference(place, float(np.max(apart, initial=0.0)))
        else:
            wrong = np.argwhere(served[name] != expected)
            if len(wrong):
                first = tuple(wrong[0].tolist())
                text = f"{served[name].item(first)!r} served, {expected.item(first)!r} from the model"
                yield Difference(place, problem=f"{len(wrong)} of {expected.size} differ; the first at {first}: {text}")
            else:
                yield Difference(place)


def _to_json(array: np.ndarray) -> dict[str, Any]:
    if array.dtype == object:
        return {"dtype": "string", "shape": array.shape, "values": [_string(value) for value in array.ravel()]}
    return {"dtype": array.dtype.name, "shape": array.shape, "values": array.ravel().tolist()}


def _string(value: bytes | str) -> str | dict[str, str]:
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _from_json(tree: Mapping[str, Any]) -> np.ndarray:
    values, shape = tree["values"], tree["shape"]
    if tree["dtype"] != "string":
        return np.array(values, tree["dtype"]).reshape(shape)
    decoded = [base64.b64decode(value["b64"]) if isinstance(value, dict) else value.encode() for value in values]
    return np.array(decoded, object).reshape(shape)
