"""The kinds of tokenizers that are compared: split patterns of model families, and their steps."""

from tokenizers import Regex, normalizers
from tokenizers import pre_tokenizers as pt

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
O200K_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (r"[^\r\n\p{L}\p{N}]?" + O200K_UPPER + "*" + O200K_LOWER + "+" + CONTRACTIONS + "?|"
         r"[^\r\n\p{L}\p{N}]?" + O200K_UPPER + "+" + O200K_LOWER + "*" + CONTRACTIONS + "?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
KIMI_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
KIMI_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
KIMI = (r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?" + KIMI_UPPER + "*" + KIMI_LOWER + "+" + CONTRACTIONS + "?|"
        r"[^\r\n\p{L}\p{N}]?" + KIMI_UPPER + "+" + KIMI_LOWER + "*" + CONTRACTIONS + "?|"
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]
# What the other dialects' corners look like; no model has this one.
CORNERS = (r"a{2,3}+|(?:\p{Greek}\w)+?(?=\s)|^\h+$|[\p{L}&&[^\p{Lo}\p{Lm}]]{2}|(?<=x)\d+|[^\S\n]+|"
           r"[\w-]+|\W{,2}?\u00e9|[[:alpha:][:digit:]\p{^Han}\x{3042}-\x{3044}]|.")

# Further families, as their tokenizer.json (or the pattern of their tiktoken file) has it.
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
          r"|\s*[\r\n]|\s+(?!\S)|\s+")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?" + O200K_UPPER + "*" + O200K_LOWER + r"+|[^\r\n\p{L}\p{N}]?" + O200K_UPPER + "+"
          + O200K_LOWER + r"*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
EXAONE = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?"
          r"|\s*[\r\n]|\s+(?!\S)|\s+")
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
POWERS = "".join(r"|\s{%d}(?!\S)" % (1 << k) for k in range(9, -1, -1))
JAIS2 = LLAMA3.replace(r"|\s+(?!\S)|\s+", POWERS + r"|\s+")
SEED = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{L}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK_CODER = ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+"]
DEEPSEEK_LLM = ["[\r\n]", r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-"
                r"Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕ]+",
                r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", "[一-龥ࠀ-一가-퟿]+"]
HANGUL_KANA = ["[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+"
               "|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+", TEKKEN]
SUPERBPE = [r"\p{N}+", r"(?=(\d{3})+(?!\d))"]
AFMOE = ["[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿"
         "ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+", DEEPSEEK[2]]


def split(pattern, behavior="isolated", invert=False):
    return pt.Split(Regex(pattern), behavior, invert)


def both(pattern, behavior):
    """The behaviour, as it is and inverted, of a regex and of a string."""
    return [split(pattern, behavior), split("[a-z]+", behavior, True), pt.Split("e", behavior),
            pt.Split("\u00e9.", behavior, True)]


def byte_level(**kwargs):
    return pt.ByteLevel(**{"add_prefix_space": False, "use_regex": False, **kwargs})


def kinds():
    """name: (pre-tokenizer, normalizer, ignore_merges)"""
    seq = pt.Sequence
    return {
        "smollm2": (seq([pt.Digits(True), byte_level(use_regex=True)]), None, False),
        "gpt2": (byte_level(use_regex=True, add_prefix_space=True), None, False),
        "llama3": (seq([split(LLAMA3), byte_level()]), None, True),
        "glm4": (seq([split(LLAMA3), byte_level()]), None, True),
        "qwen2": (seq([split(QWEN2), byte_level()]), normalizers.NFC(), False),
        "qwen35": (seq([split(QWEN35), byte_level()]), normalizers.NFC(), False),
        "deepseek": (seq([split(p) for p in DEEPSEEK] + [byte_level()]), normalizers.Sequence([]), False),
        "o200k": (seq([split(O200K), byte_level()]), None, True),
        "kimi_json": (seq([split(KIMI), byte_level()]), None, False),
        "falcon": (seq([pt.Punctuation("contiguous"), byte_level(use_regex=True), pt.Digits(False),
                        split("[0-9][0-9][0-9]")]), None, False),
        "corners": (seq([split(CORNERS, "merged_with_previous"), split(r"\s+", "merged_with_next"),
                         pt.Split(".", "removed"), split(r"\p{Lu}|", "contiguous", True),
                         split("[\\p{Greek}\\p{Han}]", "isolated", True), pt.Punctuation("isolated"),
                         byte_level(add_prefix_space=True)]), None, False),
        "commandr": (seq([pt.Digits(True), byte_level(use_regex=True)]), normalizers.NFC(), False),
        "gptneox": (byte_level(use_regex=True), normalizers.NFC(), False),
        "starcoder": (seq([pt.Digits(True), byte_level(use_regex=True)]), None, False),
        "digits": (seq([pt.Digits(False), byte_level()]), None, False),
        "punctuation": (seq([pt.Punctuation("removed"), pt.Digits(True), byte_level()]), None, False),
        "cl100k": (seq([split(CL100K), byte_level()]), None, True),
        "o200k_removed": (seq([split(O200K, "removed", True), byte_level()]), None, False),
        "tekken": (seq([split(TEKKEN), byte_level()]), None, True),
        "exaone": (seq([split(EXAONE), byte_level()]), normalizers.NFC(), False),
        "bloom": (seq([split(BLOOM), byte_level()]), None, False),
        "jais2": (seq([split(JAIS2), byte_level()]), None, False),
        "seed": (seq([split(SEED), byte_level()]), None, False),
        "deepseek_coder": (seq([split(p) for p in DEEPSEEK_CODER] + [pt.Digits(True), byte_level()]), None, False),
        "deepseek_llm": (seq([split(p) for p in DEEPSEEK_LLM] + [pt.Digits(True), byte_level()]), None, False),
        "youtu": (seq([split(p) for p in HANGUL_KANA] + [byte_level()]), None, False),
        "superbpe": (seq([split(p) for p in SUPERBPE] + [byte_level(use_regex=True)]), None, False),
        "afmoe": (seq([split(p) for p in AFMOE] + [byte_level()]), None, False),
        "isolated": (seq(both(r"\p{L}+", "isolated") + [byte_level()]), None, False),
        "removed": (seq([split(r"\d+", "removed"), split(r"[^\p{P}]+", "removed", True), pt.Split("th", "removed"),
                         byte_level()]), None, False),
        "previous": (seq(both(r"\s", "merged_with_previous") + [byte_level()]), None, False),
        "next": (seq(both(r"\s", "merged_with_next") + [byte_level()]), None, False),
        "contiguous": (seq(both(r"\p{L}", "contiguous") + [byte_level()]), None, False),
    }
