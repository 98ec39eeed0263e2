"""`python -m fakeimg.convert` is `fakeimg convert`."""

from fakeimg.cli import main

if __name__ == '__main__':
    main('convert')
