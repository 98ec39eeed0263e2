"""`python -m fakeimg.evaluate` is `fakeimg evaluate`."""

from fakeimg.cli import main

if __name__ == '__main__':
    main('evaluate')
