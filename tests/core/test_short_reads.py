import tracemalloc

from napari_sam.core.short_reads import ShortReads


def test_reads_give_what_a_file_holds_and_allocate_no_more(tmp_path):
    (tmp_path / "a").write_bytes(bytes(range(200)) * 5)
    with ShortReads(tmp_path / "a") as file:
        assert file.read(3) == b"\0\1\2"
        file.seek(990)
        tracemalloc.start()
        assert file.read(2**40) == bytes(range(190, 200))
        assert tracemalloc.get_traced_memory()[1] < 100_000
        tracemalloc.stop()
        assert file.read() == file.read(5) == b""
        file.seek(-4, 2)
        assert file.read(-1) == bytes(range(196, 200))
        file.seek(0)
        assert len(file.read(None)) == 1000
