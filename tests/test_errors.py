import subprocess
import sys

import pytest
from helpers import ROOT

from chainer_abn.errors import InputError, one_line, run_program


def test_a_message_is_one_line_that_a_terminal_only_shows():
    assert one_line('a\nb\t c') == 'a b c'
    assert one_line('name \x1b]0;owned\x07\x1b[2J é') == 'name ?]0;owned??[2J é'
    assert one_line('x' * 10 ** 5 + ': too long') == 'x' * 1000 + ' ... ' + 'x' * 990 + ': too long'


def test_an_input_error_ends_with_status_2(capsys):
    def main():
        raise InputError('photo\n\x1b[1m.png: gone')
    with pytest.raises(SystemExit) as stopped:
        run_program(main, 'program')
    assert stopped.value.code == 2
    assert capsys.readouterr().err == 'program: photo ?[1m.png: gone\n'


def test_nobody_reads_the_output_on():
    program = """
from chainer_abn.errors import run_program
def main():
    for i in range(10 ** 6):
        print(i, flush=True)
run_program(main, 'program')
"""
    process = subprocess.Popen([sys.executable, '-c', program], cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == '0\n'
    process.stdout.close()
    assert process.stderr.read() == ''
    process.stderr.close()
    assert process.wait() == 141


def test_a_closed_output_is_as_good_as_none():
    program = 'from chainer_abn.errors import run_program; run_program(lambda: print("hello"), "program")'
    process = subprocess.run(['sh', '-c', '"$0" -c "$1" >&-', sys.executable, program], cwd=ROOT,
                             capture_output=True, text=True)
    assert process.returncode == 0 and process.stderr == ''
