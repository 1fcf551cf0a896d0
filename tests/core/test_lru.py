"""ByteLRU: bounded in bytes, the longest unused first, from any thread."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.lru import ByteLRU


def test_a_value_that_was_used_outlives_older_ones():
    kept = ByteLRU(8, len)
    kept.put("a", b"1234")
    kept.put("b", b"1234")
    assert kept.get("a") == b"1234"
    kept.put("c", b"1234")
    assert (kept.get("a"), kept.get("b")) == (b"1234", None)


def test_a_value_put_again_takes_the_place_of_the_first():
    kept = ByteLRU(8, len)
    kept.put("a", b"1234")
    kept.put("a", b"12")
    assert (kept.get("a"), kept.nbytes, len(kept)) == (b"12", 2, 1)


@pytest.mark.parametrize("keep_last", [True, False])
def test_a_value_larger_than_the_cache_is_kept_only_on_request(keep_last):
    kept = ByteLRU(4, len, keep_last=keep_last)
    kept.put("a", b"1234")
    kept.put("b", b"123456")
    assert kept.get("a") is None
    assert (kept.get("b") is not None) == keep_last


def test_a_value_is_made_once():
    kept, made = ByteLRU(8, len), []

    def make():
        made.append(1)
        return b"12"

    assert kept.get_or_make("a", make) == kept.get_or_make("a", make) == b"12"
    assert len(made) == 1
    kept.drop("a")
    kept.drop("never there")
    kept.get_or_make("a", make)
    kept.clear()
    assert (len(made), len(kept), kept.nbytes) == (2, 0, 0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12)), max_size=30))
def test_it_keeps_the_values_used_last_that_fit(puts):
    kept = ByteLRU(20, len)
    for key, size in puts:
        kept.put(key, bytes(size))
    model: dict[int, int] = {}
    for key, size in puts:
        model.pop(key, None)
        model[key] = size
        while sum(model.values()) > 20:
            model.pop(next(iter(model)))
    assert kept.nbytes == sum(model.values()) <= 20
    assert {k: len(kept.get(k) or b"") for k in model} == model
    assert len(kept) == len(model)


def test_threads_never_lose_count_of_the_bytes():
    kept = ByteLRU(50, len)

    def work(seed):
        for i in range(300):
            kept.put((seed * 31 + i) % 17, bytes(1 + i % 7))
            kept.get(i % 17)
            kept.drop(i % 5)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert kept.nbytes == sum(len(kept.get(k) or b"") for k in range(17)) <= 50
