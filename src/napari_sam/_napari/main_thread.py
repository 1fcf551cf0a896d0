"""From the worker to the main thread: calls wait in Qt's own event queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Qt, Signal, Slot

if TYPE_CHECKING:
    from collections.abc import Callable


class MainThread(QObject):  # type: ignore[misc]
    """Runs callables on the thread that made it (the GUI's), in the order posted."""

    _posted = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._posted.connect(self._call, Qt.ConnectionType.QueuedConnection)

    def post(self, call: Callable[[], None]) -> None:
        """Run `call` on the main thread when it gets round to it; any thread."""
        try:
            self._posted.emit(call)
        except RuntimeError:  # the window is gone, and with it whoever would care
            return

    @Slot(object)  # type: ignore[untyped-decorator]
    def _call(self, call: Callable[[], None]) -> None:
        call()
