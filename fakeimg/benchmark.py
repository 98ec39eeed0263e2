"""`python -m fakeimg.benchmark` is `fakeimg benchmark`."""

from fakeimg.cli import main

if __name__ == '__main__':
    main('benchmark')
