from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_phantoms import ct_slice, write_ct_series, write_phases

pytest.importorskip("napari", reason="the dialog is shown by napari's readers")

from napari.utils.notifications import notification_manager
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QDialogButtonBox

from napari_sam._napari import series_chooser
from napari_sam._napari.readers import get_dicom_reader
from napari_sam._napari.series_chooser import SeriesChooser
from napari_sam.volume.series import list_series


def study(folder, n=9):
    """Nine series, one of them with a scout, and one that cannot be opened."""
    for k in range(n):
        write_ct_series(
            folder / f"s{k}", SeriesNumber=k + 1, seed=k, count=3 + k % 3,
            description=f"series {k}",
        )  # fmt: skip
    uid = pydicom.dcmread(next((folder / "s0").iterdir())).SeriesInstanceUID
    scout = ct_slice()
    scout.SeriesInstanceUID, scout.SeriesNumber = uid, 1
    scout.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    scout.save_as(folder / "scout")
    write_phases(folder / "mixed", [{"InstanceNumber": 1}] * 2, SeriesNumber=77)
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" * 20)
    return folder


@pytest.fixture
def dialog(tmp_path, qtbot):
    out = SeriesChooser(list_series(study(tmp_path)))
    qtbot.addWidget(out)
    yield out
    out.reject()


def row_of(dialog, short):
    return next(r for r, i in enumerate(dialog.infos) if i.short == short)


def test_every_series_gets_a_row_with_its_picture(dialog, qtbot):
    good = [r for r, i in enumerate(dialog.infos) if not i.problem]
    assert len(good) == 10 and dialog.table.rowCount() == 11
    qtbot.waitUntil(
        lambda: all(not dialog.table.item(r, 0).icon().isNull() for r in good),
        timeout=30_000,
    )
    row = row_of(dialog, "3")
    texts = [dialog.table.item(row, c).text() for c in range(7)]
    assert texts[1:3] == ["3", "CT"] and "series 2" in texts[3]
    assert texts[4].startswith("5 x 128 x 128") and texts[5] == "3 x 0.661 x 0.661 mm"


def test_what_cannot_be_opened_cannot_be_chosen_and_says_why(dialog):
    row = row_of(dialog, "77")
    dialog.table.clearSelection()
    button = dialog.buttons.button(QDialogButtonBox.StandardButton.Open)
    assert not button.isEnabled()
    dialog.table.selectRow(row)
    assert dialog.chosen() == [] and not button.isEnabled()
    assert "no tag tells" in dialog.table.item(row, 3).toolTip()


def test_the_chosen_rows_are_returned(dialog):
    dialog.table.clearSelection()
    dialog.table.selectRow(row_of(dialog, "4"))
    assert [i.short for i in dialog.chosen()] == ["4"]
    assert "scout" in "".join(i.skipped[0][0] for i in dialog.infos if i.skipped)


def when_shown(do, tries=200):
    """Call `do` with the chooser as soon as it is on the screen."""

    def look():
        windows = (w for w in QApplication.topLevelWidgets() if w.isVisible())
        shown = [w for w in windows if isinstance(w, SeriesChooser)]
        if shown:
            do(shown[0])
        elif when_shown.left > 0:
            when_shown.left -= 1
            QTimer.singleShot(20, look)

    when_shown.left = tries
    QTimer.singleShot(20, look)


def told():
    """The last message that napari was given to show."""
    return str(notification_manager.records[-1].message)


def test_reading_a_study_asks_and_opens_what_was_chosen(tmp_path, qtbot):
    path = str(study(tmp_path, n=2))

    def choose(dialog):
        dialog.table.clearSelection()
        dialog.table.selectRow(row_of(dialog, "2"))
        dialog.accept()

    when_shown(choose)
    [(data, options, kind)] = get_dicom_reader(path)(path)
    assert "cannot be opened: no tag tells" in told()
    assert kind == "image" and data.shape == (4, 128, 128)
    volume = options["metadata"]["napari_sam"]["volume"]
    assert volume.recipe["source"] == path


def test_cancelling_shows_nothing(tmp_path, qtbot):
    path = str(study(tmp_path, n=2))
    when_shown(lambda dialog: dialog.reject())
    assert get_dicom_reader(path)(path) == [(None,)]


def test_one_series_is_opened_without_asking(tmp_path, qtbot, monkeypatch):
    monkeypatch.setattr(series_chooser, "ask", lambda infos: pytest.fail("asked"))
    write_ct_series(tmp_path / "patient" / "study" / "series")
    (tmp_path / ".DS_Store").write_bytes(b"Bud1")
    [(data, _, _)] = get_dicom_reader(str(tmp_path))(str(tmp_path))
    assert data.shape == (6, 128, 128)


def test_uneven_slices_are_shown_resampled_and_told(tmp_path, qtbot):
    write_ct_series(tmp_path)
    gone = next(
        p for p in tmp_path.iterdir()
        if abs(pydicom.dcmread(p).ImagePositionPatient[2] + 75.7 - 6) < 0.1
    )  # fmt: skip
    gone.unlink()
    [(data, options, _)] = get_dicom_reader(str(tmp_path))(str(tmp_path))
    assert "resampled to planes 3 mm apart" in told()
    assert data.shape == (6, 128, 128)
    np.testing.assert_allclose(options["scale"][0], 3)


def test_some_slices_become_one_layer(tmp_path, qtbot):
    write_ct_series(tmp_path)
    paths = sorted(
        map(str, tmp_path.iterdir()),
        key=lambda p: float(pydicom.dcmread(p).ImagePositionPatient[2]),
    )
    [(data, _, _)] = get_dicom_reader(paths[:3])(paths[:3])
    assert data.shape == (3, 128, 128)
    (tmp_path / "a.txt").write_text("no slice")
    assert get_dicom_reader([*paths, str(tmp_path / "a.txt")]) is None


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("IM0001", True), ("1", True), ("a3f09bc1de77a001", True), ("DICOMDIR", True),
        ("1.2.840.113619.2.5", True), ("MR.0007", True), ("study.zip", True),
        ("IMG.DCM", True), ("cells.tif", False), ("a.b.tiff", False),
        ("notes.txt", False), ("scan.2024.png", False),
    ],
)  # fmt: skip
def test_files_without_a_suffix_are_offered_and_other_images_left_alone(name, ours):
    npe2 = pytest.importorskip("npe2")
    import napari_sam

    manifest = npe2.PluginManifest.from_file(
        Path(napari_sam.__file__).parent / "napari.yaml"
    )
    manager = npe2.PluginManager()
    manager.register(manifest)
    found = {r.command for r in manager.iter_compatible_readers(f"/data/{name}")}
    assert any("read_dicom" in command for command in found) == ours
