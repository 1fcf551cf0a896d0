"""OME-TIFF whose metadata lie elsewhere, are missing, or are hostile."""

import numpy as np
import pytest
import tifffile

from napari_sam.errors import VolumeError
from napari_sam.volume.opening import open_volume

RNG = np.random.default_rng(7)
OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:a">'
)


def companion(files, *, size_z, kind="uint16"):
    data = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">'
        f"urn:uuid:{z}</UUID></TiffData>"
        for z, name in enumerate(files)
    )
    return (
        f'<?xml version="1.0"?>{OME}<Image ID="Image:0" Name="cells"><Pixels '
        f'ID="Pixels:0" DimensionOrder="XYZCT" Type="{kind}" SizeX="30" SizeY="20" '
        f'SizeZ="{size_z}" SizeC="1" SizeT="1" PhysicalSizeX="0.5" '
        f'PhysicalSizeZ="2"><Channel ID="Channel:0" Name="DAPI" SamplesPerPixel="1"/>'
        f"{data}</Pixels></Image></OME>"
    )


def binary_only(folder, n=3):
    values = RNG.integers(0, 60000, (n, 20, 30)).astype(np.uint16)
    files = [f"z{z}.ome.tif" for z in range(n)]
    for z, name in enumerate(files):
        text = (
            f'{OME}<BinaryOnly MetadataFile="all.companion.ome" '
            f'UUID="urn:uuid:{z}"/></OME>'
        )
        tifffile.imwrite(folder / name, values[z], description=text, metadata=None)
    return values, files


@pytest.mark.parametrize("opened", ["z0.ome.tif", "z2.ome.tif", "all.companion.ome"])
def test_any_file_of_an_image_opens_the_whole_by_its_companion(tmp_path, opened):
    values, files = binary_only(tmp_path)
    (tmp_path / "all.companion.ome").write_text(companion(files, size_z=3))
    volume = open_volume(tmp_path / opened)
    assert (volume.axes, volume.spacing) == (("z", "y", "x"), (2.0, 1.0, 0.5))
    for z in range(3):
        np.testing.assert_array_equal(volume.plane(z), values[z])


def test_without_its_companion_a_file_is_its_pages_and_says_so(tmp_path):
    values, _ = binary_only(tmp_path)
    volume = open_volume(tmp_path / "z1.ome.tif")
    np.testing.assert_array_equal(volume.plane(), values[1])
    assert "all.companion.ome" in volume.metadata["notes"][0]


def test_an_empty_ome_element_is_a_plain_tiff(tmp_path):
    values = RNG.integers(0, 255, (20, 30)).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "a.ome.tif", values, description=f"{OME}</OME>", metadata=None
    )
    np.testing.assert_array_equal(open_volume(tmp_path / "a.ome.tif").plane(), values)


def test_missing_files_of_an_image_are_told(tmp_path):
    _, files = binary_only(tmp_path)
    (tmp_path / "all.companion.ome").write_text(companion(files, size_z=3))
    (tmp_path / "z1.ome.tif").unlink()
    volume = open_volume(tmp_path / "z0.ome.tif")
    assert volume.shape == (3, 20, 30)
    assert "1 of its files are missing" in volume.metadata["notes"][0]


LAUGHS = ['<!ENTITY a0 "aaaaaaaaaa">'] + [
    f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 9)
]
ENTITIES = f"<!DOCTYPE OME [{''.join(LAUGHS)}]>{OME}<Image>&a8;</Image></OME>"
FILES = '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(ENTITIES, "entities", id="billion laughs"),
        pytest.param(f"{FILES}{OME}&x;</OME>", "entities", id="external entity"),
        pytest.param(
            companion(["../../etc/x.tif"], size_z=1), "outside its own", id="path"
        ),
        pytest.param(companion(["/etc/x.tif"], size_z=1), "outside its own", id="root"),
        pytest.param(companion([], size_z=10**12), "planes", id="absurd count"),
        pytest.param(
            companion(["a"], size_z=3).replace('="1"><UUID', '="9999999999"><UUID'),
            "planes", id="absurd plane count",
        ),
        pytest.param(f"{OME}<Image></OME>", "cannot be read", id="torn"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["description", "companion"])
def test_hostile_metadata_are_refused(tmp_path, place, text, message):
    if place == "companion":
        binary_only(tmp_path, 1)
        (tmp_path / "all.companion.ome").write_text(text)
    else:
        values = np.zeros((20, 30), np.uint16)
        tifffile.imwrite(
            tmp_path / "z0.ome.tif", values, description=text, metadata=None
        )
    with pytest.raises(VolumeError, match=rf"{message}"):
        open_volume(tmp_path / "z0.ome.tif")


@pytest.mark.parametrize("size", ["0", "-1", "nan", "1e400", "wide"])
def test_sizes_that_cannot_be_are_unknown(tmp_path, size):
    values = np.zeros((20, 30), np.uint8)
    text = companion([], size_z=1, kind="uint8").replace('X="0.5"', f'X="{size}"')
    text = text.replace("</Pixels>", "<TiffData/></Pixels>")
    tifffile.imwrite(tmp_path / "a.ome.tif", values, description=text, metadata=None)
    volume = open_volume(tmp_path / "a.ome.tif")
    assert volume.spacing == (1.0, 1.0)
    assert "pixel size" in volume.metadata["notes"][0]
    assert np.isfinite(volume.affine).all()
