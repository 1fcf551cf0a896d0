"""Feed damaged files to every reader: ``python tests/fuzz/fuzz_readers.py --count N``.

Each input is made from its number alone, so that ``--only NUMBER`` repeats it. What is
reported: exceptions that are none of this package's, errors of this package whose cause
is a fault in its own code, inputs that take more than 5 s or 1 GB, and crashes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import multiprocessing
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import corpus
from mutations import mutated

import napari_sam
from napari_sam.core.planes import Plane
from napari_sam.core.tiles import Window
from napari_sam.errors import NapariSamError
from napari_sam.models import checkpoints
from napari_sam.results.registry import read
from napari_sam.volume.opening import open_volume

TIME_S, MEMORY = 5.0, 1 << 30
OURS = str(Path(napari_sam.__file__).parent)
TEXT = (".json", ".geojson", ".zattrs", ".zarray", ".zgroup")


class TooSlow(BaseException):
    """An input took longer than it may; no reader catches this."""


def fuzz(numbers, samples, scratch):
    """Yield (number, sample's name, what is wrong) for inputs that are not refused."""
    with _limited_memory(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in numbers:
            sample, path = damaged(number, samples, scratch)
            try:
                wrong = attempt(sample, path)
            except TooSlow:  # just as it ended
                wrong = f"more than {TIME_S} s"
            if wrong:
                yield number, sample.name, wrong


def damaged(number, samples, scratch):
    """Write input `number`; every sample has its turn."""
    rng = random.Random(number)
    sample = samples[number % len(samples)]
    path = scratch / sample.path.name
    if sample.path.is_file():
        text = path.name.endswith(TEXT)
        path.write_bytes(mutated(sample.path.read_bytes(), rng, text=text))
        return sample, path
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(sample.path, path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    metadata = [p for p in files if p.name.endswith(TEXT)]
    chosen = rng.choice(metadata if metadata and rng.random() < 0.7 else files)
    if rng.random() < 0.1:
        chosen.unlink()
    else:
        text = chosen in metadata
        chosen.write_bytes(mutated(chosen.read_bytes(), rng, text=text))
    return sample, path


def attempt(sample, path):
    """Read an input as a user would; say what is wrong with how that ended."""
    signal.setitimer(signal.ITIMER_REAL, TIME_S)
    try:
        _read(sample, path)
    except NapariSamError as error:
        # Results rely on their registry to refuse for them.
        return None if sample.reader == "results" else _own_fault(error)
    except TooSlow:
        return f"more than {TIME_S} s\n{_place_of(sys.exc_info()[2])}"
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return f"{type(error).__name__}: {error}\n{_place_of(error.__traceback__)}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


def _read(sample, path):
    if sample.reader == "checkpoint":
        checkpoints.read(path)
        return
    if sample.reader == "results":
        read(path, corpus.target(), sample.format)
        return
    volume = open_volume(path)
    h, w = volume.shape[-2:]
    plane = Plane.of(volume.shape, 0)
    assert volume.affine.shape == (volume.ndim + 1,) * 2
    json.dumps([volume.spacing, volume.affine.tolist()], allow_nan=False)
    volume.read(plane, Window(0, 0, 0, min(h, 64), min(w, 64)))
    json.dumps([volume.identity(), volume.intensity.to_json()], allow_nan=False)
    open_volume(path, as_labels=True)


def _own_fault(error):
    """Say where a chain of causes begins, if that is in code of this package."""
    cause = error
    while cause.__cause__ is not None or cause.__context__ is not None:
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, MemoryError):
        return f"memory: {cause}\n{_place_of(cause.__traceback__)}"
    if isinstance(cause, (NapariSamError, OSError)) or cause.__traceback__ is None:
        return None
    last = traceback.extract_tb(cause.__traceback__)[-1]
    if last.filename.startswith(OURS) and isinstance(
        cause, (AttributeError, NameError, AssertionError, RecursionError, KeyError,
                IndexError, ZeroDivisionError)
    ):  # fmt: skip
        return f"own {type(cause).__name__}: {cause}\n{_place_of(cause.__traceback__)}"
    return None


def _place_of(trace):
    frames = traceback.extract_tb(trace)
    return "".join(f"    {f.filename}:{f.lineno} {f.name}\n" for f in frames[-4:])


@contextlib.contextmanager
def _limited_memory():
    def stop(*_):
        raise TooSlow

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    handler = signal.signal(signal.SIGALRM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def _worker(numbers, folder, pipe):
    samples = corpus.listed(folder / "corpus")
    for sample in samples:  # what is imported late is no reader's time
        with contextlib.suppress(NapariSamError):
            _read(sample, sample.path)
    scratch = folder / f"scratch{numbers.start}"
    scratch.mkdir(exist_ok=True)
    for number in numbers:
        pipe.send(("begun", number))
        for found in fuzz([number], samples, scratch):
            pipe.send(("found", found))
    pipe.send(("done", None))


def main():
    """Run the numbers asked for, in a process that is replaced when it crashes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    logging.disable()
    start = options.start if options.only is None else options.only
    stop = start + (options.count if options.only is None else 1)
    found, begun = Counter(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        corpus.build(Path(name) / "corpus")
        at = start
        while at < stop:
            ours, theirs = multiprocessing.Pipe(duplex=False)
            process = multiprocessing.get_context("fork").Process(
                target=_worker, args=(range(at, stop), Path(name), theirs)
            )
            process.start()
            theirs.close()
            done = False
            with contextlib.suppress(EOFError):
                while not done:
                    kind, value = ours.recv()
                    if kind == "begun":
                        at = value
                    elif kind == "found":
                        number, sample, wrong = value
                        found[wrong.split("\n", 1)[0][:60]] += 1
                        print(f"{number} {sample}: {wrong}", flush=True)
                    done = kind == "done"
            process.join()
            if not done:
                found["crash"] += 1
                print(f"{at}: the process died ({process.exitcode})", flush=True)
            at += 1
            if done:
                break
    took = time.monotonic() - begun
    print(f"{stop - start} inputs in {took:.0f} s; wrong: {sum(found.values())}")
    for text, count in found.most_common():
        print(f"  {count} x {text}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
