"""tools/dev/try_gpu.sh: what it runs, in which order, and what it reports. Python is replaced."""

import pytest

from tests.processes import ROOT, run

STUB = """\
#!/bin/sh
echo "$MMTAGCLIP_TEST_DEVICE $*" >> {folder}/calls
case "$*" in
    *test_cuda.py*) echo '3 passed in 1.00s' ;;
    *throughput.py*) echo '| table |' > {folder}/out/throughput.md ;;
    *benchmark.py*) echo 'dmar 0.01 target <= 0.02 met DMAR / the encoder'; echo 'a warning' ;;
    *plot_cost.py*) echo 'no memory'; exit 3 ;;
esac
"""


@pytest.fixture
def stub(tmp_path):
    path = tmp_path / 'stub'
    path.write_text(STUB.format(folder=tmp_path))
    path.chmod(0o755)
    return path


def try_gpu(stub, *options):
    out = stub.parent / 'out'
    return run('bash', ROOT / 'tools/dev/try_gpu.sh', '--out', out, *options, PYTHON=str(stub))


def test_tests_first_then_measurements(stub, tmp_path):
    process = try_gpu(stub, '--device', 'cpu', '--quick')
    calls = (tmp_path / 'calls').read_text().splitlines()
    order = ['tests/test_cuda.py', 'throughput.py', 'benchmark.py', 'plot_cost.py']
    assert len(calls) == 4
    for call, name in zip(calls, order, strict=True):
        assert call.startswith('cpu ')
        assert name in call
    assert all('--device cpu' in call for call in calls[1:])
    assert '--quick' in calls[1]
    assert '--compiled --seconds ' in calls[1]
    assert process.returncode == 1  # the last of them failed
    assert process.stderr.strip() == 'error: not finished: cost'
    assert 'no memory' in process.stdout
    summary = (tmp_path / 'out/summary.md').read_text()
    assert '| table |' in summary
    assert 'Tests: 3 passed in 1.00s' in summary
    assert 'target <= 0.02' in summary
    assert 'a warning' not in summary


def test_what_does_not_fit_into_the_time_is_left_out(stub, tmp_path):
    process = try_gpu(stub, '--seconds', 3)
    assert [call.split()[0] for call in (tmp_path / 'calls').read_text().splitlines()] == ['cuda']
    assert 'throughput: left out, no time left' in process.stdout


def test_unknown_options_are_refused(stub):
    process = try_gpu(stub, '--devise', 'cpu')
    assert process.returncode == 2
    assert process.stderr == 'error: unknown option --devise\n'
