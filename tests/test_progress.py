import io
import re

from chainer_abn import progress


class Terminal(io.StringIO):
    """What a terminal of endless width shows of what is written to it."""

    def isatty(self):
        return True

    def screen(self):
        lines, row, column = [''], 0, 0
        for number, command, text in re.findall('\033\\[(\\d*)([AJK])|(\r|\n|[^\033\r\n]+)', self.getvalue()):
            if command == 'A':
                row -= int(number)
                assert row >= 0
            elif command:
                lines[row] = lines[row][:column]
                if command == 'J':
                    del lines[row + 1:]
            elif text == '\r':
                column = 0
            elif text == '\n':
                row, column = row + 1, 0
                lines += [''] * (row + 1 - len(lines))
            else:
                lines[row] = lines[row][:column] + text + lines[row][column + len(text):]
                column += len(text)
        return lines


def test_progress_tells_share_speed_and_time_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    stream = io.StringIO()
    with progress.Progress('reading', 200, 'images', stream=stream) as line:
        line.update(0)
        now[0] = 20
        line.update(50)
    assert stream.getvalue() == 'reading [######                  ]  25%  2.5 images/s  1:00 left\n'
    assert progress.clock(3725) == '1:02:05'


def test_a_line_is_redrawn_in_place(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    stream = Terminal()
    with progress.Progress('reading', 100, 'images', stream=stream) as line:
        for now[0] in 1, 2:
            line.update(50 * now[0], ' !' * (now[0] == 1))
            line.update(0)                                  # too soon to be drawn
        assert stream.screen() == [f'reading [{"#" * 24}] 100%  25 images/s  0:00 left']
    assert stream.screen() == ['']


def test_progress_is_drawn_elsewhere_where_that_is_told(monkeypatch):
    class Here:
        interval, texts = 0, []
        draw, clear = texts.append, staticmethod(lambda: None)

    monkeypatch.setattr(progress, '_line', None)
    progress.draw_on(Here)
    with progress.Progress('reading', 4, 'images') as line:
        line.update(0)
        line.update(1)
    assert [text[:36] for text in Here.texts] == [
        'reading [                        ]  ', 'reading [######                  ]  ']


def test_rows_stay_below_what_is_printed():
    stream = Terminal()
    rows = progress.Rows(stream)
    rows.draw('a', 'fold 1: long')
    rows.draw('b', 'fold 2')
    rows.draw('a', 'fold 1')
    assert stream.screen() == ['fold 1', 'fold 2']
    rows.print('epoch 1', stream)
    rows.draw('c', 'fold 3')
    assert stream.screen() == ['epoch 1', 'fold 1', 'fold 2', 'fold 3']
    rows.drop('b')
    rows.drop('never drawn')
    rows.print('epoch 2', stream)
    assert stream.screen() == ['epoch 1', 'epoch 2', 'fold 1', 'fold 3']
    rows.leave()
    rows.print('stopped', stream)
    assert stream.screen() == ['epoch 1', 'epoch 2', 'fold 1', 'fold 3', 'stopped', '']
    rows.draw('d', 'fold 4')
    rows.drop('d')
    assert stream.screen() == ['epoch 1', 'epoch 2', 'fold 1', 'fold 3', 'stopped', '']


def test_what_the_terminal_would_break_is_cut():
    stream = Terminal()                                     # no file: 80 columns
    progress.Rows(stream).draw('a', 'x' * 100)
    assert stream.screen() == ['x' * 79]
    stream = Terminal()
    progress.Line(stream).draw('x' * 100)
    assert stream.screen() == ['x' * 79]


def test_something_else_can_be_printed_in_a_line_s_place():
    stream, elsewhere = Terminal(), io.StringIO()
    progress.Line(stream).draw('fold 1 at 50 %')
    for out in stream, elsewhere:
        progress.clear(out)
        print('warning', file=out)
    assert stream.screen() == ['warning', ''] and elsewhere.getvalue() == 'warning\n'


def test_rows_are_lines_where_there_is_no_terminal():
    stream = io.StringIO()
    rows = progress.Rows(stream)
    rows.draw('a', 'fold 1')
    rows.draw('b', 'fold 2')
    rows.print('epoch 1', stream)
    rows.drop('a')
    rows.draw('b', 'fold 2 again')
    rows.leave()
    assert stream.getvalue() == 'fold 1\nfold 2\nepoch 1\nfold 2 again\n'
