"""Hostile files: the reader's own error, no code run, nothing written outside, less than 1 GB of memory."""
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

KINDS = 'npz', 'network', 'pth', 'mat', 'xml', 'archive', 'image', 'json'


@pytest.fixture(scope='module')
def outcomes(tmp_path_factory):
    """What came of all files, read in one process, and what is left in its folder."""
    folder = tmp_path_factory.mktemp('hostile')
    result = subprocess.run([sys.executable, ROOT / 'tests/faults/hostile.py', folder], cwd=folder,
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()], sorted(folder.iterdir())


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='measures memory as Linux does')
@pytest.mark.parametrize('kind', KINDS)
def test_a_hostile_file_is_refused_in_one_line_and_little_memory(outcomes, kind):
    found = [outcome for outcome in outcomes[0] if outcome['kind'] == kind]
    assert len(found) >= 4
    for outcome in found:
        told = outcome['told']
        assert told.startswith('InputError: ') and re.search(outcome['words'], told), outcome
        assert '\n' not in told and 'x.bin' in told or 'config.json' in told or 'a.png' in told
        assert outcome['memory'] < 10 ** 9, outcome


def test_no_code_is_run_and_nothing_is_written(outcomes):
    assert {outcome['kind'] for outcome in outcomes[0]} == {*KINDS} and len(outcomes[0]) > 100
    assert outcomes[1] == [] and not Path('/tmp/out').exists()
