"""`python -m fakeimg.convert_weights` is `fakeimg convert`."""

from fakeimg.cli import main

if __name__ == '__main__':
    main('convert')
