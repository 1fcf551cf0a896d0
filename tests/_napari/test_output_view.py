from napari_sam._napari.views.output_view import OutputView
from napari_sam.results.registry import FORMATS


def test_the_export_menu_offers_every_format_by_its_name(qtbot):
    view = OutputView()
    qtbot.addWidget(view)
    asked = []
    view.export_wanted.connect(asked.append)

    actions = view.export.menu().actions()
    for action in actions:
        action.trigger()

    assert [a.text() for a in actions] == [f"{f.title}…" for f in FORMATS.values()]
    assert asked == [name for name, f in FORMATS.items() if not f.missing]


def test_a_format_that_lacks_a_package_is_shown_and_says_so(qtbot, monkeypatch):
    monkeypatch.setattr("napari_sam.results.registry.find_spec", lambda name: None)
    view = OutputView()
    qtbot.addWidget(view)

    off = {a.text(): a.toolTip() for a in view.export.menu().actions()
           if not a.isEnabled()}  # fmt: skip

    assert off["GeoPackage…"] == "needs geopandas and pyogrio"
    assert "COCO JSON…" not in off
