"""`python -m fakeimg.prepare` is `fakeimg prepare`."""

from fakeimg.cli import main

if __name__ == '__main__':
    main('prepare')
