"""`python -m fakeimg.probe` is `fakeimg probe`."""

from fakeimg.cli import main

if __name__ == '__main__':
    main('probe')
