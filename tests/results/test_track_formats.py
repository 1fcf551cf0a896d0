"""Tracks go out and come back: ids, parents, gaps, merges and what a person said."""

import numpy as np
import pytest
from time_lapses import dividing, drifting, merging

from napari_sam.core.tracks import Link, Node
from napari_sam.errors import ExportError, NapariSamError, SessionError, VolumeError
from napari_sam.session import Session
from napari_sam.testing import ToyModel


def session_of(labels, image=None):
    image = np.zeros(labels.shape, np.uint8) if image is None else image
    return Session(image, ToyModel(64), embeddings=False, labels=labels.copy())


def made(name):
    """A session with tracks, as a person might leave it."""
    lapse = {"gap": drifting(skip={(2, 3), (3, 2)}), "division": dividing(),
             "merge": merging(), "3-D": dividing()}[name]  # fmt: skip
    labels = lapse.labels()
    if name == "3-D":
        labels = np.repeat(labels[:, None], 2, axis=1)
    session = session_of(labels)
    if name == "merge":
        session.tracks.merge([(2, 1), (2, 2)], (3, 3))
    elif name == "gap":
        session.tracks.cut((4, 4))
    else:
        session.tracks.divide((2, 1), [(3, 2), (3, 3)])
        session.tracks.freeze(4, (0, 2))
    return session


def back(session, path, **options):
    other = Session(np.zeros(session.labels.shape, np.uint8), ToyModel(64),
                    embeddings=False)  # fmt: skip
    other.read(path, **options)
    return other


@pytest.mark.parametrize("case", ["gap", "division", "3-D"])
def test_cell_tracking_challenge_comes_back_equal(case, tmp_path):
    session = made(case)
    assert session.export(tmp_path / "01.ctc") == []
    again = back(session, tmp_path / "01.ctc")
    np.testing.assert_array_equal(again.labels, session.labels)
    assert again.lineage().edges.keys() == session.lineage().edges.keys()


@pytest.mark.parametrize("case", ["gap", "division", "merge", "3-D"])
def test_geff_comes_back_equal_with_what_was_said(case, tmp_path):
    geff = pytest.importorskip("geff")
    from geff.core_io import read_to_memory
    from geff.validate.data import ValidationConfig

    session = made(case)
    assert session.export(tmp_path / "a.geff") == []
    geff.validate_structure(tmp_path / "a.geff")
    graph = read_to_memory(tmp_path / "a.geff", data_validation=ValidationConfig(
        graph=True, tracklet=True, lineage=True, sphere=True, ellipsoid=True
    ))  # fmt: skip
    assert len(graph["edge_ids"]) == len(session.lineage().edges)
    again = back(session, tmp_path / "a.geff")
    np.testing.assert_array_equal(again.labels, session.labels)
    assert again.lineage() == session.lineage()
    assert again.document.links == session.document.links


@pytest.mark.parametrize("case", ["gap", "division", "merge", "3-D"])
def test_a_table_links_the_objects_that_are_there(case, tmp_path):
    session = made(case)
    session.tracks.write(tmp_path / "a.csv")
    loose = session.labels.copy()
    for t in range(len(loose)):  # other ids in every frame
        loose[t] = np.where(loose[t], (loose[t] + t) % 7 + 1, 0)
    other = session_of(loose)
    assert other.tracks.read(tmp_path / "a.csv") == 0

    def drawn(s):
        return {
            tuple((n.frame, *np.argwhere(s.labels[n.frame] == n.object_id)[0])
                  for n in edge)
            for edge in s.lineage().edges
        }  # fmt: skip

    assert drawn(other) == drawn(session)
    assert other.undo()
    np.testing.assert_array_equal(other.labels, loose)


def test_masks_and_list_are_as_the_challenge_has_them(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    session = made("gap")
    session.export(tmp_path / "01_RES", "ctc")
    rows = np.loadtxt(tmp_path / "01_RES" / "res_track.txt", int)
    names = sorted(p.name for p in (tmp_path / "01_RES").glob("*.tif"))
    assert names == [f"mask{t:03d}.tif" for t in range(6)]
    masks = np.stack([tifffile.imread(tmp_path / "01_RES" / n) for n in names])
    assert masks.dtype == np.uint16
    for i, first, last, parent in rows.tolist():
        assert np.flatnonzero((masks == i).any((1, 2))).tolist() == [
            *range(first, last + 1)
        ]
        assert parent == 0 or dict(zip(rows[:, 0], rows[:, 2]))[parent] < first  # noqa: B905
    # Two gaps: two more lines than objects, each with the stretch before as parent.
    assert len(rows) == len(np.unique(session.labels)) - 1 + 2
    session.export(tmp_path / "TRA", "ctc", truth=True)
    assert (tmp_path / "TRA" / "man_track000.tif").exists()
    assert (
        back(session, tmp_path / "TRA", format="ctc").labels == session.labels
    ).all()


def test_what_is_not_held_is_told_and_folders_are_kept(tmp_path):
    (told,) = made("merge").export(tmp_path / "a.ctc")
    assert "1 merges are not in it" in told
    (tmp_path / "thesis.ctc").mkdir()
    (tmp_path / "thesis.ctc" / "chapter.txt").write_text("precious")
    for path in (tmp_path / "a.ctc", tmp_path / "thesis.ctc"):
        with pytest.raises(ExportError, match="exists"):
            made("gap").export(path)
    made("gap").export(tmp_path / "a.ctc", overwrite=True)
    with pytest.raises(ExportError, match="exists"):
        made("gap").export(tmp_path / "thesis.ctc", overwrite=True)
    large = np.zeros((2, 8, 8), np.uint32)
    large[:, 2:4, 2:4] = 70_000
    with pytest.raises(ExportError, match="up to 65535"):
        session_of(large).export(tmp_path / "b.ctc")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda p: (p / "res_track.txt").unlink(), "holds no tracks"),
        (lambda p: (p / "mask003.tif").unlink(), "masks of 5 frames"),
        (lambda p: (p / "res_track.txt").write_text("1 0 x 0"), "expected id, first"),
        (lambda p: (p / "mask002.tif").write_bytes(b"II*"), "a.ctc"),
    ],
)
def test_damaged_folders_are_refused(damage, says, tmp_path):
    session = made("gap")
    session.export(tmp_path / "a.ctc")
    damage(tmp_path / "a.ctc")
    with pytest.raises(NapariSamError, match=says):
        back(session, tmp_path / "a.ctc")


def test_graphs_of_others_number_each_frame_anew(tmp_path):
    pytest.importorskip("geff")
    import networkx as nx
    import zarr
    from geff import write

    labels = dividing().labels(seed=5)
    true = dividing().labels()
    graph, number = nx.DiGraph(), {}
    for t in range(len(labels)):
        for i in np.unique(labels[t][labels[t] > 0]).tolist():
            y, x = np.argwhere(labels[t] == i).mean(0)
            number[t, int(true[t][labels[t] == i][0])] = len(number)
            graph.add_node(len(number) - 1, t=t, y=y, x=x, seg=i)
    for (t, i), n in number.items():
        for j in (2, 3) if (t, i) == (2, 1) else (i,):
            if (t + 1, j) in number:
                graph.add_edge(n, number[t + 1, j])
    path = tmp_path / "a.geff"
    write(
        graph, path, axis_names=["t", "y", "x"], axis_types=["time", "space", "space"]
    )
    zarr.create_array(tmp_path / "masks.zarr", data=labels)
    with pytest.raises(VolumeError, match="has a graph and no masks"):
        back(session_of(labels), path)
    from geff import GeffMetadata

    meta = GeffMetadata.read(path)
    meta.related_objects = [
        {"type": "labels", "path": "../masks.zarr", "label_prop": "seg"}
    ]
    meta.write(path)
    found = back(session_of(labels), path)
    (mother,) = found.lineage().divisions
    assert mother.frame == 2
    assert len(np.unique(found.labels)) == 5


def test_no_table_of_tracks_is_refused(tmp_path):
    session = made("gap")
    for text, says in (
        ("a,b\n1,2\n", "no column track_id"),
        ("track_id,t,y,x\nTrack,Frame,Y,X\n", "no row with numbers"),
    ):
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(SessionError, match=says):
            session.tracks.read(tmp_path / "a.csv")
    with pytest.raises(SessionError, match="cannot be read"):
        session.tracks.read(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_text(
        "TRACK_ID,FRAME,POSITION_X,POSITION_Y\nTrack ID,Frame,X,Y\n4,0,14,12\n4,1,18,13"
        "\n4,1,90,60\n4,2,nan,3\n"
    )
    assert session.tracks.read(tmp_path / "a.csv") == 1
    edge = Node(0, 1), Node(1, 1)
    assert edge in session.lineage().edges
    assert session.document.links.get(edge, Link()).state == "open"
