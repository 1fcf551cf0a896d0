"""One thread, one seed, no network caches, and honest rules for tests with a canvas."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator

# Read when torch, BLAS and OpenMP start, so they come before any import of those.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

settings.register_profile(
    "deterministic",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("deterministic")


def _why_no_canvas(config: pytest.Config) -> str | None:
    """Return why napari cannot draw here, or None if it can."""
    if os.environ.get("QT_QPA_PLATFORM") in ("offscreen", "minimal"):
        return f"QT_QPA_PLATFORM={os.environ['QT_QPA_PLATFORM']} has no OpenGL"
    if not sys.platform.startswith("linux"):
        return None
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return None
    if shutil.which("Xvfb") is None:
        return "no display, and Xvfb is not installed (Debian: apt-get install xvfb)"
    if not config.pluginmanager.hasplugin("xvfb"):
        return "no display, and pytest-xvfb is not installed"
    return "no display, and pytest-xvfb is switched off (--no-xvfb)"


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    # Widgets without a canvas work on no display at all.
    headless = not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    session.config.stash[_CANVAS] = _why_no_canvas(session.config)
    if sys.platform.startswith("linux") and headless:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("canvas") is None:
        return
    if reason := item.config.stash[_CANVAS]:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"tests with a canvas must run in CI: {reason}", pytrace=False)
        pytest.skip(f"needs a canvas: {reason}")


_CANVAS: pytest.StashKey[str | None] = pytest.StashKey()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep embeddings that nobody gave a place out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_SAM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("NAPARI_SAM_CONFIG", str(tmp_path_factory.mktemp("config")))
        yield
