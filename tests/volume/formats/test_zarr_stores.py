"""zarrs that are sparse, zipped, linked or hostile."""

import functools
import http.server
import json
import os
import pickle
import threading
import zipfile

import numpy as np
import pytest
import zarr

from napari_sam.errors import SeriesError, VolumeError
from napari_sam.volume.formats import zarr_stores
from napari_sam.volume.opening import open_volume

RNG = np.random.default_rng(9)
PIXELS = RNG.integers(0, 255, (40, 50)).astype(np.uint8)


def write_image(path, pixels=PIXELS, *, zarr_format=2):
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    array = group.create_array(
        "0", shape=pixels.shape, dtype=pixels.dtype, chunks=(16, 16)
    )
    array[:] = pixels
    axes = [{"name": a, "type": "space"} for a in "yx"]
    entry = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    group.attrs.update(
        entry if zarr_format == 2 else {"ome": {"version": "0.5", **entry}}
    )
    return group


def write_plate(path, wells, there):
    plate = zarr.open_group(path, mode="w", zarr_format=2)
    plate.attrs["plate"] = {"version": "0.4", "wells": [{"path": w} for w in wells]}
    for well, fields in there.items():
        group = plate.create_group(well)
        group.attrs["well"] = {"images": [{"path": f} for f in ("0", "1")]}
        for field in fields:
            write_image(path / well / field)


def test_the_one_field_of_a_sparse_plate_opens_and_what_is_missing_is_told(tmp_path):
    write_plate(tmp_path / "p.zarr", ["A/1", "A/2"], {"A/1": ["0"]})
    volume = open_volume(tmp_path / "p.zarr")
    np.testing.assert_array_equal(volume.plane(), PIXELS)
    assert "2 of its images" in volume.metadata["notes"][0]


def test_fields_that_are_there_are_listed(tmp_path):
    write_plate(tmp_path / "p.zarr", ["A/1", "B/3", "C/4"], {"A/1": "01", "C/4": "1"})
    with pytest.raises(SeriesError) as error:
        open_volume(tmp_path / "p.zarr")
    assert list(error.value.series) == ["A/1/0", "A/1/1", "C/4/1"]
    with pytest.raises(SeriesError, match="A/1/1"):
        open_volume(tmp_path / "p.zarr", series="B/3/0")
    assert open_volume(tmp_path / "p.zarr", series="C/4/1").shape == (40, 50)


def test_a_field_without_its_metadata_is_named(tmp_path):
    write_plate(tmp_path / "p.zarr", ["A/1"], {"A/1": "0"})
    for name in (".zgroup", ".zattrs"):
        (tmp_path / "p.zarr" / "A" / "1" / "0" / name).unlink()
    with pytest.raises(VolumeError, match=r"'A/1/0' that is not there"):
        open_volume(tmp_path / "p.zarr")


def test_a_plate_of_which_nothing_is_there_is_refused(tmp_path):
    write_plate(tmp_path / "p.zarr", ["A/1"], {})
    with pytest.raises(VolumeError, match="holds no image"):
        open_volume(tmp_path / "p.zarr")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Keep the test's output clean."""


@pytest.mark.parametrize("listed", [True, False])
def test_containers_of_bioformats2raw_open_where_nothing_is_listed(tmp_path, listed):
    pytest.importorskip("obstore")
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    for n in range(2):
        write_image(tmp_path / "a.zarr" / str(n), PIXELS[: 40 - n])
    if listed:
        root.create_group("OME").attrs["series"] = ["0", "1"]
    handler = functools.partial(Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/a.zarr"
        with pytest.raises(SeriesError) as error:
            open_volume(url)
        assert list(error.value.series) == ["0", "1"]
        assert open_volume(url, series="1").shape == (39, 50)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def zipped(folder, path, top=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                out.write(file, f"{top}{file.relative_to(folder)}")


@pytest.mark.parametrize("top", ["", "cells.zarr/", "export/deep/cells.zarr/"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zipped_zarrs_open_also_with_folders_on_top(tmp_path, top, zarr_format):
    write_image(tmp_path / "a.zarr", zarr_format=zarr_format)
    zipped(tmp_path / "a.zarr", tmp_path / "a.zarr.zip", top)
    with zipfile.ZipFile(tmp_path / "a.zarr.zip", "a") as out:
        out.writestr("__MACOSX/._zarr.json", b"x")
    volume = open_volume(tmp_path / "a.zarr.zip")
    np.testing.assert_array_equal(volume.plane(), PIXELS)
    again = pickle.loads(pickle.dumps(volume))
    np.testing.assert_array_equal(again.plane(), PIXELS)
    for opened in (volume, again):
        opened.levels[0].store.close()


def test_several_zarrs_in_a_zip_are_listed(tmp_path):
    write_image(tmp_path / "in" / "a.zarr")
    write_image(tmp_path / "in" / "b.zarr")
    zipped(tmp_path / "in", tmp_path / "c.zip")
    with pytest.raises(SeriesError, match="2 zarrs"):
        open_volume(tmp_path / "c.zip")


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "a/../../out", "a\\b"])
def test_entries_that_lead_out_of_a_zip_are_refused(tmp_path, name):
    write_image(tmp_path / "a.zarr")
    zipped(tmp_path / "a.zarr", tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "a") as out:
        entry = zipfile.ZipInfo("x")
        entry.filename = name
        out.writestr(entry, b"x")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(VolumeError, match="leads out"):
        open_volume(tmp_path / "b.zip")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["0/0.0", ".zattrs", "0/.zarray"])
def test_zip_bombs_are_refused_before_they_unpack(tmp_path, name, monkeypatch):
    monkeypatch.setattr(zarr_stores, "_BOMB_BYTES", 1 << 20)
    monkeypatch.setattr(zarr_stores, "METADATA_BYTES", 1 << 20)
    write_image(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / name).write_bytes(bytes(8 << 20))
    zipped(tmp_path / "a.zarr", tmp_path / "b.zip")
    monkeypatch.setattr(
        zipfile.ZipFile, "open", lambda *a, **k: pytest.fail("it was unpacked")
    )
    with pytest.raises(VolumeError, match=r"bomb|more than any metadata"):
        open_volume(tmp_path / "b.zip")


def test_metadata_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(zarr_stores, "METADATA_BYTES", 1 << 20)
    write_image(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / ".zattrs").write_bytes(b" " * (2 << 20))
    with pytest.raises(VolumeError, match="more than any metadata"):
        open_volume(tmp_path / "a.zarr")


@pytest.mark.parametrize("linked", ["0", "0/0.0", "0/.zarray", ".zattrs"])
def test_links_out_of_a_zarr_are_refused(tmp_path, linked):
    write_image(tmp_path / "a.zarr")
    place, other = tmp_path / "a.zarr" / linked, tmp_path / "secret"
    place.rename(other)
    place.symlink_to(other)
    with pytest.raises(VolumeError, match=r"leads out of its zarr.*cp -rL"):
        open_volume(tmp_path / "a.zarr").plane()


def test_links_inside_a_zarr_and_of_git_annex_are_followed(tmp_path):
    write_image(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "0" / "0.0").rename(tmp_path / "a.zarr" / "kept")
    (tmp_path / "a.zarr" / "0" / "0.0").symlink_to(tmp_path / "a.zarr" / "kept")
    objects = tmp_path / ".git" / "annex" / "objects"
    objects.mkdir(parents=True)
    (tmp_path / "a.zarr" / "0" / "1.1").rename(objects / "key")
    (tmp_path / "a.zarr" / "0" / "1.1").symlink_to(objects / "key")
    np.testing.assert_array_equal(open_volume(tmp_path / "a.zarr").plane(), PIXELS)
    (tmp_path / "link.zarr").symlink_to(tmp_path / "a.zarr")
    np.testing.assert_array_equal(open_volume(tmp_path / "link.zarr").plane(), PIXELS)


@pytest.mark.parametrize(
    "path", ["../b.zarr/0", "/etc", "file:///etc", "0/../../b.zarr/0"]
)
def test_metadata_that_name_places_outside_are_refused(tmp_path, path):
    write_image(tmp_path / "b.zarr")
    group = write_image(tmp_path / "a.zarr")
    entry = dict(group.attrs)["multiscales"]
    entry[0]["datasets"][0]["path"] = path
    group.attrs["multiscales"] = entry
    with pytest.raises(VolumeError, match="not there"):
        open_volume(tmp_path / "a.zarr")
    with pytest.raises(SeriesError):
        open_volume(tmp_path / "a.zarr", series=path)


def test_consolidated_metadata_cannot_lead_out(tmp_path):
    write_image(tmp_path / "b.zarr")
    group = write_image(tmp_path / "a.zarr")
    array = json.loads((tmp_path / "b.zarr" / "0" / ".zarray").read_text())
    entry = dict(group.attrs)["multiscales"]
    entry[0]["datasets"][0]["path"] = "../b.zarr/0"
    document = {
        "zarr_consolidated_format": 1,
        "metadata": {
            ".zgroup": {"zarr_format": 2}, ".zattrs": {"multiscales": entry},
            "../b.zarr/0/.zarray": array,
        },
    }  # fmt: skip
    (tmp_path / "a.zarr" / ".zmetadata").write_text(json.dumps(document))
    with pytest.raises(VolumeError):
        open_volume(tmp_path / "a.zarr").plane()


class Crafted:
    def __reduce__(self):
        return os.mkdir, (os.environ["CRAFTED_TARGET"],)


@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_pickles_in_chunks_never_run(tmp_path, monkeypatch, place):
    monkeypatch.setenv("CRAFTED_TARGET", str(tmp_path / "ran"))
    write_image(tmp_path / "a.zarr")
    metadata = tmp_path / "a.zarr" / "0" / ".zarray"
    document = json.loads(metadata.read_text())
    codec = {"id": "pickle", "protocol": 4}
    document["filters"] = [codec] if place == "filters" else None
    document["compressor"] = codec if place == "compressor" else None
    metadata.write_text(json.dumps(document))
    (tmp_path / "a.zarr" / "0" / "0.0").write_bytes(pickle.dumps(Crafted()))
    with pytest.raises(VolumeError):
        open_volume(tmp_path / "a.zarr").plane()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"shape": [10**15, 10**15]}, id="sides"),
        pytest.param({"chunks": [10**9, 10**9]}, id="chunks"),
        pytest.param({"shape": [10**6, 10**6], "chunks": [1, 1]}, id="chunk count"),
        pytest.param({"dtype": "|V999999999999"}, id="item size"),
        pytest.param({"dtype": "|O"}, id="objects"),
        pytest.param({"shape": [-4, 4]}, id="negative"),
        pytest.param({"shape": [0, 4]}, id="nothing"),
        pytest.param({"chunks": [0, 4]}, id="no chunk"),
        pytest.param({"shape": "many"}, id="words"),
        pytest.param({"compressor": {"id": "nobody"}}, id="codec"),
    ],
)
def test_absurd_arrays_are_refused_before_anything_is_allocated(tmp_path, changes):
    write_image(tmp_path / "a.zarr")
    metadata = tmp_path / "a.zarr" / "0" / ".zarray"
    document = json.loads(metadata.read_text()) | changes
    metadata.write_text(json.dumps(document))
    with pytest.raises(VolumeError):
        open_volume(tmp_path / "a.zarr").plane()


@pytest.mark.parametrize("zipped_up", [False, True])
@pytest.mark.parametrize("codec", ["blosc", "zstd"])
def test_chunks_that_claim_to_unpack_without_end_are_refused(
    tmp_path, codec, zipped_up
):
    import numcodecs

    known = {"blosc": numcodecs.Blosc(), "zstd": numcodecs.Zstd()}[codec]
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(40, 50), dtype="u1", chunks=(40, 50),
        zarr_format=2, compressors=known,
    )  # fmt: skip
    array[:] = PIXELS
    chunk = tmp_path / "a.zarr" / "0.0"
    data = bytearray(chunk.read_bytes())
    if codec == "blosc":
        data[4:8] = (2**31 - 17).to_bytes(4, "little")
    else:
        # One segment, and a size of the content of eight bytes.
        data[4:] = bytes([0b11100000]) + (2**40).to_bytes(8, "little") + data[6:]
    chunk.write_bytes(data)
    path = tmp_path / "a.zarr"
    if zipped_up:
        path = tmp_path / "a.zarr.zip"
        zipped(tmp_path / "a.zarr", path)
    volume = open_volume(path)
    with pytest.raises(VolumeError, match="would unpack to"):
        volume.plane()
    volume.levels[0].store.close()


def test_shards_with_chunks_without_end_are_refused(tmp_path):
    zarr.create_array(
        tmp_path / "a.zarr", shape=(40, 50), dtype="u1", chunks=(2, 2), shards=(40, 50)
    )
    assert open_volume(tmp_path / "a.zarr").shape == (40, 50)
    metadata = tmp_path / "a.zarr" / "zarr.json"
    document = json.loads(metadata.read_text())
    document["chunk_grid"]["configuration"]["chunk_shape"] = [40000, 40000]
    metadata.write_text(json.dumps(document))
    with pytest.raises(VolumeError, match="400000000 chunks"):
        open_volume(tmp_path / "a.zarr")
