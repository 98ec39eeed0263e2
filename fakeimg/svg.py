"""matplotlib's SVG as an element of a page: with a text alternative, ids of its own, and nothing idle."""

import html
import re

INK = '#1a202c'  # the colour of text, which elements need not name


def inline(text: str, name: str, title: str, description: str) -> str:
    """Returns an `svg` element whose ids begin with `name`, with `title` and `description` as its text alternative."""
    view = re.search(r'viewBox="([^"]+)"', text)
    assert view is not None
    body = text[text.index('>', view.end()) + 1 :].removesuffix('</svg>\n')
    body = re.sub(r'<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->', '', body, flags=re.DOTALL)
    body = body.replace('xlink:href', 'href')
    body = re.sub(r"font-family: (?:'[^']*'|[^;\"'])*;?", '', body)
    body = re.sub(r"font: ([\d.]+px) (?:'[^']*'|[^;\"'])*;?", r'font-size: \1;', body)
    body = re.sub(r' transform="rotate\(-?0 [^"]*\)"', '', body)
    body = re.sub(r'-?\d+\.\d{3,}', lambda number: f'{float(number.group()):.2f}', body)
    used = set(re.findall(r'(?:href="|url\()#([\w.-]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda id: f' id="{name}-{id.group(1)}"' if id.group(1) in used else '', body)
    body = re.sub(r'(href="|url\()#', rf'\g<1>#{name}-', body)
    body = re.sub(r'\s*\n\s*', ' ', body).replace('> <', '><').replace(' <', '<')
    body = (
        body.replace('; fill: ' + INK, '').replace('; stroke-linecap: square', '').replace(': ', ':').replace('; ', ';')
    )
    return (
        f'<svg viewBox="{view.group(1)}" role="img" aria-labelledby="{name}-t {name}-d" font-family="system-ui, '
        f'sans-serif" style="fill:{INK}" stroke-linejoin="round"><title id="{name}-t">{html.escape(title)}</title>'
        f'<desc id="{name}-d">{html.escape(description)}</desc>{_without_plain_groups(body).strip()}</svg>'
    )


def _without_plain_groups(body: str) -> str:
    """SVG without the groups that say nothing, of which matplotlib writes many."""
    kept, is_plain = [], []
    for part in re.split(r'(<g\b[^>]*>|</g>)', body.replace('<defs></defs>', '')):
        if part.startswith('<g'):
            is_plain.append(part == '<g>')
            kept.append('' if is_plain[-1] else part)
        else:
            kept.append('' if part == '</g>' and is_plain.pop() else part)
    return ''.join(kept)
