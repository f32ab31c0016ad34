"""Boxes of VOC files, and what is wrong with them."""
import numpy
import pytest

from chainer_abn.datasets.boxes import LARGEST, Boxes, read_boxes
from chainer_abn.errors import InputError

OBJECT = '<object><name>cat</name><bndbox>{}</bndbox></object>'
SIZE = '<size><width>6</width><height>4</height><depth>3</depth></size>'


def annotation(*boxes, size=SIZE):
    sides = ['<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>'.format(*box) for box in boxes]
    return f'<annotation>{size}{"".join(map(OBJECT.format, sides))}</annotation>'


@pytest.fixture
def write(tmp_path):
    def write(content, encoding='utf-8'):
        (tmp_path / 'a.xml').write_bytes(content.encode(encoding) if isinstance(content, str) else content)
        return tmp_path / 'a.xml'
    return write


def test_both_ends_count_from_one_and_are_included(write):
    path = write(annotation((2, 1, 3, 4)))
    assert read_boxes(path) == ([(2, 1, 3, 4)], (6, 4))
    mask, void = Boxes(path.parent).read('a', (4, 6))
    expected = numpy.zeros((4, 6), bool)
    expected[:, 1:3] = True
    numpy.testing.assert_array_equal(mask, expected)
    assert not void.any() and void.shape == (4, 6)


def test_the_mask_is_the_union_of_all_objects(write):
    path = write(annotation((1, 1, 1, 1), (6, 4, 6, 4), (5, 4, 6, 4)))
    mask, _ = Boxes(path.parent).read('a', (4, 6))
    assert sorted(map(tuple, numpy.argwhere(mask).tolist())) == [(0, 0), (3, 4), (3, 5)]


def test_boxes_of_parts_are_no_objects_and_fractions_are_rounded(write):
    part = '<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>'
    content = annotation((1.6, 1.2, 3.5, 2), size='').replace('</object>', f'{part}</object>')
    assert read_boxes(write(content)) == ([(2, 1, 4, 2)], None)


@pytest.mark.parametrize('content, message', [
    (annotation(), 'no <object> in it'),
    ('<annotation><object><name>cat</name></object></annotation>', 'an <object> without <bndbox>'),
    (annotation((2, 1, 'x', 4)), "<xmax> is 'x', no number"),
    (annotation((2, 1, 'nan', 4)), "<xmax> is 'nan', no number"),
    (annotation((2, 1, '1e999', 4)), "<xmax> is '1e999', no number"),
    (annotation((2, '', 3, 4)), "<ymin> is '', no number"),
    (annotation((3, 1, 2, 4)), 'the box 3,1,2,4 is empty'),
    (annotation((3, 3, 3, 2)), 'the box 3,3,3,2 is empty'),
    (annotation((2, 1, 3, 4), size='<size><width>6</width></size>'), "<height> is '', no number"),
    ('', 'not well-formed XML'),
    ('<annotation><object>', 'not well-formed XML'),
    ('<a/><b/>', 'not well-formed XML'),
    ('<?xml version="1.0" encoding="nonsense"?><a/>', 'not well-formed XML'),
    (b'\xff\xd8\xff\xe0 a photo', 'not well-formed XML'),
    ('<a>&lol;</a>', 'not well-formed XML'),
    ('<a>' * 100_000, 'not well-formed XML'),
    ('<a>' * 70_000 + '</a>' * 70_000, 'no <object> in it'),
    (' ' * (LARGEST + 1), 'larger than 1 MB'),
])
def test_what_is_wrong_with_a_file_is_told(write, content, message):
    path = write(content)
    with pytest.raises(InputError) as told:
        read_boxes(path)
    assert message in str(told.value) and str(path) in str(told.value)


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-16'])
@pytest.mark.parametrize('declaration', [
    '<!DOCTYPE annotation>',
    '<!DOCTYPE a SYSTEM "file:///etc/passwd">',
    '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>',
])
def test_a_document_type_is_refused_before_anything_else(write, declaration, encoding):
    path = write(f'<?xml version="1.0" encoding="{encoding}"?>{declaration}<annotation>&x;', encoding)
    with pytest.raises(InputError, match='has a document type'):
        read_boxes(path)


@pytest.mark.parametrize('box', [(0, 1, 3, 4), (1, 0, 3, 4), (1, 1, 7, 4), (1, 1, 3, 5)])
def test_a_box_outside_the_image_is_refused(write, box):
    path = write(annotation(box, size=''))
    with pytest.raises(InputError) as told:
        Boxes(path.parent).read('a', (4, 6))
    assert f'the box {",".join(map(str, box))} lies outside its image of 6 x 4 px' in str(told.value)


def test_a_file_of_an_image_of_another_size_is_refused(write):
    path = write(annotation((1, 1, 2, 2)))
    with pytest.raises(InputError, match='is of an image of 6 x 4 px, but that of a has 4 x 6'):
        Boxes(path.parent).read('a', (6, 4))


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(InputError, match=r'b\.xml: No such file'):
        Boxes(tmp_path).read('b', (4, 6))
    with pytest.raises(InputError, match='--boxes .*none: no such folder'):
        Boxes(tmp_path / 'none')
