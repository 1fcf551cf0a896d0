"""Images and embeddings on servers that cut connections, deny, die and come back."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr

pytest.importorskip("obstore")
import object_server
from object_server import ObjectServer

from napari_sam.core.planes import Plane
from napari_sam.core.tiles import Window
from napari_sam.embeddings.encode import encode_volume
from napari_sam.embeddings.opening import open_store
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.errors import NapariSamError, StoreError, VolumeError
from napari_sam.testing import ToyModel, phantom_image, phantom_volume
from napari_sam.volume import remote
from napari_sam.volume.opening import open_volume


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(remote, "WAITS_S", (0.01, 0.02, 0.04))


@pytest.fixture
def server(tmp_path, monkeypatch):
    server = ObjectServer(tmp_path / "served")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    credentials(monkeypatch, server.url)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def credentials(monkeypatch, url):
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.fixture
def cells(server):
    """An image of 300 x 400 pixels in chunks of 64, in a bucket."""
    pixels = np.random.default_rng(0).integers(0, 255, (300, 400), np.uint8)
    path = server.folder / "bucket" / "cells.zarr"
    zarr.create_array(path, data=pixels, chunks=(64, 64))
    return pixels


def address(server, kind, name):
    return {"s3": "s3://bucket", "http": f"{server.url}/bucket"}[kind] + f"/{name}"


@pytest.mark.parametrize("kind", ["s3", "http"])
def test_image_is_read_window_by_window(server, cells, kind):
    volume = open_volume(address(server, kind, "cells.zarr"))
    got = volume.read(Plane(()), Window(0, 70, 100, 40, 50))
    np.testing.assert_array_equal(got, cells[70:110, 100:150])
    before = server.n_requests
    volume.read(Plane(()), Window(0, 0, 0, 64, 64))
    assert server.n_requests == before + 1


@pytest.mark.parametrize("kind", ["s3", "http"])
def test_connections_that_are_cut_are_made_again(server, cells, kind):
    volume = open_volume(address(server, kind, "cells.zarr"))
    server.cut = lambda n, k: k % 2 == 1
    before = server.n_requests
    np.testing.assert_array_equal(volume.plane(), cells)
    assert server.n_requests - before > 35


@pytest.mark.parametrize("kind", ["s3", "http"])
def test_lost_connection_is_said_and_later_reading_goes_on(server, cells, kind):
    volume = open_volume(address(server, kind, "cells.zarr"))
    server.cut = lambda n, k: True
    with pytest.raises(VolumeError, match=r"connection to .* was lost: 4 tries"):
        volume.plane()
    del server.cut
    np.testing.assert_array_equal(volume.plane(), cells)


def test_image_that_is_not_there_is_named_at_once(server):
    with pytest.raises(VolumeError, match="nothing"):
        open_volume("s3://bucket/nothing.zarr")
    assert server.n_requests < 12


def test_denied_access_says_where_credentials_come_from(server, cells):
    server.denied = True
    with pytest.raises(VolumeError, match="AWS_ACCESS_KEY_ID"):
        open_volume("s3://bucket/cells.zarr")


@pytest.fixture
def sparse(server):
    """An image most of whose chunks are not there, in both versions of zarr."""
    pixels = np.zeros((256, 256), np.uint16)
    pixels[70:100, 70:100] = 1000
    for version in (2, 3):
        array = zarr.create_array(
            server.folder / "bucket" / f"v{version}.zarr", shape=pixels.shape,
            dtype="u2", chunks=(64, 64), zarr_format=version,
            config={"write_empty_chunks": False},
        )  # fmt: skip
        array[:] = pixels
    return pixels


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kind", ["s3", "http"])
@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_is_denied_is_absent_where_other_values_are_shown(
    server, sparse, status, kind, version
):
    server.absent = status
    place = "s3://bucket" if kind == "s3" else f"{server.url}/bucket"
    volume = open_volume(f"{place}/v{version}.zarr")
    np.testing.assert_array_equal(volume.plane(), sparse)


def test_a_store_that_is_denied_later_is_not_taken_for_empty(
    server, sparse, monkeypatch
):
    monkeypatch.setattr("napari_sam.volume.remote._TRUSTED_S", 0.0)
    server.absent = 403
    volume = open_volume("s3://bucket/v3.zarr")
    server.denied = True
    with pytest.raises(VolumeError, match="denied"):
        volume.plane()


def test_a_bucket_that_denies_the_root_is_said_to_deny_it(server):
    server.absent = 403
    with pytest.raises(VolumeError, match=r"nothing.*denied.*AWS_ACCESS_KEY_ID"):
        open_volume("s3://bucket/nothing.zarr")


def test_public_buckets_need_no_credentials(server, cells, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    np.testing.assert_array_equal(open_volume("s3://bucket/cells.zarr").plane(), cells)


def test_ome_zarr_keeps_its_pyramid_over_http(server, tmp_path):
    import yaozarrs  # noqa: F401

    group = zarr.create_group(server.folder / "bucket" / "image.zarr")
    pixels = np.arange(80 * 60, dtype=np.uint16).reshape(80, 60)
    group.create_array("0", data=pixels, chunks=(32, 32))
    group.create_array("1", data=pixels[::2, ::2], chunks=(32, 32))
    scale = [{"type": "scale", "scale": [2.0, 3.0]}]
    coarse = [{"type": "scale", "scale": [4.0, 6.0]}]
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{
            "axes": axes,
            "datasets": [
                {"path": "0", "coordinateTransformations": scale},
                {"path": "1", "coordinateTransformations": coarse},
            ],
        }],
    }  # fmt: skip
    volume = open_volume(f"{server.url}/bucket/image.zarr")
    assert volume.spacing == (2.0, 3.0)
    assert [level.shape for level in volume.levels] == [(80, 60), (40, 30)]
    np.testing.assert_array_equal(volume.plane(), pixels)


@pytest.mark.parametrize("kind", ["s3", "http"])
def test_geotiff_is_read_over_the_network(server, kind, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "3")
    pixels = np.random.default_rng(0).integers(1, 99, (3, 256, 320), np.uint16)
    path = server.folder / "bucket" / "scene.tif"
    path.parent.mkdir(parents=True)
    with rasterio.open(
        path, "w", driver="GTiff", width=320, height=256, count=3, dtype="uint16",
        crs="EPSG:32633", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6),
        tiled=True, blockxsize=64, blockysize=64,
    ) as out:  # fmt: skip
        out.write(pixels)
    volume = open_volume(address(server, kind, "scene.tif"))
    got = volume.read(Plane(()), Window(0, 10, 20, 30, 40))
    np.testing.assert_array_equal(got, pixels[:, 10:40, 20:60].transpose(1, 2, 0))
    assert volume.crs == "EPSG:32633"


def test_file_that_no_reader_takes_remotely_is_said():
    with pytest.raises(VolumeError, match="Download"):
        open_volume("https://host/cells.png")


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(VolumeError, match="pip install obstore"):
        open_volume("s3://bucket/cells.zarr")
    with pytest.raises(StoreError, match="pip install obstore"):
        EmbeddingStore.list("s3://bucket/emb")


# -- embeddings ----------------------------------------------------------------------


@pytest.fixture
def volume():
    return open_volume(phantom_image((150, 200)).image)


def run(volume, path, **options):
    return list(encode_volume(volume, ToyModel(64), path, **options))


@pytest.mark.parametrize("conditional", [True, False])
def test_embeddings_are_written_to_a_bucket_and_read_back(
    server, volume, tmp_path, conditional
):
    server.conditional = conditional
    url = "s3://bucket/cells.nsam-emb"
    done, total = run(volume, url)[-1]
    run(volume, tmp_path / "local")
    far, near = (
        open_store(volume, ToyModel(64), p, mode="r") for p in (url, tmp_path / "local")
    )
    assert done == total == far.count()[0]
    for tile in near.grid.tiles():
        np.testing.assert_array_equal(
            far.get(0, tile).features["colors"], near.get(0, tile).features["colors"]
        )
    assert set(run(volume, url)) == {(total, total)}


def test_embeddings_are_read_from_a_web_server(server, volume):
    total = run(volume, "s3://bucket/emb")[-1][1]
    url = f"{server.url}/bucket/emb"
    store = open_store(volume, ToyModel(64), url, mode="r")
    assert store.count() == (total, total)
    assert store.get(0, store.grid.tile(0, 0, 0)) is not None


def test_encoding_goes_on_through_cut_connections(server, volume):
    server.cut = lambda n, k: k % 2 == 1
    done, total = run(volume, "s3://bucket/emb")[-1]
    del server.cut
    assert done == total
    assert open_store(volume, ToyModel(64), "s3://bucket/emb").count() == (total, total)


def test_lost_bucket_is_said_and_encoding_resumes(server, volume):
    written = []

    def cut(n, k):
        written.append(n)
        return len(written) > 60

    server.cut = cut
    with pytest.raises(StoreError, match=r"connection .* lost.*safe"):
        run(volume, "s3://bucket/emb")
    del server.cut
    first, *_, last = run(volume, "s3://bucket/emb")
    assert 0 < first[0] < last[0] == last[1]


def test_denied_bucket_is_said(server, volume):
    server.denied = True
    with pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID"):
        run(volume, "s3://bucket/emb")


@pytest.fixture
def process(tmp_path, monkeypatch):
    """Start (or restart) the server as a process of its own on one port."""
    started = []

    def _start():
        port = started[0].port if started else 0
        if not port:
            probe = ObjectServer(tmp_path)
            port = probe.server_address[1]
            probe.server_close()
        server = Path(object_server.__file__)
        child = subprocess.Popen(
            [sys.executable, str(server), str(tmp_path / "served"), str(port)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        child.port = port
        started.append(child)
        credentials(monkeypatch, child.stdout.readline().strip())
        return child

    yield _start
    for child in started:
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_killed_server_leaves_only_whole_tiles(process, tmp_path):
    volume = open_volume(phantom_volume((6, 100, 80)).image)
    run(volume, tmp_path / "reference")
    reference = open_store(volume, ToyModel(64), tmp_path / "reference", mode="r")
    url = "s3://bucket/emb"
    victim = process()
    with pytest.raises(StoreError, match="connection"):
        for done, _ in encode_volume(volume, ToyModel(64, delay_s=0.04), url):
            if done == 7:
                threading.Timer(0.02, victim.send_signal, [signal.SIGKILL]).start()
    victim.wait()
    process()
    store = open_store(volume, ToyModel(64), url)
    flagged = check(store, reference)
    assert 7 <= flagged < store.count()[1]
    again = ToyModel(64)
    steps = list(encode_volume(volume, again, url))
    assert steps[0][0] == flagged
    assert again.n_encoded == steps[-1][1] - flagged
    assert check(open_store(volume, again, url), reference) == steps[-1][1]


def check(store, reference):
    """Count the flagged tiles; each must be that of an uninterrupted run."""
    count = 0
    for plane in range(store.n_planes):
        for number in store.numbers(plane):
            tile = store.grid.tile_by_number(number)
            got, want = store.get(plane, tile), reference.get(plane, tile)
            assert got.features["colors"].tobytes() == want.features["colors"].tobytes()
            count += 1
    return count


def test_address_that_is_none_is_said():
    with pytest.raises(NapariSamError, match="s3://bucket/name"):
        remote.open_remote("gopher://host/x")
