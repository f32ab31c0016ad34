"""The inputs that fuzzing starts from and those that it found, and some mutations of them."""
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from targets import TARGETS

CORPUS = Path(__file__).parent / 'corpus'
FILES = {reader: sorted((CORPUS / reader).iterdir()) for reader in TARGETS}


@pytest.mark.parametrize('path', sum(FILES.values(), []), ids=lambda path: f'{path.parent.name}-{path.name}')
def test_an_input_is_read_or_refused(path, tmp_path):
    TARGETS[path.parent.name](path.read_bytes(), tmp_path)


@st.composite
def mutated(draw, reader):
    """An input with some of its bytes replaced, by none or more."""
    data = draw(st.sampled_from(FILES[reader])).read_bytes()
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        data = data[:start] + draw(st.binary(max_size=4)) + data[start + draw(st.integers(0, 4)):]
    return data


@pytest.mark.parametrize('reader', TARGETS)
def test_a_mutated_input_is_read_or_refused(reader, tmp_path_factory):
    @settings(max_examples=25, derandomize=True, deadline=None, database=None,
              suppress_health_check=list(HealthCheck))
    @given(mutated(reader))
    def run(data):
        TARGETS[reader](data, tmp_path_factory.mktemp('input'))
    run()
