"""matplotlib's SVG as an element of a page: with a text alternative, ids of its own, and nothing idle."""

import html
import re

# The colour and size of text, which elements need not name.
INK, FONT_SIZE = '#1a202c', 11


def inline(text: str, name: str, title: str, description: str) -> str:
    """Returns an `svg` element whose ids begin with `name`, with `title` and `description` as its text alternative."""
    view = re.search(r'viewBox="([^"]+)"', text)
    assert view is not None
    body = text[text.index('>', view.end()) + 1 :].removesuffix('</svg>\n')
    body = re.sub(r'<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->', '', body, flags=re.DOTALL)
    body = body.replace('xlink:href', 'href')
    body = re.sub(r"font-family: (?:'[^']*'|[^;\"'])*; ?", '', body)
    body = re.sub(r"font: ([\d.]+px) (?:'[^']*'|[^;\"'])*;?", r'font-size: \1;', body)
    body = re.sub(r' transform="rotate\(-?0 [^"]*\)"', '', body)
    body = re.sub(r'<[^>]+>', _rounded, body)
    used = set(re.findall(r'(?:href="|url\()#([\w.-]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda id: f' id="{name}-{id.group(1)}"' if id.group(1) in used else '', body)
    body = re.sub(r'(href="|url\()#', rf'\g<1>#{name}-', body)
    body = re.sub(r'\s*\n\s*', ' ', body).replace('> <', '><').replace(' <', '<')
    body = re.sub(r'<g\b[^>]*/>|<defs></defs>', '', body)
    body = body.replace(f'font-size: {FONT_SIZE}px; ', '')
    for idle, short in ((f'; fill: {INK}', ''), ('; stroke-linecap: square', ''), (': ', ':'), ('; ', ';')):
        body = body.replace(idle, short)
    return (
        f'<svg viewBox="{view.group(1)}" role="img" aria-labelledby="{name}-t {name}-d" font-family="system-ui, '
        f'sans-serif" style="fill:{INK};font-size:{FONT_SIZE}px" stroke-linejoin="round">'
        f'<title id="{name}-t">{html.escape(title)}</title><desc id="{name}-d">{html.escape(description)}</desc>'
        f'{_without_plain_groups(body).strip()}</svg>'
    )


def _rounded(tag: re.Match[str]) -> str:
    """A tag with coordinates to a tenth of a point; texts between tags keep their digits."""
    return re.sub(r'-?\d+\.\d{2,}', lambda number: f'{float(number.group()):.1f}', tag.group())


def _without_plain_groups(body: str) -> str:
    """SVG without the groups that say nothing, of which matplotlib writes many."""
    kept, is_plain = [], []
    for part in re.split(r'(<g\b[^>]*>|</g>)', body):
        if part.startswith('<g'):
            is_plain.append(part == '<g>')
            kept.append('' if is_plain[-1] else part)
        else:
            kept.append('' if part == '</g>' and is_plain.pop() else part)
    return ''.join(kept)
