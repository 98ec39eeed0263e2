"""The command line: `fakeimg VERB FLAGS`, the same as `python -m fakeimg.VERB FLAGS`. One file a verb."""

import difflib
import importlib
import os
import sys
from typing import NoReturn

import fakeimg
from fakeimg.streams import guard_standard_streams

VERBS = {
    'train': 'train a detector; the same command continues a run that stopped',
    'evaluate': 'score a split with a checkpoint and write metrics and a report',
    'predict': 'score images, folders, archives and lists; one row for each',
    'compare': 'compare runs, seeds and other detectors on the same images, with paired tests',
    'audit': 'find what is wrong with a data set before training on it',
    'prepare': 'convert images of any known layout to a prepared set of ArrayRecord shards',
    'probe': 'fit simple classifiers on the features of a frozen network',
    'search': "train a recipe's candidates and rank them by validation",
    'benchmark': 'measure throughput per device against the limits of the machine',
    'push': 'publish a detector on the Hugging Face Hub, or write the folder that would be published',
    'convert': 'convert published ImageNet weights to the file that training starts from',
}


def main(verb: str | None = None) -> NoReturn:
    """Runs one verb and exits.

    Args:
        verb: its name; None takes it from the first argument, as the `fakeimg` command does.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: a file of ours would get its number, and all that libraries print there
            os.open(os.devnull, os.O_RDWR)
    guard_standard_streams()
    arguments = sys.argv[1:]
    if verb is None:
        verb, *arguments = arguments or ['--help']
    if verb in ('-h', '--help', 'help'):
        print(_help())
        sys.exit(0)
    if verb == '--version':
        print(f'fakeimg {fakeimg.__version__}')
        sys.exit(0)
    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, 1)
        advice = f'did you mean {close[0]}?' if close else f'it must be one of {", ".join(VERBS)}.'
        print(f'fakeimg: there is no verb {verb!r}; {advice}', file=sys.stderr)
        sys.exit(2)
    # Only what was asked for is imported: flags are global, and jax takes a second.
    try:
        from fakeimg.cli import verb as runner

        module = importlib.import_module(f'fakeimg.cli.{verb}')
    except KeyboardInterrupt:
        print('fakeimg: interrupted.', file=sys.stderr)
        sys.exit(130)
    runner.run(module, arguments)


def shim(module: str, verb: str | None = None) -> None:
    """Runs a verb if `module` is what was started; the workers that `pool` spawns import it under another name."""
    if module == '__main__':
        main(verb)


def _help() -> str:
    width = max(map(len, VERBS))
    lines = [f'  {name:{width}}  {summary}' for name, summary in VERBS.items()]
    return '\n'.join(
        [
            'Trains, evaluates and applies detectors of generated and forged face images.',
            '',
            'usage: fakeimg VERB [FLAGS]        fakeimg VERB --help lists the flags of a verb',
            '',
            *lines,
            '',
            f'fakeimg {fakeimg.__version__}; python -m fakeimg.VERB is the same command.',
        ]
    )
