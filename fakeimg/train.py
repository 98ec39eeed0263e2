"""`python -m fakeimg.train` is `fakeimg train`."""

from fakeimg.cli import main

if __name__ == '__main__':
    main('train')
