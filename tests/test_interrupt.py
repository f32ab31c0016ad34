import os
import signal

import pytest

from chainer_abn import interrupt


@pytest.fixture
def handlers():
    before = {s: signal.getsignal(s) for s in interrupt.EXCEPTIONS}
    interrupt.install()
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize('signum', interrupt.EXCEPTIONS)
def test_a_signal_is_raised_at_once_or_where_it_is_checked(handlers, signum, capfd):
    with pytest.raises(interrupt.EXCEPTIONS[signum]):
        os.kill(os.getpid(), signum)
    with pytest.raises(interrupt.EXCEPTIONS[signum]), interrupt.deferred():
        interrupt.check()
        os.kill(os.getpid(), signum)
        reached = True
        interrupt.check()
    assert reached and 'once more to stop at once' in capfd.readouterr().err
    interrupt.check()                                       # nothing is left pending


def test_a_signal_after_the_last_check_is_not_lost(handlers):
    with pytest.raises(interrupt.Terminated), interrupt.deferred():
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_second_signal_ends_the_process(python):
    result = python('-c', """
import os, signal
from chainer_abn import interrupt
interrupt.install()
with interrupt.deferred():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    print('not reached')
""")
    assert result.returncode == 143 and result.stdout == ''


def test_a_forked_worker_leaves_the_signal_to_its_parent(handlers):
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
