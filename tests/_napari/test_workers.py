import subprocess
import sys
import threading
import time

import pytest

from napari_sam._napari.workers import BACKGROUND, CLICK, TRAINING, Jobs
from napari_sam.errors import Cancelled


@pytest.fixture
def held(main):
    """A main thread whose worker is held by a first job until `go` is set."""
    started, go = threading.Event(), threading.Event()

    def hold(_):
        started.set()
        go.wait(10)

    main.jobs.submit("hold", hold, lambda _: None)
    assert started.wait(10)
    yield main, go
    go.set()
    main.jobs.close(timeout_s=5)
    assert not main.jobs.alive


def test_the_newest_click_is_answered_first(held):
    main, go = held
    order = []
    for name in "abc":
        main.jobs.submit(name, lambda _, n=name: n, order.append)
    go.set()
    main.settle()
    assert order == ["c", "b", "a"]


def test_a_click_with_the_same_key_replaces_the_one_that_waits(held):
    main, go = held
    ran, answered = [], []
    for n in range(3):
        main.jobs.submit("same", lambda _, n=n: ran.append(n) or n, answered.append)
    go.set()
    main.settle()
    assert ran == answered == [2]


def test_an_answer_that_comes_after_its_replacement_is_dropped(held):
    main, go = held
    answers = []
    started, finish = threading.Event(), threading.Event()

    def slow(_):
        started.set()
        finish.wait(10)
        return "old"

    go.set()
    main.jobs.submit("key", slow, answers.append)
    assert started.wait(10)
    main.jobs.submit("key", lambda _: "new", answers.append)
    finish.set()
    main.settle()
    assert answers == ["new"]


def test_background_work_waits_between_its_steps_for_clicks(held):
    main, go = held
    order = []
    clicked, answer = threading.Event(), threading.Event()

    def click(_):
        clicked.set()
        answer.wait(10)
        order.append("click")

    def steps():
        for n in range(4):
            if n == 1:
                main.jobs.submit("click", click, lambda _: 0)
                assert clicked.wait(10)  # answered while this step still runs
                threading.Timer(0.1, answer.set).start()
            order.append(n)
            yield n, 4

    main.jobs.submit("long", lambda _: steps(), lambda _: None, priority=BACKGROUND)
    go.set()
    main.settle()
    assert order == [0, 1, "click", 2, 3]
    assert CLICK < BACKGROUND


def test_a_click_is_answered_while_a_long_step_of_background_work_runs(held):
    main, go = held
    go.set()
    main.settle()
    started, finish, answers = threading.Event(), threading.Event(), []

    def long(_):
        started.set()
        assert finish.wait(10)

    main.jobs.submit("long", long, answers.append, priority=BACKGROUND)
    assert started.wait(10)
    main.jobs.submit("click", lambda _: "mask", answers.append)
    main.pump(lambda: answers)
    assert answers == ["mask"]
    finish.set()
    main.settle()
    assert answers == ["mask", None]


def test_background_work_that_was_cancelled_while_clicks_go_first_never_starts(held):
    main, go = held
    ran = []
    main.jobs.submit("long", ran.append, ran.append, priority=BACKGROUND)
    time.sleep(0.05)
    main.jobs.cancel("long")
    go.set()
    main.settle()
    main.pump(lambda: main.jobs.idle)
    assert ran == []


def test_cancelled_background_work_stops_at_its_next_step_and_closes(held):
    main, go = held
    seen, closed, answers = [], [], []

    def steps():
        try:
            for n in range(1000):
                seen.append(n)
                if n == 2:
                    main.jobs.cancel("long")
                yield n
        finally:
            closed.append(True)

    main.jobs.submit("long", lambda _: steps(), answers.append, answers.append)
    go.set()
    main.settle()
    main.pump(lambda: closed)
    assert seen == [0, 1, 2] and not answers


def test_errors_reach_the_main_thread_and_the_worker_lives_on(held):
    main, go = held
    failures, answers = [], []

    def fail(_):
        raise RuntimeError("broken")

    main.jobs.submit("bad", fail, answers.append, failures.append)
    go.set()
    main.settle()
    main.jobs.submit("good", lambda _: 1, answers.append)
    main.settle()
    assert [str(f) for f in failures] == ["broken"]
    assert answers == [1]


def test_work_that_says_it_was_cancelled_is_no_error(held):
    main, go = held
    calls = []

    def stop(_):
        raise Cancelled("stopped")

    main.jobs.submit("stop", stop, calls.append, calls.append)
    go.set()
    main.settle()
    assert calls == []


def test_nothing_is_called_after_close():
    posted = []
    jobs = Jobs(posted.append)
    started, go, answers = threading.Event(), threading.Event(), []

    def slow(_):
        started.set()
        go.wait(10)

    jobs.submit("slow", slow, answers.append)
    assert started.wait(10)
    jobs.submit("waiting", lambda _: 1, answers.append)
    jobs.close()
    go.set()
    jobs.close(timeout_s=5)
    for call in posted:
        call()
    assert not jobs.alive and answers == []
    assert jobs.submit("late", lambda _: 1, answers.append).cancelled


def test_an_answer_that_waits_for_the_main_thread_can_still_be_replaced(held):
    main, go = held
    answers = []
    go.set()
    main.settle()
    main.jobs.submit("key", lambda _: "old", answers.append)
    deadline = time.monotonic() + 10
    while main.calls.empty() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert main.jobs.keys == {"key"}
    main.jobs.submit("key", lambda _: "new", answers.append)
    main.settle()
    assert answers == ["new"] and main.jobs.keys == set()


def test_background_work_goes_on_while_a_training_runs(held):
    main, go = held
    go.set()
    main.settle()
    started, finish, answers = threading.Event(), threading.Event(), []

    def train(_):
        started.set()
        assert finish.wait(10)

    main.jobs.submit("train", train, answers.append, priority=TRAINING)
    assert started.wait(10)
    main.jobs.submit("suggest", lambda _: "found", answers.append, priority=BACKGROUND)
    main.pump(lambda: answers)
    assert answers == ["found"]
    finish.set()
    main.settle()


EXIT_IN_THE_MIDDLE = """
import threading, time
from napari_sam._napari.workers import TRAINING, Jobs

started = threading.Event()

def train(cancelled):
    started.set()
    while not cancelled():
        time.sleep(0.01)
    time.sleep(0.1)
    print("stopped in good order", flush=True)

jobs = Jobs(lambda call: None)
jobs.submit("train", train, print, priority=TRAINING)
started.wait(10)
"""


def test_a_process_that_ends_waits_for_the_step_under_way():
    done = subprocess.run(
        [sys.executable, "-c", EXIT_IN_THE_MIDDLE],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "stopped in good order\n" and not done.stderr
