"""The figures of gpu.py on disk, and as rows of docs/performance.md."""

import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

# Precision and batch size of the rows of the part steps, most important first: time may not be enough for all. Those of
# COMPILED_BATCH also have torch.compile's rates, for which PyTorch compiles for a minute.
STEPS = (
    ('bfloat16', 256),
    ('float16', 256),
    ('bfloat16', 512),
    ('bfloat16', 64),
    ('bfloat16', 128),
    ('float16', 512),
    ('float16', 128),
    ('float16', 64),
)
COMPILED_BATCH = 256
VERSIONS = ('jax', 'flax')
Figures = dict[str, Any]


def write(path: pathlib.Path, figures: Figures) -> None:
    """Writes JSON whole or not at all."""
    partial = path.with_suffix('.partial')
    partial.write_text(json.dumps(figures, indent=2) + '\n')
    os.replace(partial, path)


def read(folder: pathlib.Path, parts: Iterable[str]) -> dict[str, Figures]:
    """The figures of the parts that `folder` has; of the steps also the rate at best, from plans that lie there."""
    paths = {part: folder / f'{part}.json' for part in parts}
    found = {part: json.loads(path.read_text()) for part, path in paths.items() if path.is_file()}
    for path in folder.glob('plan*.json'):
        plan = json.loads(path.read_text())
        for row in found.get('steps', {}).get('rows', []):
            if all(row[name] == plan[name] for name in ('precision', 'batch_size')):
                row['at_best'] = {kind: plan[kind]['images_per_second_at_best'] for kind in ('train', 'eval')}
    return found


def markdown(parts: dict[str, Figures]) -> str:
    """All rows; what was not measured has empty cells."""
    lines = [*head(parts), '', *step_rows(parts.get('steps', {})), '', '| what | measured |', '|---|---|']
    lines += training_rows(parts.get('train', {})) + small_rows(parts.get('small', {}))
    lines += parity_rows(parts.get('parity', {})) + state_rows(parts.get('state', {}))
    errors = [f'{part}: {figures["error"]}' for part, figures in parts.items() if figures.get('error')]
    return '\n'.join([*lines, *(['', *errors] if errors else [])])


def head(parts: dict[str, Figures]) -> list[str]:
    """The machine, the versions, and what it reaches."""
    device = parts.get('device', {})
    environment = device.get('environment', {})
    names = [*environment.get('devices', ['unknown device'])[:1]]
    names += [f'{cores} CPU cores' for cores in [environment.get('cpu_cores')] if cores]
    names += [f'Python {version}' for version in [environment.get('python')] if version]
    names += [
        f'{name} {environment["versions"][name]}' for name in VERSIONS if environment.get('versions', {}).get(name)
    ]
    torch = next(
        (row['torch'] for row in parts.get('steps', {}).get('rows', []) if 'torch' in row.get('torch', {})), {}
    )
    if torch:
        names.append(f'PyTorch {torch["torch"]} with the network of {torch["graph"]}')
    lines = [f'Machine: {", ".join(names)}.']
    for precision, row in device.get('ceilings', {}).items():
        copy, product = row['copy_bytes_per_second'] / 1e9, row['matmul_flop_per_second'] / 1e12
        lines.append(f'{precision}: a copy reaches {copy:,.0f} GB/s, a matrix product {product:,.1f} TFLOP/s.')
    return lines


def step_rows(steps: Figures) -> list[str]:
    """Training and evaluation of ResNet50, each batch size and precision, beside PyTorch."""
    lines = [
        '| what | fakeimg, images/s | PyTorch, eager | PyTorch, `torch.compile` | of the serial bound '
        '| computed, at best |',
        '|---|---|---|---|---|---|',
    ]
    found = {(row['precision'], row['batch_size']): row for row in steps.get('rows', [])}
    for precision, batch in sorted(found.keys() | set(STEPS)):
        row = found.get((precision, batch), {})
        network = network_of(row)
        for kind, title in (('train', 'training'), ('eval', 'evaluation')):
            rates = row.get(kind, {})
            cells = [f'{network} {title} step, {precision}, batch {batch}', count(rates.get('fakeimg'))]
            for mode in ('eager', 'compiled'):
                ratio = rates.get(f'over_{mode}')
                cells.append(f'{count(rates.get(mode))} (ratio {ratio:.2f})' if ratio else '')
            cells += [
                share(row.get('serial_fraction')) if kind == 'train' else '',
                count(row.get('at_best', {}).get(kind)),
            ]
            lines.append(table_row(*cells))
    return lines


def network_of(row: Figures) -> str:
    """The network of a row; a dry run has a smaller one."""
    name = row.get('model', 'resnet50')
    return {'resnet50': 'ResNet50'}.get(name, name)


def training_rows(train: Figures) -> list[str]:
    network, lines = network_of(train), []
    for name, title in (('prepared', 'from a prepared set'), ('memory', 'from decoded images in memory')):
        row = train.get(name)
        cell = f'{rate(row)} images/s, {row["over_step"]:.3f} of the step alone; waiting for input ' \
               f'{row["input_wait_share"]:.2%}' if row else ''  # fmt: skip
        lines.append(table_row(f'{network} training end to end, {title}', cell))
    row = train.get('save')
    cell = f'{row["stall_ms"] / 1000:.2f} s, {row["stall_steps"]:.1f} steps' if row else ''
    lines.append(table_row(f'a checkpoint of {network} stops the loop for', cell))
    row = train.get('start')
    cell = f'{row["ratio"]:.2f} ({row["warm"]:.1f} and {row["cold"]:.1f} s)' if row else ''
    return [*lines, table_row('start to the end of the first step, second start ÷ first', cell)]


def small_rows(small: Figures) -> list[str]:
    lines = []
    for row in small.get('rows') or [{}]:
        title, cell = 'small CNN, 32 px', ''
        if row:
            title += f', {row["precision"]}, batch {row["batch_size"]}, {row["steps_per_call"]} steps a call, '
            title += f'images in the memory of the {row["data.cache"]}'
            cell = (
                f'{rate(row["train"])} images/s end to end, waiting for input {row["train"]["input_wait_share"]:.1%}; '
            )
            cell += f'step alone {rate(row["step"])}'
        lines.append(table_row(title, cell))
    return lines


def parity_rows(parity: Figures) -> list[str]:
    lines = []
    for network, rows in (parity.get('networks') or {'': {}}).items():
        for name, row in (rows or {'': {}}).items():
            cell = f'gradient {row["gradient"]:.1e}, cosine {row["gradient_cosine"]:.6f}, loss {row["loss"]:.1e}, ' \
                   f'logits {row["logits"]:.1e}' if row else ''  # fmt: skip
            title = f'{network}, {name} against {row["reference"]}' if row else 'one step against its reference'
            lines.append(table_row(title, cell))
    return lines


def state_rows(state: Figures) -> list[str]:
    lines = []
    for part, row in state.get('parts', {}).items():
        cells = [f'most GPU memory {row["memory.used"] / 1000:,.1f} GB']
        if row['busy']:
            cells.append(f'{row["power.draw"]:,.0f} W, {row["clocks.sm"]:,.0f} MHz, {row["temperature.gpu"]:.0f} °C')
        lines.append(table_row(f'nvidia-smi, part {part}', ', '.join(cells)))
    return lines


def table_row(*cells: str) -> str:
    return f'| {" | ".join(cells)} |'


def rate(row: Figures) -> str:
    return count(row['images_per_second_per_device'])


def count(value: float | None) -> str:
    return f'{value:,.0f}' if value else ''


def share(value: float | None) -> str:
    return f'{value:.2f}' if value else ''
