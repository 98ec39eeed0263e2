"""`python -m fakeimg.audit` is `fakeimg audit`."""

from fakeimg.cli import main

if __name__ == '__main__':
    main('audit')
