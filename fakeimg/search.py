"""`python -m fakeimg.search` is `fakeimg search`."""

from fakeimg.cli import main

if __name__ == '__main__':
    main('search')
