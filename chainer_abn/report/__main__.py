"""Write the report of a run anew.

    python -m chainer_abn.report result/RUN
"""
from chainer_abn.datasets import open_dataset
from chainer_abn.datasets.images import add_limit, set_limit
from chainer_abn.errors import ArgumentParser, InputError, one_line, run_program
from chainer_abn.report import write_report
from chainer_abn.report.found import open_run

PROGRAM = 'chainer_abn.report'


def main():
    parser = ArgumentParser(prog=PROGRAM, description='Write the report of a run, report.html, anew.')
    parser.add_argument('run', help='folder of the run, whether or not it is finished')
    add_limit(parser)
    options = parser.parse_args()
    set_limit(options.max_pixels)
    run, config = open_run(options.run)
    dataset, without = None, None
    try:
        dataset = open_again(config['arguments'])
    except InputError as error:
        without = one_line(error)
        print(f'without images: {without}')
    try:
        write_report(run, dataset, without)
    except OSError as error:
        raise InputError(f'{run.report}: {error.strerror}') from None
    print(f'written: {one_line(run.report)}')


def open_again(arguments):
    """The data set that a run was started with."""
    more = {name: arguments[name] for name in ('task', 'boxes') if arguments.get(name) is not None}
    return open_dataset(arguments['dataset'], arguments['data_dir'], arguments['kfold'] == 0,
                        arguments['n_images'], arguments['seed'], **more)


if __name__ == '__main__':
    run_program(main, PROGRAM)
