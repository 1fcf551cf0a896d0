import json

import nibabel
import numpy as np
import pytest
import tifffile
from dicom_phantoms import make_image, place, write_ct_series, write_phases

from napari_sam.errors import SeriesError, VolumeError
from napari_sam.volume.inspection import inspect
from napari_sam.volume.opening import open_volume


def as_json(found):
    return json.loads(json.dumps(found.to_json(), allow_nan=False))


def test_a_study_is_told_with_what_is_left_out_and_why(tmp_path):
    write_ct_series(tmp_path / "ct", SeriesNumber=4)
    write_phases(
        tmp_path / "cine", [{"TriggerTime": t} for t in (0, 40)], SeriesNumber=9
    )
    (tmp_path / ".DS_Store").write_bytes(b"Bud1" * 40)
    found = inspect(tmp_path)
    text = "\n".join(found.lines())
    assert "2 series" in text and ".DS_Store: it is no DICOM file" in text
    assert "z towards H, y towards P, x towards L" in text
    assert "TriggerTime: 0.0, 40.0" in text
    ct, cine = sorted(as_json(found)["series"], key=lambda s: s["number"])
    assert ct["orientation"] == ["H", "P", "L"] and ct["shape"] == [6, 128, 128]
    assert cine["spacing"] == [40, 3, 1, 1] and cine["units"][0] == "millisecond"
    assert open_volume(tmp_path, series=ct["short"]).shape == tuple(ct["shape"])
    assert [s["file"] for s in as_json(found)["skipped"]] == [".DS_Store"]
    [only] = inspect(tmp_path, series="9").series
    assert only["number"] == 9
    with pytest.raises(SeriesError, match="no series 77"):
        inspect(tmp_path, series=77)


def test_letters_are_those_that_nibabel_gives(tmp_path):
    affine = np.array([[0, 0, 3, -9], [-0.5, 0, 0, 4], [0, 0.5, 0, 7], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), affine),
                 tmp_path / "a.nii.gz")  # fmt: skip
    [one] = inspect(tmp_path / "a.nii.gz").series
    codes = nibabel.aff2axcodes(affine)[::-1]
    words = {"S": "H", "I": "F"}
    assert one["orientation"] == [words.get(c, c) for c in codes]


def test_levels_channels_and_window_of_other_formats(tmp_path):
    image = np.random.default_rng(0).integers(0, 900, (2, 64, 96)).astype(np.uint16)
    path = tmp_path / "cells.ome.tif"
    tifffile.imwrite(
        path, image, metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]},
        "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5,
        "PhysicalSizeYUnit": "µm"}, photometric="minisblack",
    )  # fmt: skip
    found = inspect(path)
    [one] = as_json(found)["series"]
    assert one["channel_names"] == ["DAPI", "GFP"] and one["spacing"] == [0.5, 0.5]
    assert len(one["window"]) == 2
    assert "2 DAPI, GFP" in "\n".join(found.lines())


def test_numbers_that_json_does_not_know_are_null(tmp_path):
    ds = make_image(np.zeros((8, 8), np.int16), "CT", **place(0.0))
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    found = inspect(tmp_path)
    found.series[0]["nodata"] = float("inf")
    assert as_json(found)["series"][0]["nodata"] is None


def test_what_cannot_be_opened_is_told_and_nothing_at_all_is_an_error(tmp_path):
    write_phases(tmp_path / "mixed", [{"InstanceNumber": 1}] * 2)
    [one] = inspect(tmp_path).series
    assert "no tag tells" in one["problem"]
    assert "cannot be opened" in "\n".join(inspect(tmp_path).lines())
    with pytest.raises(VolumeError):
        inspect(tmp_path / "missing")


def test_the_command_prints_text_or_json(tmp_path, capsys):
    from napari_sam.cli import main

    write_ct_series(tmp_path / "ct")
    with pytest.raises(SystemExit) as done:
        main(["inspect", str(tmp_path / "ct"), "--json"])
    assert not done.value.code
    assert json.loads(capsys.readouterr().out)["series"][0]["modality"] == "CT"
    with pytest.raises(SystemExit):
        main(["inspect", str(tmp_path / "ct")])
    assert "z 6, y 128, x 128" in capsys.readouterr().out
    with pytest.raises(SystemExit) as failed:
        main(["inspect", str(tmp_path / "nothing")])
    assert failed.value.code == 2
    assert "nothing" in capsys.readouterr().err
