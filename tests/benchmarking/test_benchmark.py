"""The benchmark: every stage has a figure, limits are limits, and what would flatter is refused."""

import json
import pathlib

import numpy as np
import PIL.Image
import pytest

from fakeimg.benchmarking import inputs, machine, roofline, stages, steps, timing
from fakeimg.config import Config
from fakeimg.data import datasets
from fakeimg.errors import UserError
from fakeimg.training.program import build
from tests.support.verbs import Verb, flags_of


def test_rates_are_those_of_the_work_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only the work moves: 25 steps of 20 ms, of which the first window has one of 200 ms."""
    now, durations = 0.0, iter([0.02] * 4 + [0.2] + [0.02] * 21)

    def work() -> None:
        nonlocal now
        now += next(durations)

    monkeypatch.setattr(timing.time, 'perf_counter', lambda: now)
    rate = timing.measure(work, images=10, seconds=0.5)
    assert rate['steps_per_window'] == 5
    assert rate['images_per_second_per_device'] == rate['maximum'] == pytest.approx(500)  # 10 images in 20 ms
    assert rate['minimum'] == pytest.approx(50 / 0.28)
    assert rate['step_ms_p50'] == pytest.approx(20)
    assert rate['step_ms_p95'] == pytest.approx(20)
    assert timing.percentile([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 100], 0.95) == 100


def test_rates_are_taken_in_turn() -> None:
    calls: list[str] = []
    slower = iter([1.0, 1, 0.5, 0.5, 0.5])  # the machine, from the third round on

    def first() -> float:
        calls.append('first')
        return 90 * next(slower)

    def second() -> float:
        calls.append('second')
        return 100.0 if len(calls) < 5 else 50.0

    found = timing.in_turn(first, second)
    assert calls == ['first', 'second'] * 5
    assert found['ratio'] == pytest.approx(0.9)
    assert found['ratio_minimum'] == found['ratio_maximum'] == pytest.approx(0.9)


def test_sample_leaves_broken_images_out_and_refuses_black_ones(config: Config) -> None:
    train = datasets.open_data(config).splits['train']
    root = pathlib.Path(config.data.path)
    (root / train.names[4]).write_bytes(b'not an image')
    chosen, encoded = inputs.sample(train, 0)
    assert len(chosen) == len(encoded) == len(train) - 1
    assert train.names[4] not in chosen.names
    assert encoded == [chosen[index] for index in range(len(chosen))]
    for name in train.names:
        PIL.Image.new('RGB', (32, 32)).save(root / name, 'JPEG')
    with pytest.raises(UserError, match='is black; rates of empty images would mean nothing'):
        inputs.sample(train, 0)


def test_pipeline_and_limit_decode_the_same_images(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as they say, every time; from memory, none."""
    config.batch_size = 8
    monkeypatch.setattr(inputs, 'LEAST', 1)  # one epoch
    chosen, encoded = inputs.sample(datasets.open_data(config).splits['train'], 0)
    decoded: list[bytes] = []
    real = inputs.simplejpeg.decode_jpeg
    monkeypatch.setattr(
        inputs.simplejpeg, 'decode_jpeg', lambda data, *args, **kw: decoded.append(data) or real(data, *args, **kw)
    )
    assert inputs.DecodeRate(encoded, 32, 2)() > 0
    assert sorted(decoded) == sorted(encoded)
    decoded.clear()
    assert inputs.PipelineRate(chosen, config, 2)() > 0
    assert sorted(decoded) == sorted(encoded)
    from_memory = inputs.PipelineRate(inputs.decoded_in_memory(chosen, 32), config, 2)
    decoded.clear()
    assert from_memory() > 0
    assert not decoded


@pytest.mark.slow
def test_pipeline_is_close_to_its_limit(config: Config, tmp_path: pathlib.Path) -> None:
    """The guard against a gross loss, by medians of rounds in turn: others share the machine with us.

    Images decoded twice would halve every median; one of three may be low because the other worker's tests are heavy.
    """
    random = np.random.default_rng(0)
    for index in range(256):
        noise = random.normal(128, 22, (64, 64, 3)).clip(0, 255).astype(np.uint8)
        path = tmp_path / 'set/train' / ('real', 'fake')[index % 2] / f'{index}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(noise).resize((256, 256), PIL.Image.Resampling.BICUBIC).save(path, quality=85)
    config.data.path, config.batch_size = str(tmp_path / 'set'), 64
    config.data.image_size, config.data.resize_size = 224, 256
    chosen, encoded = inputs.sample(datasets.open_path(config.data.path).splits['train'], 0)
    limit = inputs.DecodeRate(encoded, 256, 2)
    alone = inputs.PipelineRate(inputs.encoded_in_memory(chosen, encoded), config, 2)
    assert any(timing.in_turn(alone, limit, 9)['ratio'] > 0.7 for _ in range(3))
    decoded = inputs.PipelineRate(inputs.decoded_in_memory(chosen, 256), config, 2)
    assert timing.in_turn(decoded, limit, 5)['ratio'] > 1


@pytest.mark.slow
def test_roofline_is_bound_by_traffic_and_arithmetic() -> None:
    class Step:
        def lower(self, *_: object) -> 'Step':
            return self

        compile = lower

        def cost_analysis(self) -> dict[str, float]:
            return {'flops': 6e9, 'bytes accessed': 4e9}

    found = roofline.fraction(Step(), (), images=8, rate=1.0, dtype=np.dtype('float32'))
    seconds = 4e9 / found['copy_bytes_per_second'] + 6e9 / found['matmul_flop_per_second']
    assert found['bound'] == pytest.approx(8 / seconds)
    assert found['fraction'] == pytest.approx(1 / found['bound'])
    assert found['copy_bytes_per_second'] > 1e8
    assert found['matmul_flop_per_second'] > 1e8


@pytest.mark.slow
@pytest.mark.parametrize('cache', ['host', 'device'])
def test_a_call_of_several_steps_counts_as_all_of_them(config: Config, cache: str) -> None:
    config.steps_per_call, config.data.cache = 2, cache
    config.augment.alternating_flip = True  # of which the made batches must have their part
    program = build(config)
    stepper = steps.Steps(program)
    assert stepper.images == 2 * config.batch_size / program.devices.count
    assert next(stepper.batches)['label'].size == 2 * config.batch_size
    before = int(stepper.state.step)
    rate = stepper.train_rate(program.splits['train'], 0.01)
    calls = 2 + timing.WINDOWS * rate['steps_per_window']  # one before the clock runs, one that sets the window
    assert int(stepper.state.step) - before == 2 * calls


@pytest.mark.slow
def test_every_stage_has_its_figures(verb: Verb, config: Config, tmp_path: pathlib.Path) -> None:
    flags = ('--config', 'configs/cnn.py', *flags_of(config))
    measured = verb('benchmark', *flags, '--seconds=0.3', '--sweep=8,16', devices=2)
    assert measured.returncode == 0, measured.stderr
    figures = json.loads((tmp_path / 'work/runs/benchmark_cnn.json').read_text())
    for stage in ('step', 'train', 'eval'):
        row = figures[stage]
        assert 0 < row['minimum'] <= row['images_per_second_per_device'] <= row['maximum']
        assert 0 < row['step_ms_p50'] <= row['step_ms_p95']
    assert set(stages.STAGES) <= figures.keys()
    assert figures['input']['over_decode'] > 0
    assert 0 <= figures['train']['input_wait_share'] < 1
    assert list(figures['scaling']) == ['1', '2'] and figures['scaling']['1'] == 1
    assert figures['start']['warm'] < figures['start']['cold']
    assert figures['save']['call_ms'] > 0
    assert figures['roofline']['fraction'] > 0
    assert figures['peak_memory']['host'] > 1e8
    assert list(figures['sweep']) == ['8', '16']
    assert 'images/s per device' in measured.stdout
    assert 'best: config.batch_size=' in measured.stdout
    assert 'of the limit' in measured.stdout


def test_one_stage_measures_no_other(verb: Verb, config: Config, tmp_path: pathlib.Path) -> None:
    flags = ('--config', 'configs/cnn.py', *flags_of(config))
    measured = verb('benchmark', *flags, '--stage', 'decode', '--json', 'figures.json')
    assert measured.returncode == 0, measured.stderr
    figures = json.loads((tmp_path / 'work/figures.json').read_text())
    assert figures.keys() == {'decode', 'config', 'environment'}
    refused = verb('benchmark', *flags, '--sweep=8,many')
    assert refused.returncode == 2
    assert '--sweep is 8,many; it must be batch sizes' in refused.stderr


def test_a_start_that_fails_says_so() -> None:
    with pytest.raises(UserError, match='the process whose start is measured failed'):
        machine.start_seconds(['--config', 'configs/none.py'])
