"""The kernels of a compiled step, read from XLA's optimised HLO: bytes, operations, and the line they come from."""

import collections
import dataclasses
import math
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

# Not run on the device, or views of what others wrote.
_FREE = {'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'after-all', 'partition-id', 'replica-id'}
_SLICES = {'slice', 'dynamic-slice', 'gather'}
_WORKSPACE = re.compile(r', [us]8\[\d+\]\{0\}\)$')  # scratch memory, the last result of a library's kernel
_ARRAY = re.compile(r'\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]')
_INSTRUCTION = re.compile(r'^\s+(?:ROOT )?(%[\w.\-]+) = (.*?) ([\w\-]+)\((.*)$')

KINDS = ('convolutions', 'products', 'normalisation', 'pooling', 'augmentation', 'optimizer', 'copies', 'all-reduce',
         'other')  # fmt: skip
# Where in the source a kernel comes from, the first that fits: a part of `FILE:LINE FUNCTION` of one of its frames.
_SOURCES = {
    'pooling': ('max_pool', '_largest_of_four'),
    'normalisation': ('linen/normalization.py', 'BatchNorm', 'batch_norm'),
    'augmentation': ('fakeimg/augment/', ' _prepare'),
    'optimizer': ('optax/transforms', 'optax/_src', 'optax/tree_utils', 'optax/schedules', ' _update'),
}


class Kernel(NamedTuple):
    """One kernel of a step, with all its runs.

    `name` is the instruction's, or the library function's; `shape` that of its result. `traffic` is bytes, every
    operand read and every result written once; `flops` are those of products and convolutions. `source` is the line
    of ours that asked for it, or the operation's name.
    """

    name: str
    kind: str
    shape: str
    traffic: float
    flops: float
    runs: int
    source: str

    def seconds(self, bandwidth: float, peak: float) -> float:
        """The time of all runs if memory or arithmetic ran at the best, whichever takes longer."""
        return max(self.traffic / bandwidth, self.flops / peak)


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    result: str
    op: str
    rest: str


def read_kernels(hlo: str) -> list[Kernel]:
    """Returns the kernels of the entry computation, and of loops within it, as often as they run.

    Args:
        hlo: `compiled.as_text()`, whose operands have no shapes of their own.
    """
    computations, entry = _computations(hlo)
    return list(_kernels(computations, entry, _frames(hlo), 1))


def _computations(hlo: str) -> tuple[dict[str, list[_Instruction]], str]:
    computations: dict[str, list[_Instruction]] = {}
    entry = current = ''
    for line in hlo.splitlines():
        if head := re.match(r'^(ENTRY )?(%[\w.\-]+) \(', line):
            current = head[2]
            computations[current] = []
            entry = current if head[1] else entry
        elif current and (found := _INSTRUCTION.match(line)):
            computations[current].append(_Instruction(*found.groups()))
    return computations, entry


def _kernels(
    computations: dict[str, list[_Instruction]], name: str, frames: dict[int, list[str]], runs: int
) -> Iterator[Kernel]:
    results = {instruction.name: instruction.result for instruction in computations[name]}
    for instruction in computations[name]:
        if instruction.op in _FREE or instruction.op.endswith('-done'):
            continue
        if instruction.op in ('while', 'call', 'conditional'):
            trips = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', instruction.rest)
            for called in re.findall(r'(?:body|to_apply|branch_computations=\{)=?(%[\w.\-]+)', instruction.rest):
                yield from _kernels(computations, called, frames, runs * int(trips[1] if trips else 1))
            continue
        operands = [results[operand] for operand in _operands(instruction) if operand in results]
        result = _WORKSPACE.sub(')', instruction.result)
        source = _source(instruction.rest, frames)
        called = re.search(r'calls=(%[\w.\-]+)', instruction.rest)
        body = computations[called[1]] if called else [instruction]
        read = _slices(body, len(operands)) if called or instruction.op in _SLICES else {}
        traffic = _bytes(result) + sum(read.get(place, _bytes(operand)) for place, operand in enumerate(operands))
        target = re.search(r'custom_call_target="([^"]+)"', instruction.rest)
        flops = _flops(instruction, result, operands)
        yield Kernel(
            name=target[1] if target else instruction.name.lstrip('%'),
            kind=_kind(instruction, source, frames),
            shape=' '.join(f'{kind}[{sizes}]' for kind, sizes in _ARRAY.findall(result)),
            traffic=traffic * runs,
            flops=flops * runs,
            runs=runs,
            source=source,
        )


def _operands(instruction: _Instruction) -> list[str]:
    """The names between the brackets of an instruction."""
    depth = 1
    for place, letter in enumerate(instruction.rest):
        depth += (letter == '(') - (letter == ')')
        if not depth:
            return re.findall(r'%[\w.\-]+', instruction.rest[:place])
    return []


def _slices(body: list[_Instruction], count: int) -> dict[int, int]:
    """The bytes that are read of those operands of which a kernel takes slices alone, by place."""
    if len(body) == 1 and body[0].op in _SLICES:
        return {0: _bytes(body[0].result)}
    places = {item.name: int(item.rest.split(')')[0]) for item in body if item.op == 'parameter'}
    read: dict[int, int] = dict.fromkeys(range(count), 0)
    for item in body:
        for number, name in enumerate(_operands(item)):
            place = places.get(name)
            if place is not None and item.op in _SLICES and number == 0:
                read[place] = read.get(place, 0) + _bytes(item.result)
            elif place is not None:
                read[place] = -1 << 62
    return {place: size for place, size in read.items() if size > 0}


def _sizes(sizes: str) -> list[int]:
    return [int(size) for size in sizes.split(',') if size]


def _bytes(shape: str) -> int:
    total = 0
    for kind, sizes in _ARRAY.findall(shape):
        bits = 8 if kind == 'pred' else int(re.findall(r'\d+', kind)[0])
        total += math.prod(_sizes(sizes)) * bits // 8
    return total


def _flops(instruction: _Instruction, result: str, operands: list[str]) -> float:
    """Of a convolution or product of a library: two for each multiplication, padding counted."""
    shapes = [_sizes(sizes) for _, sizes in _ARRAY.findall(result)[:1]]
    shapes += [_sizes(sizes) for operand in operands for _, sizes in _ARRAY.findall(operand)[:1]]
    if labels := re.search(r'dim_labels=\w+_\w+->(\w+)', instruction.rest):
        # Result, input and kernel forward; backward the place of each says which one is computed.
        output, kernel = shapes[0], shapes[2] if len(shapes) > 2 else []
        if 'BackwardInput' in instruction.rest:
            output, kernel = shapes[1], shapes[2]
        elif 'BackwardFilter' in instruction.rest:
            output, kernel = shapes[2], shapes[0]
        return 2.0 * math.prod(output) / output[labels[1].index('f')] * math.prod(kernel)
    contracted = re.search(r'"lhs_contracting_dimensions":\["([\d",]*)"\]', instruction.rest)
    contracted = contracted or re.search(r'lhs_contracting_dims=\{([\d,]*)\}', instruction.rest)
    if contracted and len(shapes) > 1:
        return (
            2.0 * math.prod(shapes[0]) * math.prod(shapes[1][place] for place in _sizes(contracted[1].replace('"', '')))
        )
    return 0.0


def _kind(instruction: _Instruction, source: str, frames: dict[int, list[str]]) -> str:
    if 'dim_labels=' in instruction.rest:
        return 'convolutions'
    if '__cublas' in instruction.rest or instruction.op == 'dot':
        return 'products'
    if instruction.op.startswith(('all-reduce', 'all-gather', 'reduce-scatter')):
        return 'all-reduce'
    lines = [source, *frames.get(_frame(instruction.rest), [])]
    for kind, parts in _SOURCES.items():
        if any(part in line for line in lines for part in parts):
            return kind
    return 'copies' if instruction.op in ('copy', 'copy-start', 'transpose') else 'other'


def _frame(rest: str) -> int:
    found = re.search(r'stack_frame_id=(\d+)', rest)
    return int(found[1]) if found else 0


def _source(rest: str, frames: dict[int, list[str]]) -> str:
    """The innermost line of fakeimg, or the end of the operation's name."""
    ours = [line for line in frames.get(_frame(rest), []) if line.startswith('fakeimg/')]
    name = re.search(r'op_name="([^"]*)"', rest)
    where = '/'.join(name[1].split('/')[-3:]) if name else ''
    return f'{ours[0]} {where}'.strip() if ours else where


def _frames(hlo: str) -> dict[int, list[str]]:
    """The lines that lead to each stack frame, innermost first, as `FILE:LINE FUNCTION`."""
    names = {
        table: {int(key): value for key, value in re.findall(r'^(\d+) "(.*)"$', _table(hlo, table), re.MULTILINE)}
        for table in ('FileNames', 'FunctionNames')
    }
    locations = re.findall(
        r'^(\d+) \{file_name_id=(\d+) function_name_id=(\d+) line=(\d+)', _table(hlo, 'FileLocations'), re.MULTILINE
    )
    lines = {}
    for key, file, function, line in locations:
        parts = pathlib.PurePath(names['FileNames'].get(int(file), '')).parts
        start = next(
            (place for place in reversed(range(len(parts))) if parts[place] in ('fakeimg', 'site-packages')), 0
        )
        start += parts[start : start + 1] == ('site-packages',)
        lines[int(key)] = f'{"/".join(parts[start:])}:{line} {names["FunctionNames"].get(int(function), "")}'
    found = re.findall(
        r'^(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?', _table(hlo, 'StackFrames'), re.MULTILINE
    )
    parents = {int(key): int(parent or 0) for key, _, parent in found}
    location = {int(key): lines.get(int(place), '') for key, place, _ in found}
    frames: dict[int, list[str]] = collections.defaultdict(list)
    for key in parents:
        frame = key
        while frame in location:
            frames[key].append(location[frame])
            # Numbers of parents are one too high, so that 0 can mean none.
            frame = parents[frame] - 1
    return dict(frames)


def _table(hlo: str, name: str) -> str:
    found = re.search(rf'^{name}\n(.*?)\n\n', hlo, re.MULTILINE | re.DOTALL)
    return found[1] if found else ''
