"""Damage as it happens to files, and as it is done to them: by seed, repeatable."""

from __future__ import annotations

import copy
import json
import re

ODD = (
    None, True, -1, 0, 1, 7, 1.5, -2.5, 2**31, 2**63, 10**30, 1e308, -1e308,
    float("nan"), float("inf"), "", "x", "../../x", "/etc/passwd", [], [[]], {},
    [None], [0, 0], [-1, 10**12], {"type": "affine"}, "\ud800", "9" * 400,
)  # fmt: skip
WORDS = (b"0", b"-1", b"99999999999", b"nan", b"1e400", b"", b"../x", b"\xff\xfe")
EXTREMES = (b"\0", b"\xff", b"\x7f", b"\x80")


def mutated(data: bytes, rng, *, text: bool) -> bytes:
    """Damage a file's bytes in one to three ways."""
    if text and rng.random() < 0.8:
        try:
            return _json(data, rng)
        except ValueError:
            pass
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        rng.choice((_flip, _flip, _extreme, _extreme, _cut, _blank, _splice, _word))(
            out, rng
        )
        if not out:
            break
    return bytes(out)


def _place(out, rng):
    # Headers decide most, so half of all damage is done there.
    near = min(len(out), 512)
    return rng.randrange(near if rng.random() < 0.5 else len(out))


def _flip(out, rng):
    for _ in range(rng.choice((1, 1, 4, 16))):
        out[_place(out, rng)] ^= 1 << rng.randrange(8)


def _extreme(out, rng):
    at, size = _place(out, rng), rng.choice((1, 2, 4, 8))
    out[at : at + size] = rng.choice(EXTREMES) * min(size, len(out) - at)


def _cut(out, rng):
    del out[_place(out, rng) :]


def _blank(out, rng):
    at = _place(out, rng)
    size = min(rng.choice((16, 256, 4096)), len(out) - at)
    out[at : at + size] = bytes(size)


def _splice(out, rng):
    at, to = _place(out, rng), _place(out, rng)
    size = rng.choice((1, 8, 64, 512))
    out[to:to] = out[at : at + size]


def _word(out, rng):
    """Replace a number written in letters, as XML and text headers have them."""
    found = list(re.finditer(rb"\d+\.?\d*", bytes(out[:65536])))
    if found:
        match = rng.choice(found)
        out[match.start() : match.end()] = rng.choice(WORDS)


def _json(data, rng):
    content = json.loads(data)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(content))
        if not places:
            break
        holder, key = rng.choice(places)
        if isinstance(holder, dict) and rng.random() < 0.3:
            holder.pop(key, None)
        elif isinstance(holder, dict) or key < len(holder):
            holder[key] = copy.deepcopy(rng.choice(ODD))
    return json.dumps(content).encode("utf-8", "surrogatepass")


def _places(value):
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from _places(inner)
