"""HTML that cannot be broken by what stands in it: all text is escaped, markup is made by these functions."""
import base64
import html
from typing import NamedTuple

VOID = 'img', 'meta'


class Html(str):
    """Markup; any other text is escaped where it becomes part of some."""


class Picture(NamedTuple):
    """An encoded picture and the size that it is shown at, in CSS pixels.

    Attributes:
        data (bytes)
        kind (str): such as image/png.
        width, height (int)
        enlarged (bool): whether its pixels are shown as squares.
    """
    data: bytes
    kind: str
    width: int
    height: int
    enlarged: bool = False


def tag(name, /, *content, **attributes):
    """An element.

    Args:
        name (str)
        content: Html or text, or lists of these.
        attributes: a trailing underscore is dropped (``class_``), others become hyphens (``aria_label``);
            None leaves the attribute out, True gives it no value.
    """
    written = ''.join(
        f' {key.rstrip("_").replace("_", "-")}' + ('' if value is True else f'="{escaped(value)}"')
        for key, value in attributes.items() if value is not None)
    if name in VOID:
        return Html(f'<{name}{written}>')
    return Html(f'<{name}{written}>{joined(content)}</{name}>')


def joined(content):
    """Html or text, or lists of these -> Html."""
    return Html(''.join(joined(part) if isinstance(part, list) else escaped(part) for part in content))


def escaped(value):
    """Text as Html; bytes of a file's name that are no text become question marks."""
    if isinstance(value, Html):
        return value
    return Html(html.escape(str(value).encode('utf-8', 'replace').decode()))


def image(picture, alt):
    """An element that carries its picture."""
    data = base64.b64encode(picture.data).decode()
    return tag('img', src=f'data:{picture.kind};base64,{data}', alt=alt, width=picture.width,
               height=picture.height, class_='enlarged' if picture.enlarged else None)


def scrolling(label, *content):
    """A box that scrolls by itself where its content is wider than the page, by keyboard too."""
    return tag('div', *content, class_='scroll', role='region', aria_label=label, tabindex=0)


def table(caption, header, rows, foot=None, n_text=1):
    """A table whose first column names the rows.

    Args:
        caption (str)
        header (sequence of str)
        rows: sequences of cells; a row that is shorter than the header ends in a cell over the rest.
        foot: one more row.
        n_text (int): so many columns hold text, whose lines may be broken; the others numbers.
    """
    def line(cells):
        name, *rest = cells
        wide = len(header) - len(cells)
        return tag('tr', tag('th', name, scope='row'), [
            tag('td', cell, colspan=wide + 1 if wide and i == len(rest) else None, class_=kind(i))
            for i, cell in enumerate(rest, 1)])

    def kind(column):
        return 'text' if column < n_text else None

    head = tag('tr', [tag('th', name, scope='col', class_=kind(i)) for i, name in enumerate(header)])
    return scrolling(caption, tag(
        'table', tag('caption', caption), tag('thead', head), tag('tbody', [line(row) for row in rows]),
        tag('tfoot', line(foot)) if foot else ''))
