"""A second implementation of job-bound sampling, from the definitions in core/sampling/src/lib.rs and rules.rs and not from their code.

Writes sampling.json beside it, or with --check compares the file's content with what it computes. Standard library
only. The logarithm and exponential are spelled out (fdlibm's, FreeBSD's e_log.c and e_exp.c), because those of the
system's C library may differ in the last bit.
"""

import argparse
import hashlib
import hmac
import json
import math
import pathlib
import struct

FILE = pathlib.Path(__file__).with_name("sampling.json")
MASK = 0xFFFFFFFF
LOWEST, HIGHEST = (struct.unpack("<f", struct.pack("<I", bits))[0] for bits in (0xFF7FFFFF, 0x7F7FFFFF))


def logarithm(x: float) -> float:
    """ln of a positive normal number; the polynomial on [sqrt(1/2), sqrt(2)]."""
    if x == 1.0:
        return 0.0
    bits = struct.unpack("<Q", struct.pack("<d", x))[0]
    high = (bits >> 32) + 0x3FF00000 - 0x3FE6A09E
    exponent = (high >> 20) - 0x3FF
    high = (high & 0xFFFFF) + 0x3FE6A09E
    f = struct.unpack("<d", struct.pack("<Q", high << 32 | bits & MASK))[0] - 1.0
    half_square, s = 0.5 * f * f, f / (2.0 + f)
    z = s * s
    w = z * z
    odd = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01))
    even = z * (6.666666666666735130e-01 + w * (2.857142874366239149e-01
                + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)))
    low, top = 1.90821492927058770002e-10, 6.93147180369123816490e-01
    return s * (half_square + (even + odd)) + exponent * low - half_square + f + exponent * top


def exponential(x: float) -> float:
    """exp of a number that is not above 0."""
    if x < -745.13321910194110842:
        return 0.0
    upper = struct.unpack("<Q", struct.pack("<d", -x))[0] >> 32
    if upper <= 0x3E300000:
        return 1.0 + x
    steps, high, low = 0, x, 0.0
    if upper > 0x3FD62E42:
        steps = int(1.44269504088896338700e00 * x - 0.5) if upper >= 0x3FF0A2B2 else -1
        high, low = x - steps * 6.93147180369123816490e-01, steps * 1.90821492927058770002e-10
    rest = high - low
    square = rest * rest
    c = rest - square * (1.66666666666666019037e-01 + square * (-2.77777777770155933842e-03
        + square * (6.61375632143793436117e-05 + square * (-1.65339022054652515390e-06 + square * 4.13813679705723846039e-08))))
    result = 1.0 + (rest * c / (2.0 - c) - low + high)
    return math.ldexp(result, steps)


def philox(counter: list[int], key: list[int]) -> list[int]:
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & MASK, (a >> 32) ^ c3 ^ k1, a & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return [c0, c1, c2, c3]


def gumbel(key: bytes, choice: int, position: int, token: int) -> float:
    k0, k1, k2 = struct.unpack("<3I", key[:12])
    word = philox([token // 4, position, choice, k2], [k0, k1])[token % 4]
    return -logarithm(-logarithm((word + 1.0) / 4294967297.0))


def hkdf(salt: bytes, secret: bytes, info: bytes) -> bytes:
    """RFC 5869, one block of output."""
    extracted = hmac.digest(salt or bytes(32), secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def request_digest(request: dict) -> bytes:
    """Fields in the order given, no spaces, other characters than ASCII as they are. What changes no answer is left out."""
    request = {name: value for name, value in request.items() if name != "top_logprobs"}
    return hashlib.sha256(json.dumps(request, separators=(",", ":"), ensure_ascii=False).encode()).digest()


def sample_key(secret: bytes, job: bytes, request: dict, model: bytes) -> bytes:
    info = b"infera/sample/v1" + request_digest(request) + model
    if request.get("seed", 0) >= 1 << 63:
        return hkdf(b"", b"large seed" + struct.pack("<Q", request["seed"]), info)
    if "seed" in request:
        return hkdf(b"", b"seed" + struct.pack("<q", request["seed"]), info)
    return hkdf(job, secret, info)


def single(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


def finite(logit) -> float:
    """The file writes odd values as words."""
    if isinstance(logit, str):
        return {"nan": LOWEST, "-inf": LOWEST, "inf": HIGHEST}[logit]
    return logit


def choose(row: list, temperature: float, key: bytes, choice: int, position: int) -> dict:
    logits = [finite(logit) for logit in row]
    scores = [logit + temperature * gumbel(key, choice, position, token) if temperature > 0 else logit
              for token, logit in enumerate(logits)]
    best = sorted(range(len(row)), key=lambda token: (-scores[token], token))[:4]
    highest, total = max(logits), 0.0
    for logit in logits:
        total += exponential(logit - highest)
    return dict(top=[[token, logits[token]] for token in best], log_sum_exp=bits(highest + logarithm(total)))


def weight(logit: float, highest: float) -> float:
    return 0.0 if highest - logit > 64 else exponential(logit - highest)


def left(row: list, knobs: dict, prompt: list[int], said: list[int], ends: list[int]) -> dict[int, float]:
    """The tokens that the knobs leave of a row, with their logits after penalties and bias, highest first."""
    logits = {}
    for token, logit in enumerate(map(finite, row)):
        times = said.count(token)
        if "repetition_penalty" in knobs and (times or token in prompt):
            logit = logit / knobs["repetition_penalty"] if logit > 0 else logit * knobs["repetition_penalty"]
        if times:
            logit = logit - times * knobs.get("frequency_penalty", 0.0) - knobs.get("presence_penalty", 0.0)
        logits[token] = logit + knobs.get("logit_bias", {}).get(str(token), 0.0)
    if knobs.get("ignore_eos") or len(said) < knobs.get("min_tokens", 0):
        allowed = {token: logit for token, logit in logits.items() if token not in ends}
        logits = allowed or logits
    ordered = sorted(logits, key=lambda token: (-logits[token], token))
    if "top_k" in knobs:
        ordered = ordered[:knobs["top_k"]]
    highest = logits[ordered[0]]
    if knobs.get("top_p", 1.0) < 1.0:
        total = 0.0
        for token in sorted(ordered):
            total += weight(logits[token], highest)
        reached = 0.0
        for place, token in enumerate(ordered):
            reached += weight(logits[token], highest)
            if reached >= knobs["top_p"] * total:
                ordered = ordered[:place + 1]
                break
    if knobs.get("min_p", 0.0) > 0.0:
        ordered = [token for token in ordered if logits[token] >= highest + logarithm(knobs["min_p"])]
    return {token: logits[token] for token in ordered}


def choose_by_rules(row: list, case: dict, key: bytes) -> dict:
    logits, temperature, position = [finite(logit) for logit in row], case["temperature"], len(case["said"])
    scores = left(row, case["knobs"], case["prompt"], case["said"], case["end_tokens"])
    if temperature > 0:
        scores = {token: logit + temperature * gumbel(key, case["choice"], position, token) for token, logit in scores.items()}
    best = sorted(scores, key=lambda token: (-scores[token], token))[:4]
    likeliest = sorted(range(len(row)), key=lambda token: (-logits[token], token))[:case["top_logprobs"]]
    plain = choose(row, 0.0, key, case["choice"], position)
    return dict(top=[[token, logits[token]] for token in best], log_sum_exp=plain["log_sum_exp"], logit_max=max(logits),
                likeliest=[[token, logits[token]] for token in likeliest])


def bits(value: float) -> str:
    """Decimal numbers in JSON may lose the last bit in some readers; the bytes of the f64 don't."""
    return struct.pack(">d", value).hex()


def key_cases() -> list[dict]:
    secret, job, model = bytes(range(32)), bytes(range(100, 116)), bytes([7] * 32)
    plain = dict(model="infera-tiny", messages=[dict(role="user", content="What is 2 + 2?")], max_tokens=16, temperature=0.7)
    unusual = dict(model="infera-tiny", messages=[dict(role="user", content="Z\u00fcrich \"quoted\"\n")], max_tokens=1, temperature=1.5)
    cases = []
    knobs = dict(stop=["\n\n", "\u6771"], top_p=0.9, top_k=40, min_p=0.05, frequency_penalty=-0.5, presence_penalty=0.25,
                 repetition_penalty=1.1, logit_bias={"7": -100.0, "11": 2.5}, min_tokens=3, ignore_eos=True)
    for request in (plain, unusual, plain | dict(seed=-42), unusual | dict(seed=2**40), plain | dict(seed=2**64 - 1),
                    plain | dict(knobs=knobs), plain | dict(knobs=dict(stop=["x"])), plain | dict(top_logprobs=5)):
        key = sample_key(secret, job, request, model)
        cases.append(dict(secret=secret.hex(), job=job.hex(), model=model.hex(), request=request,
                          sample_key=key.hex(), draw_key=hmac.digest(secret, b"draw" + job, "sha256").hex()))
    return cases


def gumbel_cases() -> list[dict]:
    cases = []
    for name in ("first", "second"):
        key = hashlib.sha256(name.encode()).digest()
        for choice, position, token in ((0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 1, 0), (1, 0, 0),
                                        (0, 511, 767), (2, 70000, 151935), (MASK, MASK, MASK)):
            value = gumbel(key, choice, position, token)
            cases.append(dict(key=key.hex(), choice=choice, position=position, token=token,
                              gumbel=bits(value), about=round(value, 6)))
    return cases


def rows() -> list[list]:
    spread = [8 * math.sin(0.37 * token) - 0.01 * token for token in range(200)]
    listed = [spread, [0.5] * 9, [1.0, 2.0], ["nan", 1.0, "-inf", 0.5, "nan", 3.0], [3.0, "inf", 1.0, "inf", 0.0],
              ["nan"] * 5, [-3.25e38, 3.25e38, 0.0, 1.0, 2.0],
              [2.0, 3.5, 2.0, 1.0, 3.5, 1.0, 0.0, -0.0, 2.0, -0.0, 0.0, -1.5, 1.0],
              [-1.0, -0.0, 0.0, -0.0, 0.0]]
    return [[single(logit) if isinstance(logit, float) else logit for logit in row] for row in listed]


def choice_cases() -> list[dict]:
    key = hashlib.sha256(b"choices").digest()
    cases = []
    for index, row in enumerate(rows()):
        for temperature in (0.0, 0.3, 1.0, 2.0):
            for position in (0, 3):
                cases.append(dict(key=key.hex(), choice=0, position=position, temperature=temperature, row=index,
                                  **choose(row, temperature, key, 0, position)))
    return cases


def knob_mixes() -> list[dict]:
    """Each knob alone, and mixes. Penalties and masks meet the tokens that `knob_cases` says."""
    alone = [dict(top_k=count) for count in (1, 2, 3, 5, 40, 1000)]
    alone += [dict(top_p=share) for share in (0.0, 0.1, 0.5, 0.9, 0.999, 1.0)]
    alone += [dict(min_p=share) for share in (0.0, 0.0001, 0.1, 0.5, 1.0)]
    alone += [dict(frequency_penalty=1.25), dict(frequency_penalty=-2.0), dict(presence_penalty=1.5), dict(presence_penalty=-0.75),
              dict(repetition_penalty=1.3), dict(repetition_penalty=0.5), dict(repetition_penalty=2.0)]
    alone += [dict(logit_bias={"6": 100.0}), dict(logit_bias={"1": -100.0, "2": -100.0, "3": 1.5}), dict(logit_bias={"5000": 3.0})]
    alone += [dict(min_tokens=7), dict(min_tokens=6), dict(ignore_eos=True)]
    mixed = [
        dict(top_k=7, top_p=0.8), dict(top_k=3, min_p=0.2), dict(top_p=0.7, min_p=0.05), dict(top_k=9, top_p=0.95, min_p=0.01),
        dict(frequency_penalty=0.5, presence_penalty=0.25), dict(repetition_penalty=1.2, frequency_penalty=0.3, top_k=4),
        dict(logit_bias={"0": 2.0, "4": -3.5}, top_p=0.6), dict(logit_bias={"1": 9.0}, min_tokens=9), dict(ignore_eos=True, top_k=2),
        dict(ignore_eos=True, logit_bias={"1": 100.0}, min_p=0.3), dict(repetition_penalty=0.8, presence_penalty=1.0, min_tokens=20),
        dict(top_p=0.9, top_k=40, min_p=0.02, frequency_penalty=-0.5, presence_penalty=0.25, repetition_penalty=1.1,
             logit_bias={"2": -100.0, "3": 2.5}, min_tokens=8, ignore_eos=False),
        dict(top_p=0.5, top_k=6, frequency_penalty=2.0, presence_penalty=2.0, repetition_penalty=1.9, logit_bias={"5": 4.0},
             ignore_eos=True),
    ]
    return [{}] + alone + mixed


def knob_cases() -> list[dict]:
    key, listed, cases = hashlib.sha256(b"knobs").digest(), rows(), []
    for number, knobs in enumerate(knob_mixes()):
        for index, temperature in ((0, 0.8), ((7, 0.0), (7, 0.35), (3, 1.0))[number % 3]):
            case = dict(key=key.hex(), choice=number % 3, temperature=temperature, row=index, knobs=knobs,
                        top_logprobs=(0, 1, 5, 20, 0)[number % 5], prompt=[3, 0, 8, 3], said=[2, 5, 2, 6, 2, 5], end_tokens=[1, 4])
            cases.append(case | choose_by_rules(listed[index], case, key))
    # Masks that would allow nothing are lifted; zeros are equal, whatever their sign.
    for index, knobs in ((2, dict(ignore_eos=True)), (8, dict(top_k=1)), (8, dict(top_k=2)), (8, dict(top_p=0.1)), (8, dict(min_p=1.0))):
        case = dict(key=key.hex(), choice=0, temperature=0.0, row=index, knobs=knobs, top_logprobs=3, prompt=[], said=[], end_tokens=[0, 1])
        cases.append(case | choose_by_rules(listed[index], case, key))
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    computed = dict(keys=key_cases(), gumbels=gumbel_cases(), rows=rows(), choices=choice_cases(),
                    knobs=knob_cases())
    sections = ",\n".join(f'"{name}": [\n' + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]"
                          for name, cases in computed.items())
    text = "{\n" + sections + "\n}\n"
    if not parser.parse_args().check:
        FILE.write_text(text)
    elif FILE.read_text() != text:
        raise SystemExit(f"{FILE.name} differs from what the definition gives")
    print(", ".join(f"{len(cases)} {name}" for name, cases in computed.items()))


if __name__ == "__main__":
    main()
