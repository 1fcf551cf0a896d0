"""Check what the wheel installed: manifest, weights, commands; run outside the repo."""

import importlib.metadata
import subprocess
import sys
import sysconfig
from pathlib import Path

from npe2 import PluginManager

import napari_sam

PACKAGE = Path(napari_sam.__file__).parent


def main() -> None:
    """Fail with a message at the first thing that is not as it should be."""
    site = Path(sysconfig.get_path("purelib"))
    assert site in PACKAGE.parents, f"{PACKAGE} is not the installed copy in {site}"
    files = [str(f) for f in importlib.metadata.files("napari-sam-anysize") or ()]
    for wanted in ("napari_sam/napari.yaml", "napari_sam/weights/nano.safetensors"):
        assert files.count(wanted) == 1, f"{wanted}: {files.count(wanted)} copies"
        assert (PACKAGE.parent / wanted).stat().st_size > 100, f"{wanted} is a stub"
    assert not [f for f in files if f.startswith(("tests", "examples", "benchmarks"))]

    manager = PluginManager()
    manager.discover()
    manifest = manager.get_manifest("napari-sam-anysize")
    assert manifest.contributions.widgets, "the manifest contributes no widget"
    for command in manifest.contributions.commands or ():
        manager.commands.register(command.id, command.python_name)
        manager.commands.get(command.id)  # imports it

    script = Path(sys.executable).with_name("napari-sam")
    subprocess.run([script, "--help"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([script, "models"], check=True, stdout=subprocess.DEVNULL)
    version = importlib.metadata.version("napari-sam-anysize")
    print(f"napari-sam {version}: installed and found")


if __name__ == "__main__":
    main()
