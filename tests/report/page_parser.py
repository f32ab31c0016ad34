"""A page as a reader finds it."""
import base64
from html.parser import HTMLParser

VOID = {'meta', 'img'}


class Page(HTMLParser):
    """Parses a page and refuses what is not well-formed.

    Attributes:
        elements: (name, attributes) of every element, in order.
        texts: (path of the element, text) of every piece of text; the path is such as ``html/body/main``.
        tables: caption -> rows of cells.
        cards: heading path, such as ``Fold 1/Most confident errors`` -> list of captions.
    """

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.tables, self.cards = [], [], {}, {}
        self._open, self._headings, self._table = [], [None] * 7, None
        self.source = path.read_text(encoding='utf-8')
        assert self.source.startswith('<!DOCTYPE html>\n<html lang="en">')
        self.feed(self.source)
        self.close()
        assert not self._open

    def handle_starttag(self, name, attributes):
        assert len(dict(attributes)) == len(attributes)
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self._open.append(name)
        if name == 'table':
            self._table = []
        elif name == 'tr':
            self._table.append([])
        elif name in ('th', 'td'):
            self._table[-1].append('')
        elif name in ('h1', 'h2', 'h3', 'h4'):
            self._headings[int(name[1]):] = [''] + [None] * (6 - int(name[1]))
        elif name == 'figcaption' and self._headings[4]:
            self.cards.setdefault(f'{self._headings[3]}/{self._headings[4]}', []).append('')
        elif name == 'div' and 'figcaption' in self._open and self._headings[4]:
            self.cards[f'{self._headings[3]}/{self._headings[4]}'][-1] += '\n'

    def handle_endtag(self, name):
        assert self._open.pop() == name
        if name == 'table':
            self._table = None

    def handle_data(self, text):
        if 'figcaption' in self._open and self._headings[4]:
            self.cards[f'{self._headings[3]}/{self._headings[4]}'][-1] += text
        if not text.strip():
            return
        self.texts.append(('/'.join(self._open), text))
        if 'caption' in self._open:
            self.tables[text] = self._table
        elif {'th', 'td'} & set(self._open):
            self._table[-1][-1] += text
        elif self._open[-1] in ('h1', 'h2', 'h3', 'h4'):
            self._headings[int(self._open[-1][1])] += text

    def all(self, name):
        """The attributes of all elements of a name."""
        return [attributes for other, attributes in self.elements if other == name]

    @property
    def text(self):
        return ' '.join(text for path, text in self.texts if 'style' not in path)

    def pictures(self, kind):
        """(attributes, bytes) of the pictures of a kind, such as png."""
        head = f'data:image/{kind};base64,'
        return [(image, base64.b64decode(image['src'].removeprefix(head)))
                for image in self.all('img') if image['src'].startswith(head)]

    def check(self):
        """What holds for every page."""
        names = [name for name, _ in self.elements]
        assert not {'script', 'link', 'iframe', 'object', 'embed', 'form', 'base'} & set(names)
        for _, attributes in self.elements:
            assert not any(key.startswith('on') for key in attributes)
            assert attributes.get('href', '#').startswith('#')
            assert attributes.get('src', 'data:image/').startswith('data:image/')
        ids = [attributes['id'] for _, attributes in self.elements if 'id' in attributes]
        assert len(ids) == len(set(ids))
        assert {a['href'][1:] for a in self.all('a')} == set(ids)
        assert all(image['alt'].strip() for image in self.all('img'))
        assert all(int(image['width']) > 0 < int(image['height']) for image in self.all('img'))
        assert all(cell['scope'] in ('row', 'col') for cell in self.all('th'))
        assert names.count('table') == names.count('caption')
        assert names.count('h1') == names.count('main') == 1
        levels = [int(name[1]) for name in names if name in ('h1', 'h2', 'h3', 'h4', 'h5')]
        assert all(below <= above + 1 for above, below in zip(levels, levels[1:], strict=False))
        metas = {meta.get('name') or meta.get('http-equiv') or 'charset': meta for meta in self.all('meta')}
        assert metas['Content-Security-Policy']['content'].startswith("default-src 'none'; img-src data:;")
        assert 'width=device-width' in metas['viewport']['content']
        assert 'http:' not in self.source.replace('http-equiv', '') and '@import' not in self.source
        return self
