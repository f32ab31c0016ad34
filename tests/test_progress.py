import io

from chainer_abn import progress


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
