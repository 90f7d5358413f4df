"""What a signal means to a tool."""

from __future__ import annotations

import os
import signal

import pytest

from wsseg.cli._env import Env, Terminated


@pytest.fixture
def env():
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT
                      else signal.SIG_DFL)
    yield Env.take("ws-x")
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number, raised", [(signal.SIGINT, KeyboardInterrupt),
                                            (signal.SIGTERM, Terminated)])
def test_a_signal_that_a_callback_swallowed_is_not_forgotten(env, number, raised):
    class Swallows:
        def __del__(self):
            try:
                os.kill(os.getpid(), number)
                for _ in range(1000):
                    pass
            except BaseException:
                pass

    env.stop_if_signalled()
    thing = Swallows()
    del thing
    with pytest.raises(raised):
        env.stop_if_signalled()
