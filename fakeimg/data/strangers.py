"""What often lies where an image or an archive should: told by its first bytes."""

_STRANGERS = {
    b'version https://git-lfs': 'a Git LFS pointer in place of the file: run git lfs pull',
    b'<!doctype html': 'a web page, not what was to be downloaded',
    b'<html': 'a web page, not what was to be downloaded',
    b'%pdf': 'a PDF',
}


def describe_stranger(start: bytes) -> str:
    """Says what the first bytes of a file are that was taken for an image or an archive; '' if that is not known."""
    text = start.lstrip(b'\xef\xbb\xbf \r\n\t').lower()
    return next((what for beginning, what in _STRANGERS.items() if text.startswith(beginning)), '')
