"""What a tokenizer.json may hold: what libraries write passes, whatever grows or leads outside does not."""

from __future__ import annotations

import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from exporter.artifact.charsmap import read_charsmap
from exporter.artifact.patterns import odd_pattern
from exporter.artifact.tokenizer_json import MAX_GROWTH, odd_tokenizer
from tests.hub_folders import PATTERNS


def charsmap(texts: dict[str, str]) -> bytes:
    """Build SentencePiece's table: each node of the trie in a block of 256 units of its own."""
    blob, units, at = b"", {0: 0}, {}
    bases: dict[bytes, int] = {b"": 256}
    for text in texts:
        raw = text.encode()
        for i in range(1, len(raw) + 1):
            bases.setdefault(raw[:i], 256 * (len(bases) + 1))
    units[0] = 256 << 10
    for prefix, base in bases.items():
        if prefix:
            place = bases[prefix[:-1]] ^ prefix[-1]
            units[place] = prefix[-1] | (place ^ base) << 10
            at[prefix] = place
    for text, stands in texts.items():
        units[at[text.encode()]] |= 1 << 8
        units[bases[text.encode()]] = len(blob) | 1 << 31
        blob += stands.encode() + b"\0"
    trie = [units.get(i, 0) for i in range(256 * (len(bases) + 1))]
    return struct.pack(f"<I{len(trie)}I", 4 * len(trie), *trie) + blob


FI = charsmap({"ﬁ": "fi", "①": "1", "㍍": "メートル"})


def a_tokenizer(kind: str) -> Tokenizer:
    """Give a tokenizer as published models have them, small."""
    if kind == "bert":
        made = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
        made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
        )
        made.decoder = decoders.WordPiece()
        made.enable_padding(length=64)
    elif kind == "xlm-roberta":
        made = Tokenizer(models.Unigram([("<s>", 0.0), ("▁a", -1.5), ("b", -2.0)], 0, byte_fallback=False))
        made.normalizer = normalizers.Sequence(
            [normalizers.Precompiled(FI), normalizers.Replace(Regex(" {2,}"), " ")]
        )
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
        )
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A <s>", pair="<s> $A <s> <s> $B <s>", special_tokens=[("<s>", 0)]
        )
        made.decoder = decoders.Metaspace()
    elif kind == "albert":
        made = Tokenizer(models.Unigram([("<s>", 0.0), ("▁a", -1.5)], 0))
        made.normalizer = normalizers.Sequence(
            [
                *(normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD()),
                *(normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Precompiled(FI)),
                normalizers.Replace(Regex(" {2,}"), " "),
            ]
        )
        made.pre_tokenizer = pre_tokenizers.Metaspace()
    elif kind == "roberta":
        made = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.post_processor = processors.RobertaProcessing(("b", 1), ("a", 0))
        made.decoder = decoders.ByteLevel()
    elif kind == "llama":
        made = Tokenizer(
            models.BPE({"a": 0, "▁": 1}, [], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
        )
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    else:
        made = Tokenizer(models.BPE({"a": 0}, []))
        made.normalizer = normalizers.NFC()
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [
                *(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in PATTERNS.values()),
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.Punctuation(),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        made.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False)])
    made.add_special_tokens(["<mask>"])
    return made


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "albert", "roberta", "llama", "gpt"])
def test_tokenizers_as_libraries_write_them(kind: str) -> None:
    """Every component of the models people use passes, and every pattern is one that tokenizers can read."""
    content = json.loads(a_tokenizer(kind).to_str())
    assert odd_tokenizer(content) is None
    del content["model"]["type"]  # as in files of old versions
    assert odd_tokenizer(content) is None


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_patterns_of_published_models(pattern: str) -> None:
    """Those that split words for GPT-2, Llama, DeepSeek and others."""
    assert odd_pattern(pattern) is None


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "(a+)+$",
            "(a|a)+x",
            "(a|ab)*c",
            "(x+x+)+y",
            r"^(\w+\s?)*$",
            "(a?b?)+c",
            "((a{1,9})+)+b",
            r"(\p{L}*)*\d",
        ),
        *(".*.*x", "a*a*a*b", r"\s+\s+\S", "(?=.*.*x)a", "(?:a*b*)c", "(a*)(a*)b", "a{1,9}+x"),
        *(
            "(a?){30}a{30}",
            "a?" * 30 + "a" * 30,
            "(a{1,100}){1,100}x",
            "a{1,100000}",
            "(a|b|c){20}(a|b|c){20}x",
        ),
        *(r"(a)\1", r"(?<n>a)\k<n>", r"(?R)", r"\g<0>", "(?~a)", "(?(1)a|b)", "(?{x})", "(*FAIL)", "(?#x)"),
        *("[a", "(a", "a)", "*a", "a**b+*c", "^*", "(" * 20 + "a" + ")" * 20, "a" * 5000, "(?x)a", r"\Q"),
        *("a" + "{2}" * 1300, "a" + "?" * 4000, "(?:a" + "*?" * 1000 + ")b", "a{2}{2}{2}{2}"),
    ],
)
def test_patterns_that_try_every_way(pattern: str) -> None:
    """Repeats of repeats, choices without end, what refers back, and what cannot be read."""
    found = odd_pattern(pattern)
    assert found is not None
    assert found.isprintable()


@given(st.text(alphabet="ab()[]|*+?{1,2}\\^$.:!=<>-", max_size=30))
def test_any_text_is_a_pattern_or_refused(pattern: str) -> None:
    """Whatever a pattern is, it is judged and nothing is raised."""
    odd_pattern(pattern)


def test_table_of_characters() -> None:
    """The library reads our table as it is meant, and the texts in it are found."""
    assert normalizers.Precompiled(FI).normalize_str("ﬁn ①") == "fin 1"
    assert set(read_charsmap(base64.b64encode(FI).decode())) == {"fi", "1", "メートル", ""}


def damaged(at: int, value: int) -> bytes:
    """Write another unit into the trie."""
    raw = bytearray(FI)
    struct.pack_into("<I", raw, 4 + 4 * at, value)
    return bytes(raw)


def first_unit() -> int:
    """Find the unit of the first byte of a key."""
    return next(i for i in range(256, 512) if struct.unpack_from("<I", FI, 4 + 4 * i)[0])


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "says that 0 of them"),
        (b"\x04\0\0\0", "says that 4 of them"),
        (b"\xff\xff\xff\xff" + bytes(8), "of them are a trie"),
        (FI[:-1] + b"\xff", "not UTF-8"),
        (damaged(0, 1 << 30), "leads outside of its trie"),
        (damaged(0, 0xFFFFFFFF), "leads outside of its trie"),
        (damaged(first_unit(), struct.unpack_from("<I", FI, 4 + 4 * first_unit())[0] ^ 1 << 28), "outside"),
    ],
)
def test_table_that_leads_outside(raw: bytes, words: str) -> None:
    """Each of these is a panic of the library's, at load or in the middle of a text."""
    with pytest.raises(ValueError, match=words):
        read_charsmap(base64.b64encode(raw).decode())


def test_table_whose_values_lead_outside() -> None:
    """A value past the end of the texts, or in the middle of a character."""
    cut = FI[: FI.index(b"1\0")]
    with pytest.raises(ValueError, match="past the end of its texts"):
        read_charsmap(base64.b64encode(cut).decode())
    moved = charsmap({"a": "é"})
    moved = moved.replace(struct.pack("<I", 1 << 31), struct.pack("<I", 1 << 31 | 1))
    with pytest.raises(ValueError, match="into the middle of a character"):
        read_charsmap(base64.b64encode(moved).decode())


@given(st.binary(max_size=64), st.integers(0, 1023))
def test_any_bytes_are_a_table_or_refused(raw: bytes, at: int) -> None:
    """A table with bytes changed is refused, or one that tokenizers reads any text with."""
    changed = bytearray(FI)
    changed[at : at + len(raw)] = raw
    try:
        read_charsmap(base64.b64encode(changed).decode())
    except ValueError:
        return
    normalizer = normalizers.Precompiled(bytes(changed))
    normalizer.normalize_str("".join(map(chr, range(1, 0x3400))))


def test_growth_is_that_of_the_normalizers() -> None:
    """What is said to grow grows by no more in the library, and what is allowed stays below the limit."""
    ten = normalizers.Replace("x", "x" * 10)
    twice = normalizers.Sequence([ten, ten])
    assert len(twice.normalize_str("x")) == 100
    made = Tokenizer(models.BPE())
    made.normalizer = twice
    assert odd_tokenizer(json.loads(made.to_str())) is None
    made.normalizer = normalizers.Sequence([ten, ten, normalizers.Replace("x", "yy")])
    assert odd_tokenizer(json.loads(made.to_str())) == (
        f"its normalizer makes up to 200 characters of one; wanted {MAX_GROWTH} at most"
    )
    many = [normalizers.Replace(c, c * 3) for c in "abcdefghijklmnopqrstuvwxyz"]
    made.normalizer = normalizers.Sequence(many)  # each of another character: nothing grows twice
    assert odd_tokenizer(json.loads(made.to_str())) is None


def test_parts_are_counted_over_all_sequences() -> None:
    """Many short sequences hold as many parts as one long, which no sum over them could be made of."""
    made = Tokenizer(models.BPE())
    for n, m in ((2, 32), (2, 33), (32, 32)):
        inner = normalizers.Sequence([normalizers.Lowercase()] * m)
        made.normalizer = normalizers.Sequence([inner] * n)
        odd = None if n * m <= 64 else "its normalizer has more than 64 parts"
        assert odd_tokenizer(json.loads(made.to_str())) == odd


def test_patterns_that_match_where_nothing_is() -> None:
    """They put their text between all characters; those that take a character put it in its place."""
    made = Tokenizer(models.BPE())
    for pattern, n in ((r"a|\b", 202), ("a*", 202), ("(?=a)", 202), ("a+|bc?", 200), ("(a|b)c", 200)):
        made.normalizer = normalizers.Sequence(
            [normalizers.Replace(Regex(pattern), "x" * 100), normalizers.Replace("x", "xx")]
        )
        found = odd_tokenizer(json.loads(made.to_str()))
        assert found is not None
        assert f"up to {n} characters" in found  # an x becomes two by itself
