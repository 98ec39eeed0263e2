"""`python -m fakeimg VERB` is `fakeimg VERB`."""

from fakeimg.cli import main

if __name__ == '__main__':
    main()
