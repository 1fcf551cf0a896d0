from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from napari_sam.errors import DownloadError
from napari_sam.models import download
from napari_sam.models.download import is_verified, iter_download

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = bytes(range(256)) * 20_000  # 5 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT, and misbehaves by the path asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str | None]] = []
        self.cut_after = 1_500_000
        self.patience = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Range"]))
        if self.path.startswith("/missing"):
            return self.send_error(404)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/good")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        start = 0
        ranged = self.headers["Range"] and self.path != "/no_ranges"
        if ranged:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(CONTENT):
                return self.send_error(416)
        body = CONTENT[start:]
        self.send_response(206 if ranged else 200)
        if self.path == "/too_short":
            body = body[:-7]
        if self.path.startswith("/log_in"):
            body = b"<html>please log in</html>"
        if self.path != "/no_length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/cut" and not ranged:
            body = body[: self.server.cut_after]
        if self.path == "/slow":
            self.wfile.write(body[: self.server.cut_after])
            self.server.patience.wait(5)
            return None
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(download.OFFLINE_VARIABLE, raising=False)
    monkeypatch.delenv(download.MIRROR_VARIABLE, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize("path", ["good", "moved", "no_length"])
def test_a_file_arrives_whole_with_growing_progress(
    server: Server, tmp_path: Path, path: str
) -> None:
    target = tmp_path / "new" / "weights.pth"
    steps = list(iter_download(server.url(path), target, SHA256))
    assert target.read_bytes() == CONTENT
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    total = 0 if path == "no_length" else len(CONTENT)
    assert steps[-1] == (len(CONTENT), total)
    assert is_verified(target, SHA256)
    assert not list(target.parent.glob("*.part"))


def test_a_missing_file_says_so_and_leaves_nothing(
    server: Server, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match="404"):
        list(iter_download(server.url("missing"), tmp_path / "w.pth", SHA256))
    assert not list(tmp_path.iterdir())


def test_a_wrong_hash_is_refused_and_thrown_away(
    server: Server, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match="SHA-256"):
        list(iter_download(server.url("good"), tmp_path / "w.pth", "0" * 64))
    assert not list(tmp_path.iterdir())


def test_a_cut_off_download_goes_on_where_it_stopped(
    server: Server, tmp_path: Path
) -> None:
    target = tmp_path / "w.pth"
    with pytest.raises(DownloadError, match=r"broke off.*try again"):
        list(iter_download(server.url("cut"), target, SHA256))
    assert not target.exists()
    kept = (tmp_path / "w.pth.part").stat().st_size
    assert 0 < kept <= server.cut_after
    list(iter_download(server.url("cut"), target, SHA256))
    assert target.read_bytes() == CONTENT
    assert server.asked[-1] == ("/cut", f"bytes={kept}-")


def test_a_server_that_falls_silent_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_TIMEOUT_S", (1.0, 0.3))
    with pytest.raises(DownloadError, match=r"broke off after \d+ of 5120000"):
        list(iter_download(server.url("slow"), tmp_path / "w.pth", SHA256))
    server.patience.set()
    kept = (tmp_path / "w.pth.part").stat().st_size
    assert 0 < kept <= server.cut_after
    list(iter_download(server.url("good"), tmp_path / "w.pth", SHA256))
    assert server.asked[-1] == ("/good", f"bytes={kept}-")


@pytest.mark.parametrize("path", ["too_short", "log_in"])
def test_an_answer_of_another_length_is_no_file(
    server: Server, tmp_path: Path, path: str
) -> None:
    with pytest.raises(DownloadError, match=r"SHA-256.*thrown away"):
        list(iter_download(server.url(path), tmp_path / "w.pth", SHA256))
    assert not list(tmp_path.iterdir())


def test_a_mirror_is_asked_first(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(download.MIRROR_VARIABLE, server.url("copies/"))
    list(iter_download(server.url("missing"), tmp_path / "w.pth", SHA256))
    assert (tmp_path / "w.pth").read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["/copies/w.pth"]


@pytest.mark.parametrize("mirror", ["missing", "log_in?", "nowhere"])
def test_a_mirror_that_fails_is_passed_over(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    mirror: str,
) -> None:
    address = "http://127.0.0.1:9" if mirror == "nowhere" else server.url(mirror)
    monkeypatch.setenv(download.MIRROR_VARIABLE, f"{address}, {server.url('missing')}")
    list(iter_download(server.url("good"), tmp_path / "w.pth", SHA256))
    assert (tmp_path / "w.pth").read_bytes() == CONTENT
    assert len(caplog.records) == 2 and address in caplog.text


@pytest.mark.parametrize("kind", ["md5", "xxh128"])
def test_another_published_hash_is_enough(
    server: Server, tmp_path: Path, kind: str
) -> None:
    if kind == "md5":
        value = hashlib.md5(CONTENT).hexdigest()
    else:
        value = pytest.importorskip("xxhash").xxh128(CONTENT).hexdigest()
    digest = f"{kind}:{value}"
    list(iter_download(server.url("good"), tmp_path / "w.pth", digest))
    assert is_verified(tmp_path / "w.pth", SHA256)
    with pytest.raises(DownloadError, match=kind):
        list(iter_download(server.url("too_short"), tmp_path / "v.pth", digest))


def test_a_hash_that_cannot_be_computed_is_said_before_the_download(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "can_hash", lambda _: False)
    with pytest.raises(DownloadError, match="pip install xxhash"):
        list(
            iter_download(server.url("good"), tmp_path / "w.pth", "xxh128:" + "0" * 32)
        )
    assert server.asked == []


def test_closing_the_generator_keeps_what_came(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "w.pth"
    steps = iter_download(server.url("good"), target, SHA256)
    while next(steps)[0] < 2_000_000:
        pass
    steps.close()
    assert (tmp_path / "w.pth.part").stat().st_size >= 2_000_000
    list(iter_download(server.url("good"), target, SHA256))
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(CONTENT[:1000])
    list(iter_download(server.url("no_ranges"), tmp_path / "w.pth", SHA256))
    assert (tmp_path / "w.pth").read_bytes() == CONTENT


@pytest.mark.parametrize("size", [1000, len(CONTENT), len(CONTENT) + 7])
def test_a_foreign_half_file_is_replaced(
    server: Server, tmp_path: Path, size: int
) -> None:
    (tmp_path / "w.pth.part").write_bytes(b"x" * size)
    list(iter_download(server.url("good"), tmp_path / "w.pth", SHA256))
    assert (tmp_path / "w.pth").read_bytes() == CONTENT


def test_no_server_is_a_download_error(tmp_path: Path) -> None:
    with Server() as gone:
        url = gone.url("good")
    with pytest.raises(DownloadError, match="broke off after 0 bytes"):
        list(iter_download(url, tmp_path / "w.pth", SHA256))


def test_offline_mode_never_asks_the_network(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(download.OFFLINE_VARIABLE, "1")
    with pytest.raises(DownloadError, match=r"NAPARI_SAM_OFFLINE.*w\.pth"):
        list(iter_download(server.url("good"), tmp_path / "w.pth", SHA256))
    assert server.asked == []


def test_an_unwritable_folder_is_a_download_error(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="cannot write"):
        list(iter_download(server.url("good"), tmp_path / "file" / "w.pth", SHA256))


def test_a_file_changed_after_verification_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(CONTENT)
    assert is_verified(path, SHA256)
    path.write_bytes(CONTENT[:-1])
    assert not is_verified(path, SHA256)


def test_the_cache_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path))
    assert download.cache_folder() == tmp_path
    monkeypatch.delenv(download.CACHE_VARIABLE)
    assert "napari-sam" in str(download.cache_folder())
