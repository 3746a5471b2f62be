"""How is one of our tokenizers written for Hugging Face? tokenizer.json in the `tokenizers` package's terms.

It gives our ids for nearly every text. Other than ours it takes a special token that is written out in a text, such as
`[MASK]`, for that token; and where case folding makes two letters of one it knows the German ß alone.
"""

import json
from pathlib import Path

import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from kerasllm.errors import ConfigError
from kerasllm.text import SentencePieceTokenizer, Tokenizer, WordPieceTokenizer

_SPACE = "▁"  # SentencePiece writes a space so
_LONGEST_WORD = 100  # characters there, bytes here


def write_tokenizer(tokenizer: Tokenizer, folder: Path, max_length: int) -> None:
    """Writes tokenizer.json, tokenizer_config.json and the vocabulary's own file into a folder.

    Raises:
      ConfigError: a tokenizer of a kind that has no such form.
    """
    special = tokenizer.special
    ids = {"unk": special.unk, "pad": special.pad}
    if isinstance(tokenizer, WordPieceTokenizer):
        theirs, file = _wordpiece(tokenizer), "vocab.txt"
        ids |= {"cls": special.cls, "sep": special.sep}
    elif isinstance(tokenizer, SentencePieceTokenizer):
        theirs, file = _byte_pairs(tokenizer), "sentencepiece.model"
        ids |= {"bos": special.bos, "eos": special.eos}
    else:
        raise ConfigError(f"a {type(tokenizer).__name__} has no form in Hugging Face's terms.")
    if special.mask >= 0:
        ids["mask"] = special.mask
    words = {f"{name}_token": tokenizer.words[id_] for name, id_ in ids.items()}
    theirs.add_special_tokens(list(words.values()))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # takes tokenizer.json as it is, with the normalizer in it
        "do_lower_case": tokenizer.lowercase,
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
        **words,
    }
    theirs.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder / file).write_bytes(tokenizer.vocabulary)


def _wordpiece(tokenizer: WordPieceTokenizer) -> tokenizers.Tokenizer:
    """Words are normalised as FastBertTokenizer does it: NFKC, case folded, without accents."""
    theirs = tokenizers.Tokenizer(
        models.WordPiece(_numbered(tokenizer), unk_token="[UNK]", max_input_chars_per_word=_LONGEST_WORD)
    )
    steps: list[normalizers.Normalizer] = []
    if tokenizer.lowercase:
        folds = [normalizers.Replace(letter, folded) for letter, folded in (("ß", "ss"), ("ẞ", "ss"), ("ς", "σ"))]
        steps = [normalizers.NFKC(), *folds, normalizers.Lowercase()]
        steps.append(normalizers.Replace(tokenizers.Regex(r"\p{Default_Ignorable_Code_Point}"), ""))
        steps += [normalizers.NFD(), normalizers.Replace(tokenizers.Regex(r"\p{Mn}"), "")]
    steps.append(normalizers.Replace(tokenizers.Regex(r"\p{Cc}|\p{Cf}"), " "))
    steps.append(
        normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False)
    )
    theirs.normalizer = normalizers.Sequence(steps)
    theirs.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = tokenizer.special
    theirs.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", special.cls), ("[SEP]", special.sep)],
    )
    theirs.decoder = decoders.WordPiece(prefix="##")
    return theirs


def _byte_pairs(tokenizer: SentencePieceTokenizer) -> tokenizers.Tokenizer:
    """Byte pairs merge in the order of the pieces' scores; a text begins with the token that begins a document."""
    theirs = tokenizers.Tokenizer(
        models.BPE(
            _numbered(tokenizer),
            _merges(tokenizer),
            unk_token=tokenizer.words[tokenizer.special.unk],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    theirs.normalizer = normalizers.Replace(" ", _SPACE)
    theirs.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    begin = tokenizer.words[tokenizer.special.bos]
    theirs.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, tokenizer.special.bos)]
    )
    return theirs


def _merges(tokenizer: SentencePieceTokenizer) -> list[tuple[str, str]]:
    """Which two pieces make a third: SentencePiece keeps the third's score alone, so every way to make it is listed."""
    model = sentencepiece.SentencePieceProcessor()
    model.LoadFromSerializedProto(tokenizer.vocabulary)
    scores = {
        piece: model.GetScore(number)
        for number, piece in enumerate(tokenizer.words)
        if not (model.IsControl(number) or model.IsByte(number) or model.IsUnknown(number) or model.IsUnused(number))
    }
    found = []
    for piece in sorted((piece for piece in scores if len(piece) > 1), key=lambda piece: -scores[piece]):
        ways = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        ways = [(left, right) for left, right in ways if left in scores and right in scores]
        found += sorted(ways, key=lambda way: (-scores[way[0]], -scores[way[1]]))
    return found


def _numbered(tokenizer: Tokenizer) -> dict[str, int]:
    return {word: number for number, word in enumerate(tokenizer.words)}
