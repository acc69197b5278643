"""Long texts: the tokens are those of the whole text, and no more of it is read than they take."""

from __future__ import annotations

import base64
import random
import resource
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from exporter.runtime import Pair, PairTokenizer
from tests.support import SPECIAL, WORDS

# What texts are made of: words known and unknown, scripts without blanks, what normalizers drop, split, join
# or make longer, blanks of all kinds, and added tokens, whole, cut and in disguise.
FRAGMENTS = [
    *("wing", "lift ", "Drag", " unknownword ", "q", "0", "12345 ", "x1-y2", "don't "),
    *("中", "文字", "\uf900", "ひらがな", "カナ", "한국어", "ภาษาไทย", "मानक", "عربى", "Ωμέγα", "ПРИВЕТ "),
    *("é", "e\u0301", "\u0301", "\u0344", "İ", "ß", "ﬁ", "\ufdfa", "Å", "\u037e", "\u1fef", "ǖ"),
    *("\x00", "\ufffd", "\u200b", "\u200d", "\ufeff", "\xad", "\ue000", "\u0378"),
    *(" ", "  ", "\t", "\n", "\r\n", "\x0b", "\x1c", "\x85", "\xa0", "\u2003", "\u2028", "\u3000"),
    *("!", "?!", "...", "«", "€", "$", "_", "{", '":', "],[", "=" * 9, "🛩", "👩‍🚀", "\U00020000"),
    *("[SEP]", "[SEP", "EP]", "[", "]", "[sep]", "[S\u200bEP]", "[MASK] ", "<new>", "<NEW>", "<ne", "w>"),
]
TEXTS = st.lists(
    st.tuples(st.sampled_from(FRAGMENTS), st.sampled_from([1, 1, 1, 2, 7, 130, 400])), max_size=9
).map(lambda parts: "".join(fragment * n for fragment, n in parts))
LENGTHS = st.integers(8, 24)
SIDES = st.sampled_from(["right", "left"])
SLOW = settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
    ],
)


def bert(**options: bool) -> Tokenizer:
    """A WordPiece tokenizer with BERT's rules, and an added token that is matched in any case."""
    pieces = [*SPECIAL, *WORDS, *"abcdefghijklmnopqrstuvwxyz0123456789!?.,-_[]{}中文'", "##ing", "##s", "##1"]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(**options)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens([AddedToken("<new>", normalized=True)])
    return tokenizer


def corpus() -> list[str]:
    """Sentences to learn pieces from, the same every time."""
    chosen = random.Random(3)
    return [" ".join(chosen.choices([*WORDS, "中文", "don't", "1234", "é"], k=12)) for _ in range(200)]


def byte_level() -> Tokenizer:
    """A byte-level BPE tokenizer with RoBERTa's template, which adds four special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(sep=("</s>", 2), cls=("<s>", 1))
    return tokenizer


def unigram() -> Tokenizer:
    """A Unigram tokenizer as XLM-R has it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(" {2,}", " ")]  # type: ignore[list-item] # the stubs'
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150,
        special_tokens=["<pad>", "<s>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


WORD_PIECE = {
    "uncased": bert,
    "cased": lambda: bert(lowercase=False),
    "accents kept": lambda: bert(strip_accents=False),
    "characters kept": lambda: bert(clean_text=False, handle_chinese_chars=False),
}
OTHERS = {"byte-level BPE": byte_level, "Unigram": unigram}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizers")


@cache
def as_json(name: str) -> str:
    """Return a tokenizer as its file has it; training one takes time."""
    return (WORD_PIECE | OTHERS)[name]().to_str()


@cache
def both(folder: Path, name: str, max_length: int, side: str) -> tuple[PairTokenizer, Tokenizer]:
    """Return a tokenizer as the runtime has it, and the plain one that cuts the whole texts itself."""
    plain = Tokenizer.from_str(as_json(name))
    plain.enable_truncation(max_length, strategy="longest_first", direction=side)
    path = folder / f"{name}-{max_length}-{side}.json"
    plain.save(str(path))
    return PairTokenizer(path, max_length, 0), plain


def kept(n_query: int, n_passage: int, room: int) -> tuple[int, int]:
    """Return what `longest_first` leaves of two texts, step by step as the tokenizers' library has it.

    Source: https://github.com/huggingface/tokenizers/blob/main/tokenizers/src/utils/truncation.rs
    """
    if n_query + n_passage <= room:
        return n_query, n_passage
    short, long = sorted((n_query, n_passage))
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short, long = room // 2, room // 2 + room % 2
    return (long, short) if n_query > n_passage else (short, long)


def cut_by_hand(plain: Tokenizer, pair: Pair, max_length: int, side: str) -> list[int]:
    """Return a pair's tokens without the library's truncation, whose memory grows with the texts' product."""
    model = plain.encode("wing", "wing")
    whole = [plain.encode(text, add_special_tokens=False) for text in pair]
    texts = [[*encoding.ids, *(i for more in encoding.overflowing for i in more.ids)] for encoding in whole]
    if side == "left":  # the pieces that were cut off come last first
        texts = [
            [i for part in [*encoding.overflowing[::-1], encoding] for i in part.ids] for encoding in whole
        ]
    n_kept = kept(len(texts[0]), len(texts[1]), max_length - model.sequence_ids.count(None))
    parts = [
        ids[:n] if side == "right" else ids[len(ids) - n :] for ids, n in zip(texts, n_kept, strict=True)
    ]
    found: list[int] = []
    for is_of, token in zip(model.sequence_ids, model.ids, strict=True):
        found += [token] if is_of is None else parts[is_of]
        parts = [[] if i == is_of else ids for i, ids in enumerate(parts)]
    return found


def assert_same(folder: Path, name: str, max_length: int, side: str, pair: Pair) -> None:
    """Hold a pair's tokens against the plain tokenizer's, and type ids where that takes no gigabytes."""
    ours, plain = both(folder, name, max_length, side)
    (found,) = ours.encode([pair])
    assert found.ids.tolist() == cut_by_hand(plain, pair, max_length, side)
    if len(pair[0]) * len(pair[1]) < 300 * max_length**2:
        wanted = plain.encode(*pair)
        assert found.ids.tolist() == wanted.ids
        assert found.type_ids.tolist() == wanted.type_ids


@SLOW
@given(query=TEXTS, passage=TEXTS, max_length=LENGTHS, side=SIDES, name=st.sampled_from([*WORD_PIECE]))
@example(query="[SEP" + "\u200b" * 400 + "]", passage="q", max_length=8, side="right", name="uncased")
@example(query="q" * 99 + "\u200b" * 400 + "q", passage="q", max_length=8, side="right", name="uncased")
@example(query="q" * 99 + "\u0301" * 400 + "q!", passage="wing", max_length=8, side="left", name="cased")
@example(
    query="wing" + "\u200b" * 400 + " " * 400 + "lift", passage="", max_length=8, side="left", name="uncased"
)
@example(query="中文" * 400, passage="文字" * 400, max_length=8, side="right", name="uncased")
@example(query="中文" * 400, passage="文字" * 399, max_length=8, side="right", name="uncased")
def test_word_piece_tokens_are_those_of_the_whole_text(
    folder: Path, *, query: str, passage: str, max_length: int, side: str, name: str
) -> None:
    """Whatever is in a text and however long it is: the tokens the plain tokenizer keeps, on either side."""
    assert_same(folder, name, max_length, side, (query, passage))


@SLOW
@given(query=TEXTS, passage=TEXTS, max_length=LENGTHS, side=SIDES, name=st.sampled_from([*OTHERS]))
def test_other_tokens_are_those_of_the_whole_text(
    folder: Path, *, query: str, passage: str, max_length: int, side: str, name: str
) -> None:
    """The same for BPE and Unigram, as long as no run without a blank has 10,000 characters."""
    assert_same(folder, name, max_length, side, (query, passage))


@pytest.mark.parametrize("name", [*WORD_PIECE, *OTHERS])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("n_words", [(150, 151), (151, 150), (150, 150), (3, 999), (999, 3), (0, 999)])
def test_the_odd_token_goes_to_the_longer_text(
    folder: Path, name: str, side: str, n_words: tuple[int, int]
) -> None:
    """Which of two long texts has more tokens is seen, with even and odd room for them."""
    query, passage = ("wing lift " * n for n in n_words)
    for max_length in (17, 18):
        assert_same(folder, name, max_length, side, (query, passage))


@SLOW
@given(texts=st.lists(TEXTS, min_size=2, max_size=2), name=st.sampled_from([*WORD_PIECE]))
def test_counts_are_those_of_the_whole_text(folder: Path, texts: list[str], name: str) -> None:
    """Long texts are counted to their end, in blocks that cut no token."""
    ours, plain = both(folder, name, 16, "right")
    plain.no_truncation()
    pair = (texts[0] * 40, texts[1])
    wanted = len(plain.encode(*pair))
    plain.enable_truncation(16, strategy="longest_first")
    assert ours.count_untruncated([pair]).tolist() == [wanted]


MEGA = 1_000_000
HUGE = {
    "CJK": "中文" * (MEGA // 2),
    "punctuation": "?!" * (MEGA // 2),
    "base64": base64.b64encode(random.Random(1).randbytes(MEGA)).decode(),
    "JSON": '{"a":[1,2,{"b":null}]},' * (MEGA // 24),
    "Thai": "ภาษาไทยง่าย" * (MEGA // 11),
    "one word": "q" * MEGA,
    "words": "wing lift unknown " * (MEGA // 18),
    "blanks": " \n" * (MEGA // 2),
    "dropped": "\u200b" * MEGA,
    "dropped among blanks": " \u200b" * (MEGA // 2),
    "accents": "e\u0301" * (MEGA // 2),
    "brackets": "[" * MEGA,
    "added tokens": "[SEP]" * (MEGA // 5),
}


@pytest.mark.parametrize("text", HUGE)
def test_memory_for_huge_texts_is_bounded(folder: Path, text: str) -> None:
    """Two texts of megabytes take tens of megabytes, whatever they hold, and give what their ends give."""
    ours, plain = both(folder, "uncased", 64, "right")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (found,) = ours.encode([(HUGE[text], HUGE[text])])
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 200
    assert found.ids.tolist() == plain.encode(HUGE[text][:2_000], HUGE[text][:2_000]).ids


def test_a_giant_run_that_follows_no_known_rule(folder: Path) -> None:
    """Of a run without blanks no more is read for BPE and Unigram than gives enough tokens."""
    for name in OTHERS:
        ours, plain = both(folder, name, 16, "right")
        (found,) = ours.encode([("wing" * 500_000, "中" * 500_000)])
        assert found.ids.tolist() == plain.encode("wing" * 100, "中" * 100).ids
