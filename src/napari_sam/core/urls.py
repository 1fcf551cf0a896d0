"""What is a path and what an address, without the libraries that open either."""

from __future__ import annotations

from typing import Any


def is_url(path: Any) -> bool:
    """Whether a path lies on a server.

    Examples
    --------
    >>> is_url("s3://bucket/cells.zarr"), is_url("C:/cells.zarr")
    (True, False)
    """
    return isinstance(path, str) and "://" in path and not path.startswith("file://")
