"""A small S3-compatible server that keeps objects as files, and cuts connections.

``python object_server.py FOLDER PORT`` serves until it is killed. What was answered
with 200 is on the disk whole, as on S3.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import uuid
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class ObjectServer(ThreadingHTTPServer):
    """Serves the files below a folder; paths are /bucket/key.

    Attributes
    ----------
    n_requests, n_written : int
        Requests so far, and those that wrote.
    cut : callable of (int, int) to bool
        Whether to cut the answer in the middle of the n-th request, which is the k-th
        for its object.
    denied : bool
        Answer 403 to everything.
    absent : int
        Status for objects that are not there; 403 where listing is not allowed.
    conditional : bool
        Heed If-None-Match, as S3 does and not every server like it.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, folder, port=0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.folder = Path(folder)
        self.n_requests = self.n_written = 0
        self.asked = Counter()
        self.denied, self.conditional, self.absent = False, True, 404
        self.lock = threading.Lock()

    def cut(self, n, k):
        """Cut nothing; tests put their own here."""
        return False

    @property
    def url(self):
        """Address without a path."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """Say nothing about clients that went away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Keep quiet."""

    def _start(self):
        with self.server.lock:
            self.server.n_requests += 1
            self.number = self.server.n_requests
        parts = urlsplit(self.path)
        with self.server.lock:
            self.server.asked[self.command, parts.path] += 1
            self.numbers = self.number, self.server.asked[self.command, parts.path]
        self.query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        self.key = unquote(parts.path).strip("/")
        if self.server.denied:
            self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            return False
        return True

    def do_HEAD(self):
        if self._start():
            self._object(with_body=False)

    def do_GET(self):
        if not self._start():
            return
        if "list-type" in self.query:
            self._list()
        else:
            self._object(with_body=True)

    def do_PUT(self):
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if not self._start():
            return
        if len(body) < length or self.server.cut(*self.numbers):
            self.close_connection = True
            return
        target = self.server.folder / self.key
        if self.server.conditional and self.headers.get("If-None-Match") == "*":
            if target.exists():
                self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{uuid.uuid4().hex}.part")
        part.write_bytes(body)
        os.replace(part, target)
        with self.server.lock:
            self.server.n_written += 1
        self._answer(200, b"", {"ETag": '"1"'})

    def do_DELETE(self):
        if self._start():
            (self.server.folder / self.key).unlink(missing_ok=True)
            self._answer(204, b"")

    def _object(self, *, with_body):
        target = self.server.folder / self.key
        if not target.is_file():
            absent = b"<!doctype html><p>Nothing to see</p>"
            self._answer(self.server.absent, absent, body=with_body)
            return
        data = target.read_bytes()
        status, headers = 200, {"ETag": '"1"', "Accept-Ranges": "bytes"}
        headers["Last-Modified"] = "Sat, 01 Jan 2000 00:00:00 GMT"
        if found := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or ""):
            size, (first, last) = len(data), found.groups()
            start = int(first) if first else size - int(last)
            stop = min(int(last) + 1, size) if first and last else size
            data, status = data[start:stop], 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        self._answer(status, data, headers, body=with_body)

    def _list(self):
        bucket, prefix = self.key, self.query.get("prefix", "")
        root = self.server.folder / bucket
        keys = sorted(
            p.relative_to(root).as_posix()
            for p in root.rglob("*")
            if p.is_file() and p.suffix != ".part"
        )
        found, common = [], set()
        for key in (k for k in keys if k.startswith(prefix)):
            rest, delimiter = key[len(prefix) :], self.query.get("delimiter")
            if delimiter and delimiter in rest:
                common.add(prefix + rest.split(delimiter)[0] + delimiter)
            else:
                found.append(key)
        items = "".join(
            f"<Contents><Key>{escape(k)}</Key><Size>{(root / k).stat().st_size}</Size>"
            "<LastModified>2000-01-01T00:00:00.000Z</LastModified>"
            "<ETag>&quot;1&quot;</ETag></Contents>"
            for k in found
        ) + "".join(
            f"<CommonPrefixes><Prefix>{escape(p)}</Prefix></CommonPrefixes>"
            for p in sorted(common)
        )
        self._answer(
            200,
            f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}"
            "</ListBucketResult>".encode(),
        )

    def _answer(self, status, data, headers=(), body=True):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not body:
            return
        if self.server.cut(*self.numbers):
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(data)


if __name__ == "__main__":
    server = ObjectServer(sys.argv[1], int(sys.argv[2]))
    print(server.url, flush=True)
    server.serve_forever()
