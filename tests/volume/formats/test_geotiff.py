"""GeoTIFF and COG: exact against rasterio, with CRS, transform, bands and no-data."""

from __future__ import annotations

import builtins
import pickle
import threading

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio")
from rasterio.enums import ColorInterp  # noqa: E402
from rasterio.transform import Affine  # noqa: E402
from rasterio.windows import Window as GeoWindow  # noqa: E402

from napari_sam.core.intensity import IntensityMapping  # noqa: E402
from napari_sam.core.planes import Plane  # noqa: E402
from napari_sam.core.tiles import Window  # noqa: E402
from napari_sam.errors import VolumeError  # noqa: E402
from napari_sam.volume.opening import open_volume  # noqa: E402
from napari_sam.volume.pyramid import block_mean  # noqa: E402

UTM = Affine(10, 0, 500_000, 0, -10, 5_200_000)


@pytest.fixture
def write(tmp_path):
    """Write bands (n, h, w) as a GeoTIFF; gives its path."""

    def _write(bands, *, overviews=(), descriptions=(), colours=(), **profile):
        path = str(tmp_path / "scene.tif")
        n, h, w = bands.shape
        defaults = {"crs": "EPSG:32633", "transform": UTM, "tiled": True}
        profile = defaults | {"blockxsize": 64, "blockysize": 64} | profile
        with rasterio.open(
            path, "w", driver="GTiff", width=w, height=h, count=n,
            dtype=bands.dtype, **profile,
        ) as out:  # fmt: skip
            out.write(bands)
            for i, text in enumerate(descriptions, 1):
                out.set_band_description(i, text)
            if colours:
                out.colorinterp = [ColorInterp[c] for c in colours]
            if overviews:
                out.build_overviews(overviews, rasterio.enums.Resampling.average)
        return path

    return _write


@pytest.fixture
def bands():
    return np.random.default_rng(0).integers(1, 4000, (5, 300, 420), np.uint16)


def test_windows_are_rasterios_pixels(write, bands):
    path = write(bands)
    volume = open_volume(path, channels=[0, 3])
    got = volume.read(Plane(()), Window(0, 37, 51, 100, 130))
    with rasterio.open(path) as dataset:
        want = dataset.read([1, 4], window=GeoWindow(51, 37, 130, 100))
    np.testing.assert_array_equal(got, want.transpose(1, 2, 0))
    assert volume.shape == (300, 420)
    assert volume.dtype == np.uint16


def test_place_on_earth_is_kept(write, bands):
    transform = Affine(7.5, 1.25, 4e5, 0.5, -9.0, 5e6)
    path = write(bands, transform=transform)
    volume = open_volume(path)
    with rasterio.open(path) as dataset:
        assert rasterio.CRS.from_string(volume.crs) == dataset.crs
        x, y = dataset.xy(12, 34)
    assert volume.affine @ [12, 34, 1] == pytest.approx([y, x, 1])
    assert volume.spacing == pytest.approx((np.hypot(9, 1.25), np.hypot(7.5, 0.5)))
    assert volume.units == ("meter", "meter")


def test_degrees_are_degrees(write, bands):
    volume = open_volume(
        write(bands, crs="EPSG:4326", transform=Affine(1e-4, 0, 11, 0, -1e-4, 47))
    )
    assert volume.units == ("degree", "degree")
    assert volume.crs == "EPSG:4326"


def test_overviews_are_levels_where_they_halve(write, bands):
    path = write(bands, overviews=[2, 3, 4])
    volume = open_volume(path, channels=0)
    assert [level.shape for level in volume.levels] == [
        (300, 420), (150, 210), (75, 105),
    ]  # fmt: skip
    with rasterio.open(path, overview_level=2) as dataset:
        want = dataset.read(1)
    np.testing.assert_array_equal(
        volume.read(Plane(()), Window(2, 0, 0, 75, 105)), want
    )


def test_levels_that_are_missing_are_averaged(write, bands):
    volume = open_volume(write(bands), channels=2)
    got = volume.read(Plane(()), Window(1, 10, 20, 30, 40))
    np.testing.assert_array_equal(got, block_mean(bands[2, 20:80, 40:120], 2))


@pytest.mark.parametrize(
    ("marks", "chosen"),
    [
        pytest.param({}, (0, 1, 2), id="first three"),
        pytest.param(
            {"colours": ["undefined", "blue", "green", "red", "undefined"]},
            (3, 2, 1),
            id="marked",
        ),
        pytest.param(
            {"descriptions": ["Blue", "Green", "Red", "NIR", "SWIR"]},
            (2, 1, 0),
            id="named",
        ),
        pytest.param(
            {"colours": ["alpha", "gray", "undefined", "undefined", "undefined"]},
            (1, 2, 3),
            id="not alpha",
        ),
    ],
)
def test_bands_are_chosen_for_colours(write, bands, marks, chosen):
    volume = open_volume(write(bands, photometric="MINISBLACK", **marks))
    assert volume.channels == chosen
    assert volume.rgb
    np.testing.assert_array_equal(
        volume.plane(), bands[list(chosen)].transpose(1, 2, 0)
    )


def test_false_colours_can_be_asked_for(write, bands):
    names = ["B1", "B2", "B3", "B4", "B8"]
    volume = open_volume(write(bands, descriptions=names), channels=[4, 3, 2])
    assert volume.rgb
    assert volume.channel_names == ("B8", "B4", "B3")
    assert volume.intensity.n_channels == 3


def test_one_band_is_grey(write, bands):
    volume = open_volume(write(bands[:1]))
    assert volume.n_channels == 1
    np.testing.assert_array_equal(volume.plane(), bands[0])


def test_integers_without_data_stay_raw_and_are_shown_black(write, bands):
    bands[:, :200] = 65535
    volume = open_volume(write(bands, nodata=65535), channels=0)
    assert volume.plane()[0, 0] == 65535
    assert volume.intensity.windows[0][1] < 4001
    shown = volume.intensity.apply(volume.plane())
    assert not shown[:200].any()
    assert shown[200:].any()
    again = IntensityMapping.from_json(volume.intensity.to_json())
    assert again == volume.intensity


def test_floats_without_data_are_nan_as_rasterio_masks_them(write, bands):
    values = bands.astype(np.float32)
    values[:, :50, :70] = -9999
    path = write(values, nodata=-9999)
    volume = open_volume(path, channels=1)
    with rasterio.open(path) as dataset:
        want = dataset.read(2, masked=True).filled(np.nan)
    np.testing.assert_array_equal(volume.plane(), want)
    assert volume.intensity.windows[0][0] >= 1
    coarse = volume.read(Plane(()), Window(2, 0, 0, 75, 105))
    assert np.nanmin(coarse) >= 1


def test_white_no_data_of_a_picture_is_black(write):
    picture = np.full((3, 80, 90), 255, np.uint8)
    picture[:, 20:40, 20:40] = 120
    volume = open_volume(write(picture, nodata=255))
    shown = volume.intensity.apply(volume.plane())
    assert shown.max() == 120
    assert shown[0, 0].tolist() == [0, 0, 0]


def collared(dtype="u2"):
    """Bands with a bright collar of 60 columns, and where they hold data."""
    rng = np.random.default_rng(1)
    bands = rng.normal(300, 20, (3, 300, 400)).astype(dtype)
    valid = np.full((300, 400), True)
    valid[:, :60] = False
    bands[:, ~valid] = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 9e9
    return bands, valid


def as_alpha(bands, valid):
    high = np.iinfo(bands.dtype).max
    return np.concatenate([bands, np.where(valid, high, 0)[None].astype(bands.dtype)])


@pytest.mark.parametrize("how", ["alpha", "internal", "beside"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_what_a_mask_hides_is_no_data(tmp_path, write, how, dtype):
    bands, valid = collared(dtype)
    if how == "alpha":
        if dtype == "f4":
            pytest.skip("GDAL has no alpha in floats")
        path = write(as_alpha(bands, valid), photometric="RGB", ALPHA="YES")
    else:
        path = write(bands)
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=how == "internal"),
            rasterio.open(path, "r+") as out,
        ):
            out.write_mask(valid)
    volume = open_volume(path)
    assert volume.n_channels == 3
    pixels = volume.plane()
    assert not volume.intensity.apply(pixels)[:, :60].any()
    np.testing.assert_array_equal(pixels[valid], bands.transpose(1, 2, 0)[valid])
    if dtype != "u1":
        assert volume.intensity.windows[0][1] < 500
    if dtype == "f4":
        assert np.isnan(pixels[~valid]).all()
    part = volume.read(Plane(()), Window(0, 10, 50, 30, 20))
    np.testing.assert_array_equal(part, pixels[10:40, 50:70])


def test_masks_hide_pixels_of_overviews_too(write):
    bands, valid = collared()
    path = write(as_alpha(bands, valid), photometric="RGB", ALPHA="YES", overviews=[4])
    coarse = open_volume(path).read(Plane(()), Window(2, 0, 0, 75, 100))
    assert not coarse[:, :15].any()
    assert (coarse[:, 16:] > 0).all()


@pytest.mark.parametrize("named", [True, False])
def test_infrared_that_is_marked_alpha_hides_nothing(write, named):
    rng = np.random.default_rng(2)
    bands = rng.integers(0, 255, (4, 300, 420)).astype(np.uint8)
    if named:
        # Looks like a mask, and is named after what it holds.
        bands[3] = np.where(bands[3] > 128, 255, 0)
    colours = ["red", "green", "blue", "alpha"]
    words = ["", "", "", "NIR" if named else ""]
    path = write(bands, colours=colours, descriptions=words, photometric="RGB")
    np.testing.assert_array_equal(
        open_volume(path).plane(), bands[:3].transpose(1, 2, 0)
    )
    infrared = open_volume(path, channels=[3, 0, 1])
    np.testing.assert_array_equal(infrared.plane(), bands[[3, 0, 1]].transpose(1, 2, 0))


def test_bands_with_scale_and_offset_are_in_their_units(write):
    rng = np.random.default_rng(3)
    stored = rng.integers(1, 10000, (2, 80, 90)).astype(np.int16)
    stored[:, :10] = -99
    path = write(stored, nodata=-99)
    with rasterio.open(path, "r+") as out:
        out.scales, out.offsets = (1e-4, 0.5), (-0.1, 20)
    volume = open_volume(path, channels=[0, 1])
    scales, offsets = np.array([1e-4, 0.5]), np.array([-0.1, 20])
    expected = stored.transpose(1, 2, 0) * scales + offsets
    assert volume.dtype == np.float32
    assert np.isnan(volume.plane()[:10]).all()
    np.testing.assert_allclose(volume.plane()[10:], expected[10:], rtol=1e-5)


def test_each_band_has_its_own_no_data(tmp_path, write, bands):
    bands[0, :20], bands[1, 30:50] = 7, 9
    path = write(bands[:2])
    text = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{n}">'
        f"<NoDataValue>{value}</NoDataValue>"
        f"<SimpleSource><SourceFilename>{path}</SourceFilename><SourceBand>{n}"
        "</SourceBand></SimpleSource></VRTRasterBand>"
        for n, value in ((1, 7), (2, 9))
    )
    head = '<VRTDataset rasterXSize="420" rasterYSize="300">'
    (tmp_path / "a.vrt").write_text(f"{head}{text}</VRTDataset>")
    volume = open_volume(tmp_path / "a.vrt", channels=[0, 1])
    nodata = volume.metadata["nodata"]
    assert (volume.plane()[:20, :, 0] == nodata).all()
    assert (volume.plane()[30:50, :, 1] == nodata).all()
    shown = volume.intensity.apply(volume.plane())
    assert not shown[:20, :, 1].any()
    assert not shown[30:50, :, 0].any()


def test_tables_of_classes_are_colours_or_numbers(write):
    from napari_sam.results.incoming import incoming_labels

    classes = np.random.default_rng(4).integers(0, 3, (1, 80, 90)).astype(np.uint8)
    path = write(classes, nodata=2)
    table = {0: (0, 90, 0, 255), 1: (10, 20, 200, 255), 2: (255, 255, 255, 255)}
    with rasterio.open(path, "r+") as out:
        out.write_colormap(1, table)
    volume = open_volume(path)
    assert volume.rgb
    assert volume.crs == "EPSG:32633"
    expected = np.array([table[0][:3], table[1][:3], (0, 0, 0)], np.uint8)
    np.testing.assert_array_equal(volume.plane(), expected[classes[0]])
    labels = incoming_labels(volume, path)
    np.testing.assert_array_equal(np.asarray(labels), classes[0])


def test_inks_become_rgb_and_white_at_zero_is_white(write):
    inks = np.random.default_rng(5).integers(0, 255, (4, 80, 90)).astype(np.uint8)
    path = write(inks, photometric="CMYK")
    light = 1 - inks / 255.0
    expected = (light[:3] * light[3:] * 255).transpose(1, 2, 0)
    np.testing.assert_allclose(open_volume(path).plane(), expected, atol=1)
    ramp = np.tile(np.arange(90, dtype=np.uint8), (1, 80, 1))
    volume = open_volume(write(ramp, photometric="MINISWHITE"))
    shown = volume.intensity.apply(volume.plane())
    assert (shown[0, 0, 0], shown[0, -1, 0]) == (255, 0)


def write_with_gcps(tmp_path, place):
    from rasterio.control import GroundControlPoint

    points = [
        GroundControlPoint(row, col, *place(col, row))
        for row in (0, 150, 300) for col in (0, 210, 420)
    ]  # fmt: skip
    path = str(tmp_path / "gcps.tif")
    with rasterio.open(
        path, "w", driver="GTiff", width=420, height=300, count=1, dtype="uint8",
        gcps=points, crs="EPSG:32633",
    ) as out:  # fmt: skip
        out.write(np.ones((1, 300, 420), np.uint8))
    return path


def test_control_points_that_agree_give_the_place(tmp_path):
    turned = Affine(7.5, 1.25, 4e5, 0.5, -9.0, 5e6)
    volume = open_volume(write_with_gcps(tmp_path, lambda c, r: turned * (c, r)))
    x, y = turned * (34.5, 12.5)
    assert volume.affine @ [12, 34, 1] == pytest.approx([y, x, 1])
    assert volume.crs == "EPSG:32633"


def test_control_points_that_bend_give_no_place_and_say_so(tmp_path):
    path = write_with_gcps(tmp_path, lambda c, r: (c * c / 40.0 + r, 3.0 * r - c))
    volume = open_volume(path)
    assert (volume.crs, volume.units) == (None, ("pixel", "pixel"))
    np.testing.assert_array_equal(volume.affine, np.eye(3))
    assert "gdalwarp" in volume.metadata["notes"][0]


def nowhere():
    return pytest.warns(rasterio.errors.NotGeoreferencedWarning)


def test_rational_polynomials_are_told(tmp_path):
    from rasterio.rpc import RPC

    row = [1.0] + [0.0] * 19
    rpc = RPC(0.0, 1.0, 45.0, 1.0, row, row, 100.0, 10.0, 11.0, 1.0, row, row, 5.0, 9.0)
    path = str(tmp_path / "rpc.tif")
    with nowhere(), rasterio.open(
        path, "w", driver="GTiff", width=40, height=30, count=1, dtype="uint8"
    ) as out:  # fmt: skip
        out.write(np.ones((1, 30, 40), np.uint8))
        out.rpcs = rpc
    volume = open_volume(path)
    assert volume.units == ("pixel", "pixel")
    assert "RPC" in volume.metadata["notes"][0]


def test_a_world_file_places_a_plain_tiff(tmp_path, bands):
    import tifffile

    tifffile.imwrite(tmp_path / "cells.tif", bands[0])
    (tmp_path / "cells.tfw").write_text("2\n0.5\n0.25\n-3\n1000\n2000\n")
    volume = open_volume(tmp_path / "cells.tif")
    with rasterio.open(tmp_path / "cells.tif") as dataset:
        x, y = dataset.xy(12, 34)
    assert volume.affine @ [12, 34, 1] == pytest.approx([y, x, 1])


def test_no_data_of_a_raster_that_lies_nowhere_counts_too(tmp_path):
    path = str(tmp_path / "nowhere.tif")
    values = np.full((1, 80, 90), 300, np.uint16)
    values[:, 40:] += np.arange(90, dtype=np.uint16)
    values[:, :20] = 65535
    with nowhere(), rasterio.open(
        path, "w", driver="GTiff", width=90, height=80, count=1, dtype="uint16",
        nodata=65535,
    ) as out:  # fmt: skip
        out.write(values)
    volume = open_volume(path)
    assert volume.intensity.windows[0][1] < 400
    assert not volume.intensity.apply(volume.plane())[:20].any()


def test_volume_travels_by_its_path(write, bands):
    volume = open_volume(write(bands, overviews=[2]), channels=[1, 2, 3])
    volume.plane()
    again = pickle.loads(pickle.dumps(volume))
    np.testing.assert_array_equal(again.plane(), volume.plane())
    assert (again.crs, again.identity()) == (volume.crs, volume.identity())
    np.testing.assert_array_equal(again.affine, volume.affine)


def test_threads_read_at_the_same_time(write, bands):
    volume = open_volume(write(bands, compress="deflate"), channels=0)
    wrong = []

    def read(seed):
        rng = np.random.default_rng(seed)
        for _ in range(40):
            y, x = rng.integers(0, 200, 2)
            got = volume.read(Plane(()), Window(0, y, x, 64, 64))
            if not np.array_equal(got, bands[0, y : y + 64, x : x + 64]):
                wrong.append((y, x))

    threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_cog_is_read_window_by_window(tmp_path, write, bands):
    from rasterio.shutil import copy

    path = str(tmp_path / "cog.tif")
    copy(write(bands[:3]), path, driver="COG", blocksize=128)
    volume = open_volume(path)
    assert len(volume.levels) == 3
    np.testing.assert_array_equal(volume.plane(), bands[:3].transpose(1, 2, 0))


def test_plain_tiff_is_no_geotiff(tmp_path, bands):
    import tifffile

    tifffile.imwrite(tmp_path / "cells.tif", bands[0])
    assert open_volume(tmp_path / "cells.tif").crs is None


def test_missing_rasterio_is_said_and_nothing_is_read_without_place(
    write, bands, monkeypatch
):
    path = write(bands)
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("rasterio"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(VolumeError, match="pip install rasterio"):
        open_volume(path)


def test_broken_file_is_named(write, bands):
    path = write(bands)
    with open(path, "r+b") as file:
        file.seek(0, 2)
        file.truncate(file.tell() // 2)
    with pytest.raises(VolumeError, match=r"scene"):
        open_volume(path, channels=0).plane()
