"""zarr on S3, other object stores and web servers, with patience for connections.

Credentials come from the environment alone (``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``, ``AWS_REGION``, ``AWS_ENDPOINT_URL``
...); without any, S3 is read anonymously.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from zarr.storage import ObjectStore

from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

logger = logging.getLogger(__name__)

WAITS_S = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Pauses before a request is tried again; a connection is lost after the last."""
_CONNECT_S, _REQUEST_S = 5, 60
_TRUSTED_S = 30
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_METADATA_ENDPOINT",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip


def open_remote(url: str, *, read_only: bool = False) -> RemoteStore:
    """Give the zarr store of a URL: s3://, gs://, az://, https:// or http://.

    Parameters
    ----------
    url : str
    read_only : bool

    Raises
    ------
    NapariSamError
        If the package for it is not installed, or the URL is of no known kind.
    """
    try:
        import obstore  # noqa: F401
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise NapariSamError(
            f"{url!r} lies on a server, which needs a further package: "
            "pip install obstore"
        ) from error
    try:
        store = from_url(
            url,
            client_options=_client_options(url),
            # RemoteStore tries again itself, also where a body ends too early.
            retry_config={"max_retries": 0, "retry_timeout": timedelta(0)},
            **_config(url),
        )
    except (BaseError, ValueError) as error:
        raise NapariSamError(
            f"{url!r} cannot be used as the address of a zarr ({_brief(error)}): "
            "give one like s3://bucket/name.zarr or https://host/name.zarr"
        ) from error
    return RemoteStore(store, read_only=read_only, url=url)


def _client_options(url: str) -> dict[str, Any]:
    plain = url.startswith("http://") or os.environ.get(
        "AWS_ENDPOINT_URL", ""
    ).startswith("http://")
    return {
        "connect_timeout": timedelta(seconds=_CONNECT_S),
        "timeout": timedelta(seconds=_REQUEST_S),
        **({"allow_http": True} if plain else {}),
    }


def _config(url: str) -> dict[str, Any]:
    if not url.startswith("s3://"):
        return {}
    out: dict[str, Any] = {}
    if not any(name in os.environ for name in _CREDENTIALS):
        out["skip_signature"] = True
    if not any(name in os.environ for name in ("AWS_REGION", "AWS_DEFAULT_REGION")):
        out["region"] = "us-east-1"
    return out


class AccessDenied(OSError):
    """A server will not show a value, or will not say that there is none."""


class RemoteStore(ObjectStore[Any]):
    """A zarr store on a server: tries again, and says clearly when it gives up.

    Buckets that may not be listed answer 403 for keys that are not there. So a denied
    value counts as absent, as long as another value of the store can still be read;
    before any was, `denied` keeps the answer for whoever finds nothing.

    Parameters
    ----------
    store : obstore store
    read_only : bool
    url : str
        For messages.
    """

    def __init__(self, store: Any, *, read_only: bool = False, url: str = "") -> None:
        super().__init__(store, read_only=read_only)
        self.url = url
        self._readable: str | None = None
        self._trusted_until = 0.0
        self.denied: AccessDenied | None = None

    def with_read_only(self, read_only: bool = False) -> RemoteStore:
        """Return the same store, writable or not."""
        return type(self)(self.store, read_only=read_only, url=self.url)

    @property
    def supports_listing(self) -> bool:
        """Whether names below a prefix can be asked for: not on plain web servers."""
        return not self.url.startswith(("http://", "https://"))

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        """Read a value, or a part of it; None if there is none."""
        try:
            value = await self._patiently(super().get, key, *args, **options)
        except AccessDenied as error:
            await self._check_absent(error)
            return None
        if value is not None and self._readable is None:
            self._readable = key
        return value

    async def get_partial_values(
        self, prototype: Any, key_ranges: Iterable[Any]
    ) -> Any:
        """Read parts of several values."""
        wanted = list(key_ranges)
        try:
            return await self._patiently(super().get_partial_values, prototype, wanted)
        except AccessDenied:
            return [await self.get(key, prototype, part) for key, part in wanted]

    async def exists(self, key: str) -> bool:
        """Whether there is a value."""
        try:
            return bool(await self._patiently(super().exists, key))
        except AccessDenied as error:
            await self._check_absent(error)
            return False

    async def _check_absent(self, error: AccessDenied) -> None:
        """Tell a value that is not there from a store that may not be read (any more).

        Raises
        ------
        AccessDenied
            If what could be read before cannot be read now.
        """
        self.denied = error
        if self._readable is None or time.monotonic() < self._trusted_until:
            return
        await self._patiently(super().exists, self._readable)
        self._trusted_until = time.monotonic() + _TRUSTED_S

    async def set(self, key: str, value: Any) -> None:
        """Write a value: there whole, or not at all."""
        await self._patiently(super().set, key, value)

    async def set_if_not_exists(self, key: str, value: Any) -> None:
        """Write a value unless there is one."""
        # Not every S3-compatible server heeds the condition: it would overwrite.
        if not await self.exists(key):
            await self._patiently(super().set_if_not_exists, key, value)

    async def delete(self, key: str) -> None:
        """Remove a value."""
        await self._patiently(super().delete, key)

    async def list_dir(self, prefix: str) -> AsyncGenerator[str, None]:
        """Names right below a prefix."""
        import obstore

        if not self.supports_listing:
            raise OSError(
                f"a web server does not say what lies in {self.url}: give the address "
                "of the image itself, or name it with series=..."
            )
        found: Any = await self._patiently(
            obstore.list_with_delimiter_async, self.store, prefix
        )
        for path in found["common_prefixes"]:
            yield path.rstrip("/").rsplit("/", 1)[-1]
        for item in found["objects"]:
            yield item["path"].rsplit("/", 1)[-1]

    async def _patiently(
        self, call: Callable[..., Awaitable[Any]], *args: Any, **options: Any
    ) -> Any:
        from obstore import exceptions

        for wait in (*WAITS_S, None):
            try:
                return await call(*args, **options)
            except (FileNotFoundError, AccessDenied):
                raise
            except (
                exceptions.PermissionDeniedError,
                exceptions.UnauthenticatedError,
                PermissionError,
            ) as error:
                raise AccessDenied(
                    f"access to {self.url} was denied: credentials are taken from the "
                    f"environment, such as AWS_ACCESS_KEY_ID ({_brief(error)})"
                ) from error
            except (exceptions.BaseError, OSError) as error:
                if wait is None:
                    raise ConnectionError(
                        f"the connection to {self.url} was lost: {len(WAITS_S) + 1} "
                        f"tries failed, the last with {_brief(error)}"
                    ) from error
                logger.info("trying %s again: %s", self.url, _brief(error))
                await asyncio.sleep(wait)
        raise AssertionError


def _brief(error: BaseException) -> str:
    """First line of a message: obstore adds a page of internals."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
