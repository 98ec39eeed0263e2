"""Gathers wheels for a machine without internet: python launch/wheelhouse.py --python_version 3.12

The folder gets fakeimg, and what it needs beyond the packages in PRESENT and their own requirements, for that Python on
this platform. Install all of it with pip install --no-index --no-deps wheelhouse/*.whl; after --all, where the folder
has every requirement, with pip install --no-index --find-links wheelhouse fakeimg.
`make wheelhouse` runs this where fakeimg is installed from this clone.
"""

import argparse
import importlib.metadata
import pathlib
import subprocess
import sys

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).resolve().parents[1]
# What a machine for JAX has: these, and what they require.
PRESENT = (
    *('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy', 'pillow', 'scikit-learn', 'rich', 'safetensors'),
    *('huggingface_hub', 'matplotlib'),
)
UNUSED = {'pyarrow'}  # 55 MB: tensorflow-datasets requires it, and fakeimg never imports it
SOURCES = {'promise'}  # no wheel on PyPI; pure Python, so one that is built here serves any version


def required(names: list[str], python_version: str) -> set[str]:
    """The packages with all that they require on Linux, by the metadata of what is installed here."""
    environment = {'python_version': python_version, 'python_full_version': f'{python_version}.0'}
    found: set[tuple[str, str]] = set()
    open_items = [(canonicalize_name(name), '') for name in names]
    while open_items:
        item = name, extra = open_items.pop()
        if item in found:
            continue
        found.add(item)
        try:
            requirements = map(Requirement, importlib.metadata.requires(name) or [])
        except importlib.metadata.PackageNotFoundError:
            continue  # of other versions of Python than this one: fetched without what it may require itself
        for requirement in requirements:
            if requirement.marker is None or requirement.marker.evaluate({**environment, 'extra': extra}):
                required_name = canonicalize_name(requirement.name)
                open_items += [(required_name, extra) for extra in ('', *requirement.extras)]
    return {name for name, _ in found}


def pip(*arguments: object) -> None:
    command = [sys.executable, '-m', 'pip', '--disable-pip-version-check', *map(str, arguments)]
    if subprocess.run(command, cwd=ROOT).returncode:
        sys.exit(f'fakeimg: pip could not gather the wheels; its message is above ({" ".join(command[3:])}).')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--python_version', default='3.12', help='of the other machine, default %(default)s')
    parser.add_argument(
        '--out', type=pathlib.Path, default=ROOT / 'wheelhouse', help='folder; wheels in it are replaced'
    )
    parser.add_argument('--all', action='store_true', help='packages that are required but not used, too')
    options = parser.parse_args()
    lacking = required(['fakeimg'], options.python_version) - required(list(PRESENT), options.python_version)
    lacking -= {'fakeimg'} if options.all else {'fakeimg', *UNUSED}
    out = options.out.absolute()
    for wheel in out.glob('*.whl'):
        wheel.unlink()  # of an earlier run: pip would install both versions
    wheels = ('--quiet', '--no-deps', '--constraint', ROOT / 'constraints.txt')
    target = ('--only-binary=:all:', f'--python-version={options.python_version}', '--dest', out)
    pip('download', *wheels, *target, *sorted(lacking - SOURCES))
    pip('wheel', *wheels, '--wheel-dir', out, *sorted(lacking & SOURCES))
    pip('wheel', '--quiet', '--no-deps', '--no-build-isolation', '--wheel-dir', out, ROOT)
    sizes = {path.name: path.stat().st_size / 1e6 for path in sorted(out.iterdir())}
    for name, size in sizes.items():
        print(f'{size:6.2f} MB  {name}')
    print(f'{sum(sizes.values()):6.2f} MB in {out}')


if __name__ == '__main__':
    main()
