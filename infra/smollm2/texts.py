"""Texts of many scripts, and conversations, for comparing two tokenizers. The same ones at each call."""

import random
import unicodedata

# First letters of runs of assigned characters, one for each script or kind of sign, and how many of the run are used.
RANGES = (
    (0x41, 26), (0x61, 26), (0xC0, 64), (0x100, 128), (0x180, 200), (0x250, 96), (0x1E00, 256), (0x370, 130), (0x400, 256),
    (0x531, 80), (0x5D0, 27), (0x620, 80), (0x710, 60), (0x780, 40), (0x7C0, 50), (0x905, 100), (0x985, 90), (0xA05, 90),
    (0xA85, 90), (0xB05, 90), (0xB85, 80), (0xC05, 90), (0xC85, 90), (0xD05, 90), (0xD85, 90), (0xE01, 58), (0xE81, 60),
    (0xF40, 90), (0x1000, 130), (0x10A0, 96), (0x1100, 200), (0x1200, 300), (0x13A0, 85), (0x1401, 400), (0x1681, 26),
    (0x16A0, 80), (0x1700, 80), (0x1780, 90), (0x1820, 88), (0x1950, 30), (0x1A00, 30), (0x1B05, 70), (0x1C00, 56),
    (0x1C50, 46), (0x2C00, 90), (0x2C80, 100), (0x2D30, 56), (0x3041, 86), (0x30A1, 90), (0x3105, 43), (0x4E00, 3000),
    (0x3400, 500), (0xA000, 500), (0xAC00, 3000), (0xA4D0, 46), (0xA880, 60), (0xFB50, 90), (0xFE70, 130), (0xFF01, 94),
    (0x10000, 80), (0x10280, 29), (0x10330, 27), (0x10400, 80), (0x10900, 22), (0x12000, 300), (0x13000, 300),
    (0x1D400, 300), (0x20000, 500), (0x2070, 40), (0x20A0, 32), (0x2100, 80), (0x2190, 112), (0x2200, 256), (0x2500, 256),
    (0x2600, 256), (0x1F300, 256), (0x1F600, 80), (0x1F900, 200), (0x660, 10), (0x966, 10), (0x2160, 40), (0xBC, 3),
)  # fmt: skip

PLAIN = (
    "", " ", "  ", "\n", "\t\t x", "a", " a", "a ", "Hello, world!", "I've we'll don't can't she'd I'm you're it's 'tis O'Brien's",
    "IT'S DON'T", "word's' 's", "1234567890", "3.14159, -2e10, 0x1F, 1,000,000", "x1y22z333", "  leading and trailing   ",
    "tabs\tand\r\nlines\n\n\n  mixed \n", "for (int i = 0; i < n; i++) { a[i] += b[i]; }", "def f(x):\n    return x ** 2\n",
    "<p class=\"a\">b &amp; c</p>", "{\"key\": [1, 2.5, null, true], \"é\": \"\\u00e9\"}", "https://example.com/a?b=c&d=%20#e",
    "!!! ??? ... --- *** ((())) [[]] {{}}", "a.b.c, d;e:f", "$5 €6 £7 ¥8", "naïve café Ünïcödé ß ŒŒ", "e\u0301 o\u0308",
    "👩\u200d👩\u200d👧 🏳️\u200d🌈 👍🏽 🇩🇪", "\u200b\u200e\ufeff", "a\u00a0b\u2003c\u3000d\u2028e", "²³¹½¾ⅣⅫ①②", "\x00\x01\x7f",
    "<|im_start|>user\nHi<|im_end|>", "<|endoftext|>", "<|im_end", "|im_end|>", "a<|im_start|><|im_end|>b", "<repo_name>x<file_sep>",
    "the quick brown fox jumps over the lazy dog " * 20, "a" * 300, " " * 100, "\n" * 40, "0" * 70, "ab" * 120, "é" * 90,
)  # fmt: skip


def letters(first, count):
    """Returns the assigned characters of a run."""
    run = (chr(code) for code in range(first, first + count))
    return [letter for letter in run if unicodedata.category(letter) not in ("Cn", "Cs")]


def texts():
    """Returns the texts: the plain ones, and seven of each run, mixed with spaces, digits and signs."""
    random_ = random.Random(2026)
    found = list(PLAIN)
    for first, count in RANGES:
        run = letters(first, count)
        for length in (3, 8, 15, 25, 40, 60, 90):
            words = "".join(random_.choices([*run, *run, *run, " ", " ", "7", ",", "-"][: 3 * len(run) + 5], k=length))
            found.append(words if length % 2 else f"English before {words}\n and after, {length}.")
    mixed = [letter for first, count in RANGES for letter in letters(first, count)]
    found += ["".join(random_.choices(mixed, k=30)) for _ in range(40)]
    return found


def conversations():
    """Returns conversations of every form that a chat may have."""
    def turn(role, content):
        return {"role": role, "content": content}

    forms = (["user"], ["system", "user"], ["user", "assistant", "user"], ["system", "user", "assistant", "user"])
    said = ("Hello!", "  spaces around  ", "two\nlines\n\n", "{{ braces }} {% if %}", "é 東京 🎉", "<b>&amp;</b> 'quotes' \"too\"", "-")
    found = [[turn(role, f"{content}{place}") for place, role in enumerate(form)] for form in forms for content in said]
    found.append([turn("user" if place % 2 == 0 else "assistant", f"turn {place}") for place in range(21)])
    return found
