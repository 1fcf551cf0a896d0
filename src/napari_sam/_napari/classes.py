"""Classes: their list, that of the object at hand and of new ones, and colours."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_sam._napari.label_colors import class_colormap, class_colors
from napari_sam._napari.state import ClassRow, GuessedState
from napari_sam._napari.workers import PREPARE
from napari_sam.core.objects import ClassList, ObjectClass
from napari_sam.errors import NapariSamError
from napari_sam.session import read_classes, write_classes

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_sam._napari.annotation import Annotation
    from napari_sam._napari.state import Board
    from napari_sam._napari.workers import Jobs
    from napari_sam.engine.classify import ClassGuesses
    from napari_sam.results.views import View
    from napari_sam.session import Session


class Classes:
    """Passes on what the user says of classes, and shows objects in their colours.

    Everything here runs on the main thread, except what it gives to `jobs`.

    Parameters
    ----------
    board : Board
    jobs : Jobs
    """

    def __init__(self, board: Board, jobs: Jobs) -> None:
        self.board = board
        self.jobs = jobs
        self._annotation: Annotation | None = None
        self._session: Session | None = None
        self._drawn: tuple[Any, ...] = ("instance",)
        """View, classes and kinds of objects that the labels are coloured by."""
        self._due = False

    def use(self, annotation: Annotation | None) -> None:
        """Work on another image or none."""
        self._leave()
        self._annotation = annotation
        self._drawn = ("instance",)
        self.board.update(class_rows=(), view="instance", guessed=None)

    def renew(self) -> None:
        """Go on with another session."""
        self._leave()
        self._session = None if self._annotation is None else self._annotation.session
        if self._session is not None:
            self._session.changed.connect(self.look)
            self.look()

    def stop(self) -> None:
        """Stop guessing, and making colours."""
        self.jobs.cancel("colors")
        self.jobs.cancel("guess")
        if self.board.state.guessing:
            self.board.update(guessing=False)

    # -- of objects ------------------------------------------------------------------

    def set_class(self, name: str) -> None:
        """Say of which class the object at hand is; "" for none.

        Where it has no mask yet, that is the class of new objects from now on.
        """
        session, object_id = self._session, self.board.state.object_id
        if session is None:
            return
        kind, told = name.strip() or None, name.strip() or "no class"
        if object_id in session.objects:
            if self._try(lambda: session.describe([object_id], class_name=kind)):
                self.board.say(f"Object {object_id}: {told} (Ctrl-Z: undo).")
        elif self._try(lambda: setattr(session, "class_of_new", kind)):
            self.look()
            new = f"of class {told}" if kind else "without a class"
            self.board.say(f"New objects are {new} from now on.")

    def set_number(self, number: int) -> None:
        """Say of which class the object at hand is, by its place in the list from 1."""
        rows = self.board.state.class_rows
        if number > len(rows):
            self.board.say(f"There is no class {number} yet: type a name beside Class.")
        else:
            self.set_class(rows[number - 1].name)

    def next_class(self) -> None:
        """Give the object at hand the next class of the list; after the last, none."""
        names = ["", *(row.name for row in self.board.state.class_rows)]
        here = self.board.state.class_name
        at = names.index(here) if here in names else 0
        if len(names) == 1:
            self.board.say("There is no class yet: type a name beside Class.")
        else:
            self.set_class(names[(at + 1) % len(names)])

    # -- the list --------------------------------------------------------------------

    def add(self, name: str) -> None:
        """Add a class at the end of the list."""
        session = self._session
        if session is not None and name.strip():
            held = session.classes.classes
            more = ClassList((*held, ObjectClass(name.strip())))
            self._try(lambda: setattr(session, "classes", more))

    def rename(self, name: str, new: str) -> None:
        """Give a class another name; its objects go along."""
        self._change(name, lambda c: replace(c, name=new))

    def recolor(self, name: str, color: str) -> None:
        """Give a class another colour, as #rrggbb."""
        self._change(name, lambda c: replace(c, color=color))

    def set_codes(self, name: str, text: str) -> None:
        """Give a class its codes, as "SCT:84640000, UBERON:0002107"; "" for none."""
        parts = [p.strip() for p in text.split(",") if p.strip()]
        codes = {s.strip(): c.strip() for s, _, c in (p.partition(":") for p in parts)}
        if not all(s and c for s, c in codes.items()):
            self.board.say("A code is written with its scheme, as SCT:84640000.")
            self.board.update()
            return
        self._change(name, lambda c: replace(c, codes=codes))

    def remove(self, name: str) -> None:
        """Take a class off the list; its objects have none then."""
        session = self._session
        if session is not None:
            done: list[int] = []
            if self._try(lambda: done.append(session.change_class(name, None))):
                some = f"{done[0]:,} objects have no class now" if done[0] else "gone"
                self.board.say(f"Class {name}: {some} (Ctrl-Z: undo).")

    def read(self, path: str) -> None:
        """Take the classes of a file to those there are."""
        session = self._session
        if session is None:
            return

        def take() -> None:
            held = session.classes
            more = [c for c in read_classes(path).classes if held.get(c.name) is None]
            if more:
                session.classes = ClassList((*held.classes, *more))
            self.board.say(f"{len(more)} classes read (Ctrl-Z: undo).")

        self._try(take)

    def write(self, path: str) -> None:
        """Write the list to a file, to be shared."""
        session = self._session
        if session is not None:
            if self._try(lambda: write_classes(path, session.classes)):
                self.board.say(f"Wrote {path}.")

    # -- guesses ---------------------------------------------------------------------

    def guess(self) -> None:
        """Guess the classes of objects without one, in the background."""
        session = self._session
        if session is None:
            return
        self.board.update(guessing=True)
        self.board.say("Looking at the objects without a class…", "busy")

        def failed(error: Exception) -> None:
            self.board.update(guessing=False)
            self.board.fail(error)

        def found(made: ClassGuesses) -> None:
            names = {i: g.name for i, g in made.guesses.items()}
            doubts = {i: g.doubt for i, g in made.guesses.items()}
            told = ""
            if made.accuracy is not None:
                right = round(100 * made.accuracy)
                told = f"{right} % of those with a class would be guessed right."
            guessed = GuessedState(names, doubts, told)
            self.board.update(guessing=False, guessed=guessed)
            self.board.say(
                f"{len(names):,} objects looked at: sort by “class doubt”, G takes the "
                "likely class of the rows chosen."
            )

        self.jobs.submit(
            "guess",
            lambda cancelled: session.guess_classes(cancel=cancelled),
            found,
            failed,
            priority=PREPARE,
        )

    def take_below(self, max_doubt: float) -> None:
        """Give objects without a class those guessed with no more doubt than this."""
        guessed = self.board.state.guessed
        if guessed is not None:
            self._take(guessed.below(max_doubt))

    def take(self, ids: list[int]) -> None:
        """Give objects the classes guessed for them."""
        guessed = self.board.state.guessed
        if guessed is None:
            self.board.say("Guess the rest first: below “Classes and colours”.")
        else:
            names = guessed.names
            self._take({i: names[i] for i in ids if i in names})

    def _take(self, kinds: dict[int, str]) -> None:
        session = self._session
        if session is None:
            return
        named = {i for i, r in session.document.about.items() if r.class_name}
        n = session.accept_classes({i: k for i, k in kinds.items() if i not in named})
        self.board.say(f"{n:,} objects have a class now (Ctrl-Z: undo).")

    # -- what is seen ----------------------------------------------------------------

    def set_view(self, view: View) -> None:
        """Colour objects each for itself, by class, or by class in different shades."""
        self.board.update(view=view)
        self._color()

    def look(self) -> None:
        """Show the list and its colours, once for all changes made in one go."""
        if not self._due:
            self._due = True
            self.jobs.post(self._list)

    def _list(self) -> None:
        self._due = False
        session = self._session
        if session is None:
            return
        counts = Counter(r.class_name for r in session.document.about.values())
        classes = session.classes.classes
        colors = class_colors(session.classes)
        rows = tuple(
            ClassRow(c.name, colors[c.name], _told(c.codes), counts[c.name])
            for c in classes
        )
        if rows != self.board.state.class_rows:
            self.board.update(class_rows=rows)
        if self._annotation is not None:
            self._annotation.objects.show_class()
        self._color()

    def _color(self) -> None:
        session, annotation = self._session, self._annotation
        view = self.board.state.view
        if session is None or annotation is None or not annotation.writer.shown:
            return
        kinds = {}
        if view != "instance":
            about = session.document.about.items()
            kinds = {i: r.class_name for i, r in about if r.class_name is not None}
        alone = view == "instance"
        wanted = (view,) if alone else (view, session.classes, kinds)
        if wanted == self._drawn:
            return
        self._drawn, classes = wanted, session.classes

        def show(colormap: Any) -> None:
            if wanted is self._drawn and annotation.writer.shown:
                annotation.writer.layer.colormap = colormap
                self.board.update(color=annotation.writer.color(annotation.object_id))

        self.jobs.submit(
            "colors",
            lambda _: class_colormap(view, classes, kinds),
            show,
            self.board.fail,
        )

    # -- inside ----------------------------------------------------------------------

    def _change(self, name: str, make: Callable[[ObjectClass], ObjectClass]) -> None:
        session = self._session
        found = None if session is None else session.classes.get(name)
        if session is not None and found is not None and make(found) != found:
            self._try(lambda: session.change_class(name, make(found)))

    def _leave(self) -> None:
        self.stop()
        if self._session is not None:
            self._session.changed.disconnect(self.look)
        self._session = None

    def _try(self, call: Callable[[], Any]) -> bool:
        try:
            call()
        except NapariSamError as error:
            self.board.fail(error)
            self.board.update()  # fields show again what holds
            return False
        return True


def _told(codes: Any) -> str:
    return ", ".join(f"{scheme}:{code}" for scheme, code in codes.items())
