"""Values lately used, up to a number of bytes: the one cache of the project."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class ByteLRU(Generic[K, V]):
    """A cache bounded in bytes, safe from any thread: the longest unused go first.

    Parameters
    ----------
    max_bytes : int
        Most that all values may take; 0 keeps none.
    size : callable
        Bytes of a value.
    keep_last : bool
        Keep the value used last even where it alone is larger than `max_bytes`.

    Examples
    --------
    >>> kept = ByteLRU(10, len)
    >>> kept.put("a", b"1234"), kept.put("b", b"1234"), kept.put("c", b"1234")
    ([], [], ['a'])
    >>> kept.get("a"), kept.get("b"), kept.nbytes
    (None, b'1234', 8)
    """

    def __init__(
        self, max_bytes: int, size: Callable[[V], int], *, keep_last: bool = False
    ) -> None:
        self.max_bytes = max_bytes
        self._size, self._least = size, int(keep_last)
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Bytes of all values kept."""
        return self._bytes

    def get(self, key: K) -> V | None:
        """Return a value and count it as just used; None if it is not kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: K, value: V) -> list[K]:
        """Keep a value, in place of one under the same key; return what had to go."""
        size, gone = self._size(value), []
        with self._lock:
            self._drop(key)
            self._kept[key] = value, size
            self._bytes += size
            while self._bytes > self.max_bytes and len(self._kept) > self._least:
                gone.append(next(iter(self._kept)))
                self._drop(gone[-1])
        return gone

    def get_or_make(self, key: K, make: Callable[[], V]) -> V:
        """Return a value that is kept, or make and keep it.

        Two threads that miss at once both make it: none waits for another's work.
        """
        found = self.get(key)
        if found is None:
            found = make()
            self.put(key, found)
        return found

    def drop(self, key: K) -> None:
        """Forget a value, if it is kept."""
        with self._lock:
            self._drop(key)

    def clear(self) -> None:
        """Forget all values."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def _drop(self, key: K) -> None:
        self._bytes -= self._kept.pop(key, (None, 0))[1]
