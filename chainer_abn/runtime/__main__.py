"""What computes here: versions, accelerators and why one is off, threads.

    python -m chainer_abn.runtime
"""
from chainer_abn.errors import ArgumentParser, run_program
from chainer_abn.runtime import info


def main():
    ArgumentParser(prog='chainer_abn.runtime', description='Tell what computes here.').parse_args()
    for name, value in info().items():
        print(f'{name:18} {value}')


if __name__ == '__main__':
    run_program(main, 'chainer_abn.runtime')
