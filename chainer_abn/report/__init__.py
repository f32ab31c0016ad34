"""The report of a run: ``report.html``, one page that carries its pictures and needs nothing else.

It is written from what the run has left in its folder and from the images of its data set, at any time, also
while the run is going on. It changes nothing of the run: no random number is drawn from a global state, and
networks are read from their files and looked through on the CPU.
"""
import sys

from chainer_abn.errors import InputError, one_line
from chainer_abn.files import replacing
from chainer_abn.report.found import open_run
from chainer_abn.report.page import page_of


def write_report(run, dataset, without=None):
    """Write ``report.html``, whole or not at all.

    Args:
        run (RunFolder)
        dataset: of the run; None: there will be no images on the page.
        without (str): why there is no data set.

    Raises:
        InputError: ``config.json`` or ``summary.json`` is damaged.
        OSError: the page cannot be written.
    """
    page = page_of(*open_run(run.root), dataset, without)
    with replacing(run.report) as file:
        file.write(page.encode())


def refresh(run, dataset, warn=None):
    """The same for a run that is going on, which nothing that fails here may stop.

    Args:
        run, dataset: as of :func:`write_report`.
        warn: function that is called with one line about what went wrong; None: it goes to stderr.
    """
    try:
        write_report(run, dataset)
    except Exception as error:
        reason = error if isinstance(error, InputError) else f'{type(error).__name__}: {error}'
        line = one_line(f'{run.report} is not written: {reason}')
        warn(line) if warn else print(line, file=sys.stderr)
