"""The figures of a benchmark as text: a table of rates, and a line for each ratio."""

from typing import Any

import rich.table

from fakeimg.console import Console


def print_table(figures: dict[str, Any], console: Console) -> None:
    """Prints the rates, then the ratios that show where the time goes."""
    table = rich.table.Table('images/s per device', 'median', 'min to max', 'ms a step, p50', 'p95')
    titles = {'step': 'training step alone', 'train': 'training end to end', 'eval': 'evaluation end to end'}
    for stage, title in titles.items():
        if stage in figures:
            row = figures[stage]
            spread = f'{row["minimum"]:,.1f} to {row["maximum"]:,.1f}'
            times = (f'{row[key]:,.1f}' for key in ('step_ms_p50', 'step_ms_p95'))
            table.add_row(title, f'{row["images_per_second_per_device"]:,.1f}', spread, *times)
    if table.row_count:
        console.table(table, 100)
    for line in summary(figures):
        console.say(line)


def summary(figures: dict[str, Any]) -> list[str]:
    """One line for each figure that is not a rate per device."""
    lines = []
    if 'decode' in figures:
        row = figures['decode']
        lines.append(f'pure decoding, the limit: {row["images_per_second"]:,.0f} images/s on {row["threads"]} threads')
    inputs = {
        'input': 'encoded images in memory',
        'input_first_epoch': 'first epoch, reading and all',
        'input_decoded': 'decoded images in memory',
    }
    for stage, title in inputs.items():
        if row := figures.get(stage):
            rate = f'{row["images_per_second"]:,.0f} images/s, {row["over_decode"]:.2f} of the limit'
            lines.append(f'input pipeline, {title}: {rate}')
    if row := figures.get('roofline'):
        lines.append(
            f'roofline: {row["fraction"]:.2f} of {row["bound"]:,.1f} images/s '
            f'({row["bytes_per_image"] / 1e6:,.1f} MB and {row["flop_per_image"] / 1e9:,.2f} GFLOP an image; '
            f'{row["copy_bytes_per_second"] / 1e9:,.0f} GB/s, {row["matmul_flop_per_second"] / 1e12:,.2f} TFLOP/s)'
        )
    if row := figures.get('train'):
        lines.append(
            f'training end to end: {row["over_step"]:.0%} of the step, waiting for input {row["input_wait_share"]:.1%}'
        )
    if 'scaling' in figures:
        lines.append('per device, of one device: ' + ', '.join(f'{n}: {x:.2f}' for n, x in figures['scaling'].items()))
    if row := figures.get('save'):
        lines.append(f'a checkpoint holds the loop up for {row["stall_ms"]:,.0f} ms, {row["stall_steps"]:.2f} steps')
    if 'first_step_seconds' in figures:
        lines.append(
            f'first step {figures["first_step_seconds"]:.1f} s, compilation or reading it from the cache included'
        )
    if row := figures.get('start'):
        times = f'{row["cold"]:.1f} s, the next time {row["warm"]:.1f} s ({row["ratio"]:.2f})'
        lines.append(f'from process start to first step: {times}')
    if row := figures.get('peak_memory'):
        sizes = {'host': 'host', 'device': 'first device'}
        lines.append('peak memory: ' + ', '.join(f'{t} {row[n] / 1e9:.2f} GB' for n, t in sizes.items() if row[n]))
    for gpu in figures.get('step', {}).get('gpus', []):
        lines.append(', '.join(f'{name} {value}' for name, value in gpu.items()))
    return lines
